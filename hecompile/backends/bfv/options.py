"""The options of the `bfv` backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hecompile.panels import Idle, Panel, option

__all__ = ["BfvOptions"]


@dataclass(frozen=True)
class BfvOptions(Panel):
    """What the client keeps of the first replies of a run, so that later replies are smaller and take the server less time."""

    client_cache_mib: float = option(
        256.0, help="most MiB of replies that the client keeps for a run, at the largest batch; 0: nothing", at_least=0
    )
    run_calls: int = option(
        25, help="most calls of the model in a run that share what is kept; more begin anew", at_least=2, at_most=1000
    )

    def idle(self) -> Sequence[Idle]:
        return (
            () if self.client_cache_mib else (Idle(("run_calls",), "the client keeps nothing for a run", "--client-cache-mib 256"),)
        )
