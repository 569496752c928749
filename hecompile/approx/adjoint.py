"""Predicts to first order what the polynomials of all sites and degrees do to the result, from a few backward runs.

If a polynomial has error d at its site, the result has error J d, where J is the Jacobian. For random signs v the mean of (v . J
d)^2 is |J d|^2 (Hutchinson), and v . J d = (J^T v) . d. So one backward run gives J^T v at every site, for whatever errors stand
there. Effects of several sites are added before they are squared, so that correlations between them are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from hecompile.approx.fits import Floats
from hecompile.approx.tables import Fitter
from hecompile.approx.validation import ValidationRun, entries, tensors
from hecompile.calibration import Call, timestep_bin
from hecompile.ir.graph import ModelGraph

__all__ = ["effects", "white_sensitivity"]

PROBES, SEED = 8, 0  # vectors of random signs; with 20 samples the mean of squares is known to a tenth


class _Differentiable(fx.Interpreter):
    """Runs a graph and keeps all its values. Gradients can be taken at the values of `sites`."""

    def __init__(self, graph: ModelGraph, sites: Collection[fx.Node]) -> None:
        super().__init__(graph.graph_module, garbage_collect_values=False)
        self._sites = sites

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self._sites and not result.requires_grad:
            result.requires_grad_()
        return result


def _signs(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random entries of -1 and 1, in the shape and type of `like`."""
    return torch.randint(0, 2, like.shape, generator=generator).to(like.dtype) * 2 - 1


def _gradients(value: torch.Tensor, wanted: Sequence[torch.Tensor], along: torch.Tensor) -> list[torch.Tensor]:
    """For each tensor of `wanted`, J^T v for every v of `along` (probes, *value): (probes, *tensor).

    It is zero for a tensor that the value does not depend on.
    """
    rows = [torch.autograd.grad(value, wanted, probe, retain_graph=True, allow_unused=True) for probe in along]
    return [
        torch.stack([torch.zeros_like(tensor) if row[place] is None else row[place] for row in rows])
        for place, tensor in enumerate(wanted)
    ]


def _backwards(
    graph: ModelGraph, validation: ValidationRun, along: torch.Tensor, nodes: Sequence[fx.Node]
) -> Iterator[tuple[Call, Any, Any]]:
    """Go through all calls from the last to the first. Yields the call, its values, and the gradients at `nodes` (probes, *value).

    Args:
        along: the vectors v by which the result is multiplied (probes, *result).
    """
    starts = validation.samples(graph)
    for call, start in reversed(list(zip(validation.calls, starts, strict=True))):
        run, inputs = _Differentiable(graph, nodes), tensors(call)
        if start is not None:
            inputs["sample"] = start.requires_grad_()
        with torch.enable_grad():
            output = run.run(*(inputs[spec.name] for spec in graph.inputs))[0]
            value = validation.after(call, inputs, output)
        wanted = [run.env[node] for node in nodes]
        if start is not None:
            along, *gradients = _gradients(value, [start, *wanted], along)
        else:
            rest = along.shape[1] - value.numel()
            gradients = _gradients(value, wanted, along[:, rest:].reshape(-1, *value.shape))
            along = along[:, :rest]
        yield call, run.env, gradients


def effects(
    graph: ModelGraph, validation: ValidationRun, result: Floats, fitter: Fitter, degrees: Sequence[int]
) -> dict[str, Floats]:
    """Predict the effect of each site's polynomial on the result, by site (degrees, paths).

    The mean of the squares over paths is the mean squared error of the result that the polynomial causes.

    Args:
        result: the result of the validation run on this graph.
    """
    generator, sites = torch.Generator().manual_seed(SEED), list(fitter.sites.values())
    along = torch.stack([_signs(torch.from_numpy(result), generator) for _ in range(PROBES)]).float()
    by_call: dict[str, list[Floats]] = {name: [] for name in fitter.sites}
    for call, env, gradients in _backwards(graph, validation, along, [site.node for site in sites]):
        t = torch.tensor(call.t)
        for site, gradient in zip(sites, gradients, strict=True):
            x, y = env[site.argument].detach(), env[site.node].detach()
            changes = torch.stack([fitter.table(site.name, degree)(x, t) - y for degree in degrees])
            by_call[site.name].append(_products(gradient, changes, entries(graph, call)))
    follow = validation.schedule is not None  # the effects of all calls add up in the same picture
    joined = {name: np.sum(rows, axis=0) if follow else np.concatenate(rows, axis=1) for name, rows in by_call.items()}
    return {name: rows * np.sqrt(rows.shape[1] / PROBES / result.size) for name, rows in joined.items()}


def _products(gradients: torch.Tensor, changes: torch.Tensor, batch: int) -> Floats:
    """The products of each change with each gradient (degrees, paths).

    There is one for each entry of the batch where the batch is the leading dimension, else one for the whole value.
    """
    groups = batch if changes.shape[1] % batch == 0 else 1
    rows, columns = gradients.reshape(len(gradients), groups, -1), changes.reshape(len(changes), 1, groups, -1)
    products = (rows * columns).sum(-1, dtype=torch.float64)  # (degrees, probes, groups)
    result: Floats = torch.nn.functional.pad(products, (0, batch - groups)).flatten(1).numpy()
    return result


def white_sensitivity(graph: ModelGraph, calls: Iterable[Call], nodes: Sequence[fx.Node], bins: int) -> Floats:
    """How much white noise at a node changes the output: the ratio of their norms, ||J|| / sqrt(size), as (nodes, bins)."""
    generator, sums = torch.Generator().manual_seed(SEED), np.zeros((2, len(nodes), bins))
    for call in calls:
        run, inputs = _Differentiable(graph, nodes), tensors(call)
        with torch.enable_grad():
            output = run.run(*(inputs[spec.name] for spec in graph.inputs))[0]
        gradients = _gradients(output, [run.env[node] for node in nodes], _signs(output, generator)[None])
        for place, gradient in enumerate(gradients):
            sums[:, place, timestep_bin(call.t, bins)] += float(gradient.double().square().sum()), gradient.numel()
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = np.sqrt(sums[0] / sums[1])
    return result
