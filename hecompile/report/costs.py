"""Who pays what for something that a report tells of: both sides' CPU, the network, and running the model alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hecompile.ir.candidates import Cost
from hecompile.machine import http_seconds, seconds_of
from hecompile.planner.plan import Prediction
from hecompile.wording import byte_text, seconds_text

__all__ = ["Costs", "Line", "cost_lines", "predicted_costs"]

SLOW_LINE = (100.0, 20.0)  # Mbit/s and ms of a round trip: a usual line at home


@dataclass(frozen=True)
class Costs:
    """What something cost, or will cost. Seconds of the client and of the server are CPU seconds, HTTP included.

    Attributes:
        what: what was paid for: `one step`, `ten digits in ten steps`.
        measured: whether client, server and wall were measured; else they are predicted.
        network_s: of the network alone, where it was predicted; None where a run went through this machine's loopback.
        wall_s: from start to end.
        alone_s: CPU seconds of the same model without encryption at the client; None where it is not known.
        alone_measured: whether that was measured.
        later: what every later step of a run costs, where that differs.
    """

    what: str
    measured: bool
    client_s: float
    server_s: float
    up_bytes: int
    down_bytes: int
    requests: int
    wall_s: float
    network_s: float | None = None
    alone_s: float | None = None
    alone_measured: bool = False
    later: Costs | None = None


@dataclass(frozen=True)
class Line:
    """A line of the bill: what, how much, and what that is beside running the model alone."""

    what: str
    amount: str
    remark: str
    side: str = ""  # `client` or `server`, whose colour it has


def predicted_costs(prediction: Prediction) -> Costs:
    """The costs of one call of the model; where calls of a run differ, those of its first, with those of a later one."""
    if prediction.later == prediction.total:
        return _predicted("one step", prediction, prediction.total, len(prediction.regions))
    later = _predicted("a later step", prediction, prediction.later, prediction.later.rounds)
    return replace(_predicted("the first step of a run", prediction, prediction.total, len(prediction.regions)), later=later)


def _predicted(what: str, prediction: Prediction, cost: Cost, requests: int) -> Costs:
    machine = prediction.machine
    client_http_s, server_http_s = http_seconds(cost, machine)
    network_s = cost.sent_bytes * 8e-6 / machine.bandwidth_mbps + cost.rounds * machine.rtt_ms * 1e-3
    return Costs(
        what, False, cost.client_s + client_http_s, cost.server_s + server_http_s, cost.up_bytes, cost.down_bytes, requests,
        seconds_of(cost, machine), network_s, prediction.plaintext_s,
    )  # fmt: skip


def cost_lines(costs: Costs) -> Iterator[Line]:
    """The bill, line by line."""
    how = "measured" if costs.measured else "predicted"
    yield Line("Client, CPU", seconds_text(costs.client_s), _beside(costs), "client")
    yield Line("Server, CPU", seconds_text(costs.server_s), how, "server")
    sent = f"{byte_text(costs.up_bytes)} up, {byte_text(costs.down_bytes)} down, {costs.requests:,} requests"
    yield Line("Network", byte_text(costs.up_bytes + costs.down_bytes), sent)
    place = "on this machine's loopback" if costs.network_s is None else f"{seconds_text(costs.network_s)} of it the network's"
    yield Line("Start to end", seconds_text(costs.wall_s), f"{how}, {place}")
    if costs.later is not None:
        later = costs.later
        sides = f"client {seconds_text(later.client_s)}, server {seconds_text(later.server_s)}"
        sent_bytes = byte_text(later.up_bytes + later.down_bytes)
        yield Line("A later step", seconds_text(later.wall_s), f"{how}: {sides}, network {sent_bytes}")
    megabits, round_trip_ms = SLOW_LINE
    slow_s = (costs.up_bytes + costs.down_bytes) * 8e-6 / megabits + costs.requests * round_trip_ms * 1e-3
    more_s = slow_s - (costs.network_s or 0.0)
    if more_s > 0:
        how = f"computed, for {megabits:g} Mbit/s and {round_trip_ms:g} ms a round trip"
        yield Line("On a slower line", f"+ {seconds_text(more_s)}", how)


def _beside(costs: Costs) -> str:
    """The client's seconds beside those of running the model alone."""
    if not costs.alone_s:
        return "measured" if costs.measured else "predicted"
    ratio, how = costs.client_s / costs.alone_s, "measured" if costs.alone_measured else "predicted"
    times = f"{ratio:,.1f} times" if ratio < 10 else f"{ratio:,.0f} times"
    return f"{times} what the model alone takes it: {seconds_text(costs.alone_s)}, {how}"
