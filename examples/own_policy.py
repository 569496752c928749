"""A policy of your own: strict, and no more than a given number of rounds, because your network is slow."""

from __future__ import annotations

import hecompile
from hecompile.errors import Diagnostic
from hecompile.ir.graph import ModelGraph, info
from hecompile.policies import register_policy
from hecompile.policies.strict import Strict


class FewRounds(Strict):
    """What `strict` promises, in at most `most` requests a step."""

    name = "few-rounds"

    def __init__(self, most: int) -> None:
        self.most = most

    def check_graph(self, graph: ModelGraph) -> list[Diagnostic]:
        regions = {info(node).region for node in graph.nodes if info(node).domain == "server_encrypted"}
        findings = super().check_graph(graph)
        if len(regions) > self.most:
            findings.append(Diagnostic(f"{len(regions)} rounds a step, {self.most} allowed", help="fewer layers in sequence"))
        return findings


register_policy(FewRounds(most=24))

if __name__ == "__main__":
    compiled = hecompile.compile("digits", "out/few-rounds.he", options=hecompile.CompileOptions(policy="few-rounds"))
    print(compiled.summary())  # among it, the rounds a step
    hecompile.load("out/few-rounds.he", policy="few-rounds")  # the client insists on it too
