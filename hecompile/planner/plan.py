"""Predicts what a model costs, region by region, without encrypting anything.

`predict_graph` chooses parameters as compiling does; a model without weights is taken to have normally distributed int8 weights.
`predict_regions` adds up what the backends of an artifact's regions report. Both return a `Prediction`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod

from hecompile.backends.registry import backend
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.candidates import Cost, LayerPrice, PartCost, kept_within
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layer_groups import LayerGroup, layer_groups, multiplied
from hecompile.machine import Machine, http_seconds, objective, seconds_of
from hecompile.planner.local import LocalWork, graph_work
from hecompile.planner.problem import Run

__all__ = ["Prediction", "RegionCost", "available_mib", "predict_graph", "predict_regions", "refuse_without_memory"]

TORCH_CALL_S = 10e-6  # torch's overhead per operation, which is most of the time of a small model


@dataclass(frozen=True)
class RegionCost:
    """The cost of one region's request: `cost` for a call alone or the first of a run, `later` for every other call. `modules` are
    the paths of its layers in the user's network, one per layer, or none if only an artifact is known."""

    region: str
    layers: int
    cost: Cost
    later: Cost
    skipped_macs: int = 0  # multiply-adds of the plain layer that are saved because weights or channels are zero
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """The predicted cost of one call: a call alone, or the first of a run. `later` is the cost of every other call of a run.

    Seconds are CPU seconds. The cost of HTTP is stated separately, and is included in the offload ratio and the latency.
    """

    regions: tuple[RegionCost, ...]
    total: Cost  # including the client's own regions
    later: Cost  # the same without requests that are sent once per run
    local_s: float  # CPU seconds of the client's own regions
    plaintext_s: float  # CPU seconds of the whole model in float32 with torch on the client's machine
    weight_mib: float  # int8 weights, which the server has in memory and on disk
    peak_mib: float  # largest memory of the server's process: its base, its weights as stored and as used, its largest region
    machine: Machine
    cache_mib: float = 0.0  # what the client keeps of a run's first replies for the other calls
    skipped_share: float = 0.0  # share of the plain model's multiply-adds that zeros save; unknown (0) for artifacts
    worst_case: Prediction | None = None  # for a model without weights: the same with the largest int8 weights

    @property
    def latency_s(self) -> float:
        """Seconds until a call is answered: client and server in turn, HTTP, the network and the rounds."""
        return seconds_of(self.total, self.machine)

    @property
    def offload_ratio(self) -> float:
        """The client's CPU seconds, divided by those of running the model itself."""
        return self._offload(self.total)

    @property
    def later_offload_ratio(self) -> float:
        """The same for every other call of a run."""
        return self._offload(self.later)

    def _offload(self, cost: Cost) -> float:
        client_s = cost.client_s + http_seconds(cost, self.machine)[0]
        return client_s / self.plaintext_s if self.plaintext_s else float("inf")

    def totals(self, cost: Cost) -> dict[str, float]:
        """Return the totals of a call by name."""
        client_http_s, server_http_s = http_seconds(cost, self.machine)
        return {
            "server_s": cost.server_s,
            "client_s": cost.client_s,
            "client_http_s": client_http_s,
            "server_http_s": server_http_s,
            "offload_ratio": self._offload(cost),
            "latency_s": seconds_of(cost, self.machine),
            "bytes_up": cost.up_bytes,
            "bytes_down": cost.down_bytes,
        }

    def document(self) -> dict[str, object]:
        """Return the prediction as a dictionary for JSON."""
        return {
            **self.totals(self.total),
            "client_regions_s": self.local_s,
            "plaintext_s": self.plaintext_s,
            "rounds": self.total.rounds,
            "peak_mib": self.peak_mib,
            "disk_mib": self.weight_mib,
            "client_cache_mib": self.cache_mib,
            "later": self.totals(self.later),
            "assumed_weights": None if self.worst_case is None else "bell",
            "worst_case": None if self.worst_case is None else self.worst_case.totals(self.worst_case.total),
            "skipped_share": self.skipped_share,
            "regions": [
                {
                    "region": region.region,
                    "module": next(iter(region.modules), None),
                    "modules": list(region.modules),
                    "layers": region.layers,
                    "skipped_macs": region.skipped_macs,
                    **asdict(region.cost),
                }
                for region in self.regions
            ],
        }


