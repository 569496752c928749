"""What a model will cost, region by region, before anything is encrypted.

`predict_graph` needs shapes only (also of a model on the meta device, whose parameters then come from the largest weights there can
be); `predict_artifact` reads the parameters of an artifact. Both give the same record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod

from hecompile.backends.base import Cost
from hecompile.backends.integer import RegionProgram
from hecompile.cost.layers import cost_of, parameters_for
from hecompile.cost.machine import Machine
from hecompile.cost.model import layer_cost, seconds_of
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layers import secret_shapes
from hecompile.ir.linear import Geometry

__all__ = ["Prediction", "RegionCost", "macs_of", "predict_graph", "predict_programs"]


@dataclass(frozen=True)
class RegionCost:
    """One request."""

    region: str
    layers: int
    cost: Cost


@dataclass(frozen=True)
class Prediction:
    """One call of the model. Seconds are CPU seconds; `latency_s` adds the network and the rounds."""

    regions: tuple[RegionCost, ...]
    total: Cost
    latency_s: float
    plaintext_s: float  # the linear layers in float32 on the client's machine
    weight_mib: float  # int8 weights, kept by the server in memory and on disk
    peak_mib: float  # of the server while it works on its largest region
    worst_case_weights: bool  # parameters from the largest weights there can be, as the real ones were not read

    @property
    def offload_ratio(self) -> float:
        """CPU seconds of the client over those of running the linear layers itself."""
        return self.total.client_s / self.plaintext_s if self.plaintext_s else float("inf")

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "server_s": self.total.server_s,
            "client_s": self.total.client_s,
            "plaintext_s": self.plaintext_s,
            "offload_ratio": self.offload_ratio,
            "latency_s": self.latency_s,
            "rounds": self.total.rounds,
            "bytes_up": self.total.up_bytes,
            "bytes_down": self.total.down_bytes,
            "peak_mib": self.peak_mib,
            "disk_mib": self.weight_mib,
            "worst_case_weights": self.worst_case_weights,
            "regions": [{"region": each.region, "layers": each.layers, **asdict(each.cost)} for each in self.regions],
        }


def macs_of(geometry: Geometry) -> int:
    """Multiply-adds of a layer in the clear, per element."""
    return geometry.rows * geometry.picture[0] * len(geometry.taps) * prod(geometry.grid)


def weights_of(geometry: Geometry) -> int:
    """Entries of a layer's weight matrix."""
    return geometry.rows * geometry.picture[0] * len(geometry.taps)


def predict_graph(graph: ModelGraph, machine: Machine, batch: int = 1) -> Prediction:
    """The cost of a partitioned graph with parameters for the largest weights there can be.

    Raises:
        CompileError: naming every layer that no parameters carry.
    """
    by_name = {node.name: node for node in graph.nodes}
    grouped: dict[str, list[Cost]] = {}
    findings, macs, weights = [], 0, 0
    for shape in secret_shapes(graph):
        choice = parameters_for(shape, machine, batch)
        node = by_name[shape.nodes[-1]]
        if choice is None:
            findings.append(Diagnostic(f"no parameters carry {node.name}", source=info(node).source))
            continue
        grouped.setdefault(str(info(node).region), []).append(cost_of(choice, machine))
        macs += macs_of(shape.geometry) * shape.multiple * batch
        weights += weights_of(shape.geometry)
    if findings:
        raise CompileError(findings)
    return _prediction(grouped, macs, weights, machine, worst_case=True)


def predict_programs(programs: Sequence[RegionProgram], machine: Machine, batch: int = 1) -> Prediction:
    """The cost of an artifact's regions, with the parameters they have."""
    grouped: dict[str, list[Cost]] = {}
    macs = weights = 0
    for program in programs:
        for layer in program.layers:
            row = layer.packings[batch - 1]
            cost = layer_cost(layer.layout(batch), layer.parameters.q_bits, (row.drop_b, row.drop_a), machine)
            grouped.setdefault(program.region, []).append(cost)
            macs += macs_of(layer.geometry) * layer.multiple * batch
            weights += weights_of(layer.geometry)
    return _prediction(grouped, macs, weights, machine, worst_case=False)


def _prediction(grouped: dict[str, list[Cost]], macs: int, weights: int, machine: Machine, worst_case: bool) -> Prediction:
    """Regions and totals. A region is one round however many layers it has."""
    regions = []
    for name, costs in grouped.items():
        rounds = Cost(rounds=0 if name.startswith("once_") else 1)
        one_by_one = max(each.peak_mib for each in costs)  # layers of a region are worked on in turn
        regions.append(RegionCost(name, len(costs), replace(sum(costs, rounds), peak_mib=one_by_one)))
    total = sum((each.cost for each in regions), Cost())
    largest = max((each.cost.peak_mib for each in regions), default=0.0)
    weight_mib = weights / 2**20
    plaintext_s = macs / machine.float_gmac_per_s * 1e-9
    latency_s = seconds_of(total, machine)
    return Prediction(tuple(regions), total, latency_s, plaintext_s, weight_mib, weight_mib + largest, worst_case)


def refuse_without_memory(prediction: Prediction, available_mib: float) -> None:
    """Raises `CompileError` with advice if the server's half needs more memory than there is."""
    if prediction.peak_mib > available_mib:
        raise CompileError(
            Diagnostic(
                f"the server needs {prediction.peak_mib:,.0f} MiB, {available_mib:,.0f} MiB are free",
                help=f"serve it on a machine with {prediction.peak_mib / 1024 * 1.25:.0f} GiB, or lower the batch",
            )
        )


def available_mib() -> float:
    """Memory that is free on this machine."""
    import os

    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
