"""The options of choosing which layer runs where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from hecompile.errors import CompileError, Diagnostic
from hecompile.machine import GOALS
from hecompile.panels import Chosen, Idle, Panel, declared, option

__all__ = ["PlanOptions"]

SIDES = ("client", "server")


@dataclass(frozen=True)
class PlanOptions(Panel):
    """Every layer to the server, or the best plan within budgets."""

    title: ClassVar[str] = "Which layer runs where (goal and budgets are for --partition optimised)"

    partition: str = option(
        "all", help="all secret convs and linears to the server, or optimised: the best plan", choices=("all", "optimised")
    )
    goal: str = option("latency", help="what the plan spares most: latency, client-cpu, server-cpu or bytes", choices=GOALS)
    client_seconds: float | None = option(None, help="most CPU seconds of the client per call", at_least=0)
    client_weights_mib: float | None = option(None, help="most MiB of int8 weights that the client holds", at_least=0)
    most_mb_first: float | None = option(None, help="most MB of a run's first call, both ways, or of one alone", at_least=0)
    most_mb_later: float | None = option(None, help="most MB of every other call of a run", at_least=0)
    most_rounds: int | None = option(None, help="most requests in a row per call", at_least=0)
    most_distortion: float | None = option(None, help="most relative variance of the output", at_least=0)
    most_leakage: float | None = option(
        None, help="largest share of the layers' secret inputs that the server may see in the clear", at_least=0, at_most=1
    )
    server_mib: float | None = option(None, help="most MiB of memory of the server", at_least=0)
    pin: tuple[str, ...] = option((), help="layer=side by name or pattern, sides client and server; may be repeated")
    among: tuple[str, ...] = option((), help="backends that layers may run under besides --backend: concrete; may be repeated")

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
        return (Idle(budgets, "every layer goes to the server, whatever it costs", "--partition optimised"),)

    def judge(self, chosen: Chosen) -> list[Diagnostic]:
        if self.most_leakage is None or chosen.value("budget"):
            return []
        way_out = "add --policy min-distortion with a --budget, or leave --most-leakage away"
        return [Diagnostic("most_leakage does nothing: no policy lets the server see anything in the clear", help=way_out)]
