"""When each part of a step runs, and at whose side: as it was measured, or as it is predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hecompile.artifact import Manifest
from hecompile.ir.candidates import Cost
from hecompile.machine import seconds_of
from hecompile.planner.local import LocalWork
from hecompile.planner.plan import Prediction
from hecompile.timing import Span

__all__ = ["PARTS", "Bar", "Timeline", "by_region", "measured_timeline", "predicted_timeline"]

Lane = Literal["client", "network", "server", "network and server"]


@dataclass(frozen=True)
class Kind:
    """One kind of bar: its words, its lane, and the name of its colour."""

    words: str
    lane: Lane
    colour: str


PARTS: Mapping[str, Kind] = {
    "local": Kind("the client's own layers", "client", "client-light"),
    "encrypt": Kind("encrypt", "client", "client"),
    "decrypt": Kind("decrypt", "client", "client-mid"),
    "crypt": Kind("encrypt and decrypt, drawn in one", "client", "client"),
    "network": Kind("send and answer", "network", "neutral"),
    "server": Kind("the server computes", "server", "server"),
    "exchange": Kind("send, compute and answer, not measured apart", "network and server", "server-light"),
}


@dataclass(frozen=True)
class Bar:
    """One part of a step, in seconds since it began."""

    part: str  # one of `PARTS`
    region: str
    start_s: float
    seconds: float


@dataclass(frozen=True)
class Timeline:
    """The parts of one step in order. `note` says where the numbers come from."""

    bars: tuple[Bar, ...]
    measured: bool
    note: str

    @property
    def parts(self) -> list[str]:
        """The kinds of bars that it has, in the order of `PARTS`."""
        present = {bar.part for bar in self.bars}
        return [part for part in PARTS if part in present]


def measured_timeline(spans: Sequence[Span], note: str) -> Timeline | None:
    """What an executor measured of one call; None for no spans. Where the server's part of an exchange is known, it is shown in the
    exchange's place."""
    if not spans:
        return None
    first_s, known = min(span.start_s for span in spans), {span.region for span in spans if span.part == "server"}
    bars = (
        Bar(span.part, span.region, span.start_s - first_s, span.seconds)
        for span in spans
        if not (span.part == "exchange" and span.region in known)
    )
    return Timeline(tuple(bars), True, note)


def predicted_timeline(manifest: Manifest, prediction: Prediction, local: Mapping[str, LocalWork]) -> Timeline:
    """What is predicted of a run's first call, one part after the other. `local` is what the client's own regions compute."""
    bars, now = list[Bar](), 0.0
    costs = {region.region: region.cost for region in prediction.regions}
    for step in manifest.plan.steps:
        if step.kind == "client":
            parts = [("local", local[step.region].seconds(prediction.machine))]
        else:
            cost = costs[step.region]
            sent = Cost(up_bytes=cost.up_bytes, down_bytes=cost.down_bytes, rounds=1)
            network_s = seconds_of(sent, prediction.machine)
            parts = [("crypt", cost.client_s), ("network", network_s), ("server", cost.server_s)]
        for part, seconds in parts:
            bars.append(Bar(part, step.region, now, seconds))
            now += seconds
    machine = prediction.machine
    note = (
        f"Predicted for a network of {machine.bandwidth_mbps:g} Mbit/s with {machine.rtt_ms:g} ms a round trip; nothing was run. "
        "Encrypting and decrypting are predicted as one, and drawn before the request."
    )
    return Timeline(tuple(bars), False, note)


def by_region(timeline: Timeline) -> Iterator[tuple[str, dict[str, float]]]:
    """For each kind of bar that belongs to requests, the seconds of each request by the name of its region."""
    for part in timeline.parts:
        if part != "local":
            seconds = dict[str, float]()
            for bar in timeline.bars:
                if bar.part == part:
                    seconds[bar.region] = seconds.get(bar.region, 0.0) + bar.seconds
            yield part, seconds
