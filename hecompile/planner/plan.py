"""What a model will cost, region by region, before anything is encrypted.

`predict_graph` chooses parameters as compiling does, for a model without weights those of int8 weights of a bell's shape;
`predict_regions` adds up what the backends of an artifact's regions say. Both give the same record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod

from hecompile.backends.registry import backend
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.candidates import Cost, LayerPrice, PartCost, kept_within
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layer_groups import Stack, multiplied, stacks
from hecompile.machine import Machine, http_seconds, objective, seconds_of
from hecompile.planner.local import LocalWork, graph_work
from hecompile.planner.problem import Run

__all__ = ["Prediction", "RegionCost", "available_mib", "predict_graph", "predict_regions", "refuse_without_memory"]

TORCH_CALL_S = 10e-6  # what torch takes for an operation, whatever its size: most of what a small model takes


@dataclass(frozen=True)
class RegionCost:
    """One request; in a run its first, and what each later one costs. `modules` are the paths of its layers in the user's network,
    one for each layer, or none where only an artifact is there."""

    region: str
    layers: int
    cost: Cost
    later: Cost
    skipped_macs: int = 0  # multiply-adds in the clear that zero taps and channels save
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """One call of the model: a run's first, or any outside a run. `later` is every other call of a run.

    Seconds are CPU seconds. What HTTP takes for requests and their bytes is told apart; the offload ratio and the latency count it.
    """

    regions: tuple[RegionCost, ...]
    total: Cost  # the client's own regions included
    later: Cost  # the same without what is sent or answered once a run
    local_s: float  # of the client's own regions alone
    plaintext_s: float  # the whole model in float32 on the client's machine, as torch runs it
    weight_mib: float  # int8 weights, kept by the server in memory and on disk
    peak_mib: float  # of the server's process: what it has before any work, its weights twice, its largest region
    machine: Machine
    cache_mib: float = 0.0  # what the client keeps of a run's first call for the others
    skipped_share: float = 0.0  # of the multiply-adds in the clear: zero taps and channels; unknown (0) for artifacts
    worst_case: Prediction | None = None  # of a model without weights: with the largest int8 weights instead of a bell's shape

    @property
    def latency_s(self) -> float:
        """Seconds until a call is answered: both sides in turn, HTTP, the network and the rounds."""
        return seconds_of(self.total, self.machine)

    @property
    def offload_ratio(self) -> float:
        """CPU seconds of the client over those of running the model itself."""
        return self._offload(self.total)

    @property
    def later_offload_ratio(self) -> float:
        """The same for every other call of a run."""
        return self._offload(self.later)

    def _offload(self, cost: Cost) -> float:
        client_s = cost.client_s + http_seconds(cost, self.machine)[0]
        return client_s / self.plaintext_s if self.plaintext_s else float("inf")

    def totals(self, cost: Cost) -> dict[str, float]:
        """Totals of a call by name."""
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
        """As JSON."""
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
                    "region": each.region,
                    "module": next(iter(each.modules), None),
                    "modules": list(each.modules),
                    "layers": each.layers,
                    "skipped_macs": each.skipped_macs,
                    **asdict(each.cost),
                }
                for each in self.regions
            ],
        }


@dataclass
class _Sums:
    """What is added up layer by layer."""

    machine: Machine
    regions: dict[str, list[PartCost]]
    skipped: dict[str, int]
    per_run: Collection[str] = ()  # regions whose request is sent once a run, which costs a call no round
    modules: dict[str, list[str]] = field(default_factory=dict)  # paths of the layers of each region

    def add(self, region: str, part: PartCost, skipped: int = 0, modules: Sequence[str] = ()) -> None:
        self.regions.setdefault(region, []).append(part)
        self.modules.setdefault(region, []).extend(modules)
        self.skipped[region] = self.skipped.get(region, 0) + skipped

    def prediction(self, local: LocalWork) -> Prediction:
        """Regions and totals. A region is one round however many layers it has."""
        machine, parts = self.machine, [part for parts in self.regions.values() for part in parts]
        regions = [self._region(name, parts) for name, parts in self.regions.items()]
        local_s, weight_mib = local.seconds(machine), sum(part.weights for part in parts) / 2**20
        total = sum((each.cost for each in regions), Cost(client_s=local_s))
        later = sum((each.later for each in regions), Cost(client_s=local_s))
        kept_mib = weight_mib + sum(part.ordered for part in parts) / 2**20
        peak_mib = machine.base_mib + kept_mib + max((each.cost.peak_mib for each in regions), default=0.0)
        macs = sum(part.macs for part in parts)  # in the clear, where zeros are multiplied too
        layers = sum(part.layers for part in parts)
        plaintext_s = LocalWork(layers, 0, macs).seconds(machine) + local_s + (layers + local.operations) * TORCH_CALL_S
        skipped = sum(self.skipped.values()) / max(macs, 1)
        cache_mib = sum(part.kept.client_bytes for part in parts if part.kept) / 2**20
        return Prediction(
            tuple(regions), total, later, local_s, plaintext_s, weight_mib, peak_mib, machine, cache_mib, skipped
        )  # fmt: skip

    def _region(self, name: str, parts: Sequence[PartCost]) -> RegionCost:
        once = name in self.per_run
        peak_mib = max(part.cost.peak_mib for part in parts)  # layers of a region are worked on in turn
        beside = max((part.kept.region_bytes for part in parts if part.kept), default=0)
        cost = replace(sum((part.cost for part in parts), Cost(up_bytes=beside, rounds=0 if once else 1)), peak_mib=peak_mib)
        later = sum((part.kept.later if part.kept else part.cost for part in parts), Cost(up_bytes=beside, rounds=1))
        later = Cost() if once else replace(later, peak_mib=peak_mib)
        return RegionCost(name, sum(part.layers for part in parts), cost, later, self.skipped[name], tuple(self.modules[name]))


def predict_graph(
    graph: ModelGraph, machine: Machine, batch: int = 1, run: Run | None = None, worst_case: bool = True
) -> Prediction:
    """The cost of a partitioned graph; of one without weights for weights of a bell's shape, with the worst case beside it.

    Args:
        run: what the client may keep for a run; by default nothing.
        worst_case: whether a model without weights gets one.

    Raises:
        CompileError: naming every layer that no parameters carry.
    """
    found = _predict(graph, machine, batch, run or Run())
    if not (graph.is_meta and worst_case):
        return found
    return replace(found, worst_case=_predict(graph, machine, batch, run or Run(), largest=True))


def _predict(graph: ModelGraph, machine: Machine, batch: int, run: Run, largest: bool = False) -> Prediction:
    by_name = {node.name: node for node in graph.nodes}
    regions = {name: str(info(node).region) for name, node in by_name.items()}
    per_run = {regions[name] for name, node in by_name.items() if info(node).per_run}
    priced, findings = list[tuple[Stack, LayerPrice]](), list[Diagnostic]()
    for each in stacks(graph, regions):
        record = info(by_name[each.names[0]])
        if record.domain == "client":
            continue
        each = replace(each, largest=largest)
        calls = 1 if regions[each.names[0]] in per_run else run.calls
        prices = backend(str(record.backend)).price_layers(each, machine, batch=batch, calls=calls)
        if prices:
            priced.append((each, prices[0]))
        else:
            findings.append(Diagnostic(f"no parameters carry {', '.join(each.names)}", source=record.source))
    if findings:
        raise CompileError(findings)
    sums, kept = _Sums(machine, {}, {}, per_run), _kept([price for _, price in priced], machine, run)
    for place, (each, price) in enumerate(priced):
        positions, weights = prod(each.geometry.grid) * each.multiple * batch, multiplied(each.geometry, each.split)
        shared = price.kept[kept[place]] if place in kept else None
        macs = (weights + each.skipped) * positions
        cost, ordered = (shared.first, shared.ordered) if shared else (price.cost, price.ordered)
        part = PartCost(cost, len(each.names), macs, weights, ordered, shared)
        modules = [info(by_name[name]).path or name for name in each.names]
        sums.add(regions[each.names[0]], part, each.skipped * positions, modules)
    return sums.prediction(graph_work([node for node in graph.nodes if info(node).domain == "client"], batch))


def _kept(prices: Sequence[LayerPrice], machine: Machine, run: Run) -> dict[int, int]:
    """Which layers' first replies the client keeps a part of, and in which way."""

    def amount(cost: Cost) -> float:
        return objective(cost, machine)

    offers = [[(amount(price.cost) - each.mean_of(amount), each.client_bytes) for each in price.kept] for price in prices]
    return kept_within(offers, run.client_cache_bytes)


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
    sums = _Sums(machine, {}, {}, per_run)
    for region, costs in parts.items():
        for part in costs:
            sums.add(region, part)
    return sums.prediction(local or LocalWork())


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
