"""The bill of a picture: CPU seconds of client and server, and the network, compared with running the model at the client alone."""

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

FEW_STEPS = 4  # steps of a model that was distilled to few steps, such as LCM and Turbo, which need no guidance


@dataclass(frozen=True)
class Picture:
    """How a picture is drawn. With guidance, every step is one call with each sample twice, with the prompt and without."""

    steps: int
    guidance: bool
    pictures: int = 1  # drawn in one batch

    @property
    def batch(self) -> int:
        """The number of samples in one call."""
        return self.pictures * (2 if self.guidance else 1)

    @property
    def wording(self) -> str:
        """The settings as people read them: `25 steps, with guidance`."""
        return f"{self.steps} step{'s' if self.steps > 1 else ''}, {'with' if self.guidance else 'no'} guidance"


@dataclass(frozen=True)
class Bill:
    """What something costs client, server and network. CPU seconds include HTTP; `alone_s` is the CPU time of computing the same at
    the client in float32."""

    what: str
    client_s: float
    server_s: float
    network_bytes: int
    network_s: float  # seconds for its bytes at the network's bandwidth, and for round trips
    time_s: float  # elapsed seconds, with one thread on each side
    alone_s: float

    @property
    def offload_ratio(self) -> float:
        """The client's CPU seconds, divided by those of running the model alone."""
        return self.client_s / self.alone_s if self.alone_s else float("inf")

    def document(self) -> dict[str, object]:
        """Return the bill as a dictionary for JSON."""
        return {**asdict(self), "offload_ratio": self.offload_ratio}


def bills_of(
    graph: ModelGraph, machine: Machine, run: Run, pictures: Sequence[Picture], predicted: Prediction | None = None
) -> list[Bill]:
    """Return the bills of the first and of a later step of a run, for the first of these pictures, and then the bill of every
    picture.

    Args:
        run: the run that the model is compiled for. A picture of more steps than a run has calls takes several runs.
        predicted: the prediction for a call of one sample, if it was computed already.
    """
    by_batch = {} if predicted is None else {1: predicted}
    for picture in pictures:
        if picture.batch not in by_batch:
            by_batch[picture.batch] = predict_graph(graph, machine, picture.batch, run, worst_case=False)
    first = by_batch[pictures[0].batch]
    bills = [_bill("the first step", first, 1, 1), _bill("a later step", first, 0, 1)]
    for picture in pictures:
        firsts = ceil(picture.steps / run.calls) if run.calls > 1 else 1
        bills.append(_bill(f"a picture: {picture.wording}", by_batch[picture.batch], firsts, picture.steps))
    return bills


def _bill(what: str, prediction: Prediction, firsts: int, steps: int) -> Bill:
    """Return the bill of `steps` steps, of which `firsts` are the first of a run."""
    machine, laters = prediction.machine, steps - firsts

    def total(first: float, later: float) -> float:
        return firsts * first + laters * later

    costs = (prediction.total, prediction.later)
    client_s, server_s = (
        total(*(own + http_seconds(cost, machine)[side] for own, cost in zip(seconds, costs, strict=True)))
        for side, seconds in enumerate(([cost.client_s for cost in costs], [cost.server_s for cost in costs]))
    )
    sent = round(total(*(cost.sent_bytes for cost in costs)))
    network_s = total(*(_network_s(cost, machine) for cost in costs))
    time_s = total(*(seconds_of(cost, machine) for cost in costs))
    return Bill(what, client_s, server_s, sent, network_s, time_s, steps * prediction.plaintext_s)


def _network_s(cost: Cost, machine: Machine) -> float:
    return cost.sent_bytes * 8e-6 / machine.bandwidth_mbps + cost.rounds * machine.rtt_ms * 1e-3
