"""Statistics of a graph's values over recorded calls, by node and timestep bin, and how sensitive the output is to each node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from hecompile.calibration.calls import Calibration, Call
from hecompile.errors import unknown_name
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.timesteps import TIMESTEP_BINS, timestep_bin

if TYPE_CHECKING:
    from hecompile.ir.linear import Array

__all__ = ["NodeStatistics", "Statistics", "collect", "sensitivity", "timestep_bin", "watch"]

Floats = npt.NDArray[np.float64]
HISTOGRAM_BINS = 64


@dataclass(frozen=True, eq=False)
class NodeStatistics:
    """Statistics of one node, with one entry per timestep bin. Bins without calls have count 0, infinite bounds and NaN moments."""

    count: Floats
    mean: Floats
    variance: Floats
    low: Floats
    high: Floats
    edges: Floats  # of the histograms, (HISTOGRAM_BINS + 1), the same for all timestep bins
    histogram: Floats  # (timestep bins, HISTOGRAM_BINS)
    extremes: tuple[Floats, ...]  # for each timestep bin: the least and largest value of every sample of every call, (samples, 2)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics by the names of nodes. Indexing raises `CompileError` for a node that was not asked for."""

    nodes: Mapping[str, NodeStatistics]

    def __getitem__(self, name: str) -> NodeStatistics:
        if name not in self.nodes:
            raise unknown_name("node with statistics", name, tuple(self.nodes))
        return self.nodes[name]


class _Watcher(fx.Interpreter):
    """Runs a graph and replaces every value of the watched nodes by what a function returns for it."""

    def __init__(self, graph: ModelGraph, watched: Collection[str], change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
        super().__init__(graph.graph_module)
        self._watched, self._change = watched, change

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        return self._change(n.name, result) if n.name in self._watched else result


def _run(graph: ModelGraph, call: Call, watcher: _Watcher) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = watcher.run(*(torch.from_numpy(np.asarray(call.inputs[spec.name])) for spec in graph.inputs))[0]
    return result


def watch(
    graph: ModelGraph, calibration: Calibration, nodes: Collection[str], change: Callable[[str, torch.Tensor], torch.Tensor]
) -> None:
    """Run all calls. `change` gets the name and value of each of these nodes, and what it returns takes the value's place."""
    for call in calibration:
        _run(graph, call, _Watcher(graph, nodes, change))


def _float_nodes(graph: ModelGraph) -> list[str]:
    nodes = [node for node in graph.nodes if node.op != "get_attr"]
    return [node.name for node in nodes if info(node).dtype.startswith("float") and info(node).shape]


def collect(
    graph: ModelGraph, calibration: Calibration, nodes: Collection[str] | None = None, bins: int = TIMESTEP_BINS
) -> Statistics:
    """Return the statistics of these nodes, or of all float nodes. All calls are run twice: for bounds and moments, then for
    histograms.

    Raises:
        CompileError: for a name that is no float node of the graph.
    """
    known = _float_nodes(graph)
    names = list(nodes) if nodes is not None else known
    for name in names:
        if name not in known:
            raise unknown_name("float node", name, known)
    sums = {name: np.zeros((3, bins)) for name in names}  # count, sum, sum of squares
    bounds = {name: np.stack([np.full(bins, np.inf), np.full(bins, -np.inf)]) for name in names}
    extremes = {name: [[np.zeros((0, 2))] for _ in range(bins)] for name in names}
    place = 0

    def moments(name: str, value: torch.Tensor) -> torch.Tensor:
        array = value.double()
        sums[name][:, place] += (array.numel(), float(array.sum()), float(array.square().sum()))
        low, high = bounds[name][:, place]
        ends = torch.stack(torch.aminmax(array.flatten(1) if array.dim() > 1 else array[None], dim=1), 1)
        extremes[name][place].append(ends.numpy())
        bounds[name][:, place] = min(low, float(ends[:, 0].min())), max(high, float(ends[:, 1].max()))
        return value

    for call in calibration:
        place = timestep_bin(call.t, bins)
        _run(graph, call, _Watcher(graph, names, moments))
    edges = {name: np.linspace(bounds[name][0].min(), bounds[name][1].max() + 1e-12, HISTOGRAM_BINS + 1) for name in names}
    histograms = {name: np.zeros((bins, HISTOGRAM_BINS)) for name in names}

    def histogram(name: str, value: torch.Tensor) -> torch.Tensor:
        histograms[name][place] += np.histogram(value.numpy(), edges[name])[0]
        return value

    for call in calibration:
        place = timestep_bin(call.t, bins)
        _run(graph, call, _Watcher(graph, names, histogram))
    ends = {name: tuple(map(np.concatenate, rows)) for name, rows in extremes.items()}
    return Statistics({name: _statistics(sums[name], bounds[name], edges[name], histograms[name], ends[name]) for name in names})


def _statistics(sums: Array, bounds: Array, edges: Array, histogram: Array, extremes: tuple[Floats, ...]) -> NodeStatistics:
    count, total, squares = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        variance = np.maximum(squares / count - mean**2, 0)
    return NodeStatistics(count, mean, variance, bounds[0], bounds[1], edges, histogram, extremes)


def sensitivity(graph: ModelGraph, calibration: Calibration, node: str, relative: float = 1e-2, seed: int = 0) -> float:
    """Return how sensitive the output is to an error at a node: the output's relative RMS change divided by the node's.

    White noise of `relative` times the value's own RMS is added in every call. A result of 1 means that the relative error is as
    large at the output as at the node.

    Raises:
        CompileError: for a name that is no float node of the graph.
    """
    if node not in _float_nodes(graph):
        raise unknown_name("float node", node, _float_nodes(graph))
    generator = torch.Generator().manual_seed(seed)
    changed = reference = 0.0

    def disturb(name: str, value: torch.Tensor) -> torch.Tensor:
        return value + relative * value.square().mean().sqrt() * torch.randn(value.shape, generator=generator)

    for call in calibration:
        exact = _run(graph, call, _Watcher(graph, (), disturb))
        changed += float((_run(graph, call, _Watcher(graph, (node,), disturb)) - exact).square().sum())
        reference += float(exact.square().sum())
    return float((changed / reference) ** 0.5) / relative
