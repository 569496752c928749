"""Who pays what for a picture: CPU of client and server, and the network, beside the CPU of running the model alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil

from hecompile.ir.candidates import Cost
from hecompile.ir.graph import ModelGraph
from hecompile.machine import Machine, http_seconds, seconds_of
from hecompile.planner.plan import Prediction, predict_graph
from hecompile.planner.problem import Run

__all__ = ["FEW_STEPS", "Bill", "Picture", "bills_of"]

FEW_STEPS = 4  # of a model that was distilled to few steps, as LCM and Turbo models are; they need no guidance


@dataclass(frozen=True)
class Picture:
    """How a picture is drawn: with guidance, a step is a call with each sample twice, with the prompt and without."""

    steps: int
    guidance: bool
    pictures: int = 1  # at a time

    @property
    def batch(self) -> int:
        """Samples of a call."""
        return self.pictures * (2 if self.guidance else 1)

    @property
    def wording(self) -> str:
        """For people: `25 steps, with guidance`."""
        return f"{self.steps} step{'s' if self.steps > 1 else ''}, {'with' if self.guidance else 'no'} guidance"


@dataclass(frozen=True)
class Bill:
    """What something costs everyone. CPU seconds count HTTP; `alone_s` are those of the same in float32 at the client."""

    what: str
    client_s: float
    server_s: float
    network_bytes: int
    network_s: float  # of its bytes at the network's rate, and round trips
    time_s: float  # from start to end, one thread on either side
    alone_s: float

    @property
    def offload_ratio(self) -> float:
        """The client's CPU over that of running the model alone."""
        return self.client_s / self.alone_s if self.alone_s else float("inf")

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {**asdict(self), "offload_ratio": self.offload_ratio}


def bills_of(
    graph: ModelGraph, machine: Machine, run: Run, pictures: Sequence[Picture], predicted: Prediction | None = None
) -> list[Bill]:
    """For the first of these pictures the bills of a run's first step and of a later one; then that of every picture.

    Args:
        run: as the model is compiled; of more steps than it has calls the next ones are a run of their own.
        predicted: the prediction for a call of one sample, if there is one already.
    """
    by_batch = {} if predicted is None else {1: predicted}
    for each in pictures:
        if each.batch not in by_batch:
            by_batch[each.batch] = predict_graph(graph, machine, each.batch, run, worst_case=False)
    first = by_batch[pictures[0].batch]
    bills = [_bill("the first step", first, 1, 1), _bill("a later step", first, 0, 1)]
    for each in pictures:
        firsts = ceil(each.steps / run.calls) if run.calls > 1 else 1
        bills.append(_bill(f"a picture: {each.wording}", by_batch[each.batch], firsts, each.steps))
    return bills


def _bill(what: str, prediction: Prediction, firsts: int, steps: int) -> Bill:
    """Of so many steps, of which the first ones are the first of a run each."""
    machine, laters = prediction.machine, steps - firsts

    def total(first: float, later: float) -> float:
        return firsts * first + laters * later

    costs = (prediction.total, prediction.later)
    client_s, server_s = (
        total(*(own + http_seconds(cost, machine)[side] for own, cost in zip(seconds, costs, strict=True)))
        for side, seconds in enumerate(([each.client_s for each in costs], [each.server_s for each in costs]))
    )
    sent = round(total(*(each.sent_bytes for each in costs)))
    network_s = total(*(_network_s(each, machine) for each in costs))
    time_s = total(*(seconds_of(each, machine) for each in costs))
    return Bill(what, client_s, server_s, sent, network_s, time_s, steps * prediction.plaintext_s)


def _network_s(cost: Cost, machine: Machine) -> float:
    return cost.sent_bytes * 8e-6 / machine.bandwidth_mbps + cost.rounds * machine.rtt_ms * 1e-3
