"""Regions of several layers beside regions of single ones: each node carries the backend that runs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hecompile.backends import registry
from hecompile.backends.bfv.backend import BfvBackend
from hecompile.backends.context import Context
from hecompile.compiler import pipeline
from hecompile.errors import InternalError
from hecompile.frontend.sources import load_source
from hecompile.ir import verify
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.regions import SubgraphRegion
from hecompile.options import CompileOptions
from hecompile.passes.partition import Partition
from hecompile.passes.split import Split
from tests.networks import Tiny, tiny_inputs


class Chains(BfvBackend):
    """Takes the nodes between two convs, both included, and leaves the rest to `bfv`."""

    name, others = "chains", ("bfv",)
    taken: tuple[str, ...] = ()

    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        return [Candidate(self.taken, Cost(), self.name, whole=True), *context.propose("bfv", graph)]


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> ModelGraph:
    monkeypatch.setitem(registry._REGISTERED, "chains", Chains)
    program: Any = load_source(Tiny().eval(), tiny_inputs())
    for step in pipeline(CompileOptions(), None)[:3]:
        program = step.run(program)
    assert isinstance(program, ModelGraph)
    return program


def between(graph: ModelGraph, first: str, last: str) -> tuple[str, ...]:
    """All nodes on a path from one module's layer to another's."""
    ends = [node for node in graph.nodes if info(node).path in (first, last) and "conv2d" in str(node.target)]
    after, before = {ends[0]}, {ends[1]}
    for node in graph.nodes:
        if after.intersection(node.all_input_nodes):
            after.add(node)
    for node in reversed(graph.nodes):
        if before.intersection(node.users):
            before.add(node)
    return tuple(node.name for node in graph.nodes if node in after & before)


def test_a_chain_becomes_one_region_and_the_rest_stays_with_bfv(marked: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chains, "taken", between(marked, "down", "up"))
    program = Split().run(Partition("chains").run(marked))
    chains = [region for region in program.calls.values() if isinstance(region, SubgraphRegion)]
    assert [region.backend for region in chains] == ["chains"]
    assert chains[0].name.endswith("_chains")
    assert {region.backend for region in program.calls.values()} == {"chains", "bfv"}
    inputs = verify.example_inputs(marked)
    for got, want in zip(verify.run(program, inputs), verify.run(marked, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_candidate_that_a_path_leaves_and_enters_again_is_a_bug(marked: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = between(marked, "first", "last")
    monkeypatch.setattr(Chains, "taken", (whole[0], whole[-1]))
    with pytest.raises(InternalError, match="leaves a candidate"):
        Partition("chains").run(marked)
