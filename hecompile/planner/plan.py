"""What a model will cost, region by region, before anything is encrypted.

`predict_graph` chooses parameters as compiling does, for a model without weights those of the largest weights that a ring carries;
`predict_regions` adds up what the backends of an artifact's regions say. Both give the same record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod

from hecompile.backends.registry import backend
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.candidates import Cost, PartCost
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layer_groups import multiplied, stacks
from hecompile.machine import Machine, seconds_of
from hecompile.planner.local import LocalWork, graph_work

__all__ = ["Prediction", "RegionCost", "available_mib", "predict_graph", "predict_regions", "refuse_without_memory"]


@dataclass(frozen=True)
class RegionCost:
    """One request."""

    region: str
    layers: int
    cost: Cost
    skipped_macs: int = 0  # multiply-adds in the clear that zero taps and channels save


@dataclass(frozen=True)
class Prediction:
    """One call of the model. Seconds are CPU seconds; `latency_s` adds the network and the rounds."""

    regions: tuple[RegionCost, ...]
    total: Cost  # the client's own regions included
    local_s: float  # those alone
    latency_s: float
    plaintext_s: float  # the whole model in float32 on the client's machine
    weight_mib: float  # int8 weights, kept by the server in memory and on disk
    peak_mib: float  # of the server's process: what it has before any work, its weights, its largest region
    worst_case_weights: bool  # parameters from the largest weights there can be, as there are no real ones
    skipped_share: float = 0.0  # of the multiply-adds in the clear: zero taps and channels; unknown (0) for artifacts

    @property
    def offload_ratio(self) -> float:
        """CPU seconds of the client over those of running the model itself."""
        return self.total.client_s / self.plaintext_s if self.plaintext_s else float("inf")

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "server_s": self.total.server_s,
            "client_s": self.total.client_s,
            "client_regions_s": self.local_s,
            "plaintext_s": self.plaintext_s,
            "offload_ratio": self.offload_ratio,
            "latency_s": self.latency_s,
            "rounds": self.total.rounds,
            "bytes_up": self.total.up_bytes,
            "bytes_down": self.total.down_bytes,
            "peak_mib": self.peak_mib,
            "disk_mib": self.weight_mib,
            "worst_case_weights": self.worst_case_weights,
            "skipped_share": self.skipped_share,
            "regions": [
                {"region": each.region, "layers": each.layers, "skipped_macs": each.skipped_macs, **asdict(each.cost)}
                for each in self.regions
            ],
        }


@dataclass
class _Sums:
    """What is added up layer by layer."""

    machine: Machine
    regions: dict[str, list[Cost]]
    layers: dict[str, int]
    skipped: dict[str, int]
    per_run: Collection[str] = ()  # regions whose request is sent once a run, which costs a call no round
    macs: int = 0  # in the clear, where zeros are multiplied too
    weights: int = 0

    def add(self, region: str, part: PartCost, skipped: int = 0) -> None:
        self.regions.setdefault(region, []).append(part.cost)
        self.layers[region] = self.layers.get(region, 0) + part.layers
        self.skipped[region] = self.skipped.get(region, 0) + skipped
        self.macs += part.macs
        self.weights += part.weights

    def prediction(self, local: LocalWork, worst_case: bool) -> Prediction:
        """Regions and totals. A region is one round however many layers it has."""
        regions, machine = [], self.machine
        for name, costs in self.regions.items():
            rounds = Cost(rounds=0 if name in self.per_run else 1)
            one_by_one = max(each.peak_mib for each in costs)  # layers of a region are worked on in turn
            cost = replace(sum(costs, rounds), peak_mib=one_by_one)
            regions.append(RegionCost(name, self.layers[name], cost, self.skipped[name]))
        local_s, weight_mib = local.seconds(machine), self.weights / 2**20
        total = sum((each.cost for each in regions), Cost(client_s=local_s))
        peak_mib = machine.base_mib + weight_mib + max((each.cost.peak_mib for each in regions), default=0.0)
        plaintext_s = LocalWork(sum(self.layers.values()), 0, self.macs).seconds(machine) + local_s
        latency_s = seconds_of(total, machine)
        skipped = sum(self.skipped.values()) / max(self.macs, 1)
        return Prediction(tuple(regions), total, local_s, latency_s, plaintext_s, weight_mib, peak_mib, worst_case, skipped)


def predict_graph(graph: ModelGraph, machine: Machine, batch: int = 1) -> Prediction:
    """The cost of a partitioned graph.

    Raises:
        CompileError: naming every layer that no parameters carry.
    """
    by_name = {node.name: node for node in graph.nodes}
    regions = {name: str(info(node).region) for name, node in by_name.items()}
    per_run = {regions[name] for name, node in by_name.items() if info(node).per_run}
    sums, findings, worst_case = _Sums(machine, {}, {}, {}, per_run), list[Diagnostic](), False
    for each in stacks(graph, regions):
        node = by_name[each.names[0]]
        if info(node).domain == "client":
            continue
        prices = backend(str(info(node).backend)).price_layers(each, machine, batch=batch)
        if not prices:
            findings.append(Diagnostic(f"no parameters carry {', '.join(each.names)}", source=info(node).source))
            continue
        worst_case = worst_case or each.weights is None
        positions, weights = prod(each.geometry.grid) * each.multiple * batch, multiplied(each.geometry, each.split)
        macs = (weights + each.skipped) * positions
        sums.add(regions[node.name], PartCost(prices[0].cost, len(each.names), macs, weights), each.skipped * positions)
    if findings:
        raise CompileError(findings)
    local = graph_work([node for node in graph.nodes if info(node).domain == "client"], batch)
    return sums.prediction(local, worst_case)


def predict_regions(
    parts: Mapping[str, Sequence[PartCost]],
    machine: Machine,
    local: LocalWork | None = None,
    per_run: Collection[str] = (),
) -> Prediction:
    """The cost of an artifact's regions, each in parts, with the parameters they have.

    Args:
        local: the client's own work.
        per_run: names of the regions whose request is sent once a run.
    """
    sums = _Sums(machine, {}, {}, {}, per_run)
    for region, costs in parts.items():
        for part in costs:
            sums.add(region, part)
    return sums.prediction(local or LocalWork(), worst_case=False)


def refuse_without_memory(prediction: Prediction, available_mib: float) -> None:
    """Raises `CompileError` with advice if the server's half needs more memory than there is."""
    if prediction.peak_mib > available_mib:
        raise CompileError(
            Diagnostic(
                f"the server needs {prediction.peak_mib:,.0f} MiB, {available_mib:,.0f} MiB are free",
                help=f"serve it on a machine with {prediction.peak_mib / 1024 * 1.25:.0f} GiB (--memory-mib), or lower the batch",
            )
        )


def available_mib() -> float:
    """Memory that processes of this machine may still have: what is free, and what caches would give back."""
    from pathlib import Path

    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024
