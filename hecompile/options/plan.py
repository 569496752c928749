"""The options that decide which layers run at the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from hecompile.errors import CompileError, Diagnostic
from hecompile.machine import GOALS
from hecompile.panels import AllOptions, Idle, Panel, declared, option

__all__ = ["PlanOptions"]

SIDES = ("client", "server")


@dataclass(frozen=True)
class PlanOptions(Panel):
    """Whether all secret layers run at the server, or the best plan within budgets decides."""

    title: ClassVar[str] = "Which layer runs where (goal and budgets are for --partition optimised)"

    partition: str = option(
        "all", help="all secret layers run at the server; or optimised: the best plan decides", choices=("all", "optimised")
    )
    goal: str = option("latency", help="what the best plan minimises", choices=GOALS)
    client_seconds: float | None = option(None, help="largest CPU time of the client per call, in seconds", at_least=0)
    client_weights_mib: float | None = option(None, help="largest size of int8 weights at the client, in MiB", at_least=0)
    most_mb_first: float | None = option(
        None, help="largest traffic of the first call of a run, both ways together, in MB", at_least=0
    )
    most_mb_later: float | None = option(
        None, help="largest traffic of every later call of a run, both ways together, in MB", at_least=0
    )
    most_rounds: int | None = option(None, help="largest number of requests in a row per call", at_least=0)
    most_distortion: float | None = option(
        None, help="largest variance of the output's error relative to the output's own", at_least=0
    )
    most_leakage: float | None = option(
        None, help="largest share of layer inputs that may be revealed to the server", at_least=0, at_most=1
    )
    server_mib: float | None = option(None, help="largest memory of the server, in MiB", at_least=0)
    pin: tuple[str, ...] = option(
        (), help="layer=client or layer=server, with a layer's name or a pattern of names; may be repeated"
    )
    among: tuple[str, ...] = option((), help="further backends that layers may run under: concrete; may be repeated")

    def check(self) -> None:
        wrong = [pin for pin in self.pin if pin.rpartition("=")[2] not in SIDES or "=" not in pin]
        if wrong:
            raise CompileError(
                Diagnostic(f"pins are written layer=side, not {', '.join(wrong)}", help="sides are client and server")
            )

    def idle(self) -> Sequence[Idle]:
        if self.partition == "optimised":
            return ()
        budgets = tuple(name for name in declared(PlanOptions) if name != "partition")
        return (Idle(budgets, "all layers run at the server, whatever that costs", "--partition optimised"),)

    def conflicts(self, options: AllOptions) -> list[Diagnostic]:
        if self.most_leakage is None or options.value("budget"):
            return []
        way_out = "add --policy min-distortion with a --budget, or leave --most-leakage away"
        return [Diagnostic("most_leakage does nothing: the policy reveals nothing", help=way_out)]