@dataclass
class _Sums:
    """Adds up costs layer by layer."""

    machine: Machine
    regions: dict[str, list[PartCost]]
    skipped: dict[str, int]
    per_run: Collection[str] = ()  # regions whose request is sent once per run, which cost the other calls no round
    modules: dict[str, list[str]] = field(default_factory=dict)  # paths of the layers of each region

    def add(self, region: str, part: PartCost, skipped: int = 0, modules: Sequence[str] = ()) -> None:
        self.regions.setdefault(region, []).append(part)
        self.modules.setdefault(region, []).extend(modules)
        self.skipped[region] = self.skipped.get(region, 0) + skipped

    def prediction(self, local: LocalWork) -> Prediction:
        """Return the prediction. A region takes one round, however many layers it has."""
        machine, parts = self.machine, [part for parts in self.regions.values() for part in parts]
        regions = [self._region(name, parts) for name, parts in self.regions.items()]
        local_s, weight_mib = local.seconds(machine), sum(part.weights for part in parts) / 2**20
        total = sum((region.cost for region in regions), Cost(client_s=local_s))
        later = sum((region.later for region in regions), Cost(client_s=local_s))
        kept_mib = weight_mib + sum(part.ordered for part in parts) / 2**20
        peak_mib = machine.base_mib + kept_mib + max((region.cost.peak_mib for region in regions), default=0.0)
        macs = sum(part.macs for part in parts)  # of the plain layers, in which zeros are multiplied too
        layers = sum(part.layers for part in parts)
        plaintext_s = LocalWork(layers, 0, macs).seconds(machine) + local_s + (layers + local.operations) * TORCH_CALL_S
        skipped = sum(self.skipped.values()) / max(macs, 1)
        cache_mib = sum(part.kept.client_bytes for part in parts if part.kept) / 2**20
        return Prediction(
            tuple(regions), total, later, local_s, plaintext_s, weight_mib, peak_mib, machine, cache_mib, skipped
        )  # fmt: skip

    def _region(self, name: str, parts: Sequence[PartCost]) -> RegionCost:
        per_run = name in self.per_run
        peak_mib = max(part.cost.peak_mib for part in parts)  # the layers of a region are evaluated one after the other
        beside = max((part.kept.region_bytes for part in parts if part.kept), default=0)
        cost = replace(sum((part.cost for part in parts), Cost(up_bytes=beside, rounds=0 if per_run else 1)), peak_mib=peak_mib)
        later = sum((part.kept.later if part.kept else part.cost for part in parts), Cost(up_bytes=beside, rounds=1))
        later = Cost() if per_run else replace(later, peak_mib=peak_mib)
        return RegionCost(name, sum(part.layers for part in parts), cost, later, self.skipped[name], tuple(self.modules[name]))


def predict_graph(
    graph: ModelGraph, machine: Machine, batch: int = 1, run: Run | None = None, worst_case: bool = True
) -> Prediction:
    """Predict the cost of a partitioned graph. Without weights, they are taken as normally distributed, and the worst case is
    added.

    Args:
        run: how many calls a run has, and what the client may keep during it; by default nothing.
        worst_case: whether the worst case of a model without weights is predicted too.

    Raises:
        CompileError: naming every layer for which there are no parameters.
    """
    prediction = _predict(graph, machine, batch, run or Run())
    if not (graph.is_meta and worst_case):
        return prediction
    return replace(prediction, worst_case=_predict(graph, machine, batch, run or Run(), largest=True))


def _predict(graph: ModelGraph, machine: Machine, batch: int, run: Run, largest: bool = False) -> Prediction:
    by_name = {node.name: node for node in graph.nodes}
    regions = {name: str(info(node).region) for name, node in by_name.items()}
    per_run = {regions[name] for name, node in by_name.items() if info(node).per_run}
    priced, findings = list[tuple[LayerGroup, LayerPrice]](), list[Diagnostic]()
    for group in layer_groups(graph, regions):
        record = info(by_name[group.names[0]])
        if record.domain == "client":
            continue
        group = replace(group, largest=largest)
        calls = 1 if regions[group.names[0]] in per_run else run.calls
        prices = backend(str(record.backend)).price_layers(group, machine, batch=batch, calls=calls)
        if prices:
            priced.append((group, prices[0]))
        else:
            findings.append(Diagnostic(f"there are no encryption parameters for {', '.join(group.names)}", source=record.source))
    if findings:
        raise CompileError(findings)
    sums, kept = _Sums(machine, {}, {}, per_run), _kept([price for _, price in priced], machine, run)
    for place, (group, price) in enumerate(priced):
        positions, weights = prod(group.geometry.grid) * group.images_per_sample * batch, multiplied(group.geometry, group.split)
        shared = price.kept[kept[place]] if place in kept else None
        macs = (weights + group.skipped) * positions
        cost, ordered = (shared.first, shared.ordered) if shared else (price.cost, price.ordered)
        part = PartCost(cost, len(group.names), macs, weights, ordered, shared)
        modules = [info(by_name[name]).path or name for name in group.names]
        sums.add(regions[group.names[0]], part, group.skipped * positions, modules)
    return sums.prediction(graph_work([node for node in graph.nodes if info(node).domain == "client"], batch))


def _kept(prices: Sequence[LayerPrice], machine: Machine, run: Run) -> dict[int, int]:
    """Return the layers of whose first reply the client keeps a part, and the number of the way in which it does."""

    def amount(cost: Cost) -> float:
        return objective(cost, machine)

    offers = [[(amount(price.cost) - kept.mean_of(amount), kept.client_bytes) for kept in price.kept] for price in prices]
    return kept_within(offers, run.client_cache_bytes)


def predict_regions(
    parts: Mapping[str, Sequence[PartCost]],
    machine: Machine,
    local: LocalWork | None = None,
    per_run: Collection[str] = (),
) -> Prediction:
    """Predict the cost of an artifact's regions, each given in parts, with the parameters that they have.

    Args:
        local: the work of the client's own regions.
        per_run: names of the regions whose request is sent once per run.
    """
    sums = _Sums(machine, {}, {}, per_run)
    for region, costs in parts.items():
        for part in costs:
            sums.add(region, part)
    return sums.prediction(local or LocalWork())


def refuse_without_memory(prediction: Prediction, available_mib: float) -> None:
    """Raise `CompileError` with advice if the server's half needs more memory than there is."""
    if prediction.peak_mib > available_mib:
        raise CompileError(
            Diagnostic(
                f"the server needs {prediction.peak_mib:,.0f} MiB, {available_mib:,.0f} MiB are free",
                help=f"serve it on a machine with {prediction.peak_mib / 1024 * 1.25:.0f} GiB (--memory-mib), or lower the batch",
            )
        )


def available_mib() -> float:
    """Return the memory in MiB that processes of this machine can still get: free memory, and caches that can be released."""
    from pathlib import Path

    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024
