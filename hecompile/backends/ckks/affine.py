"""A region's graph as affine maps between its inputs, its polynomials and its outputs, read off by running it on unit vectors.

Whatever linear layers lie between (convolutions of any kind, upsampling, sums), they become one matrix: a level less for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hecompile.backends.ckks.chains import POLYNOMIAL, is_lookup, peeled
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import info
from hecompile.ir.regions import SubgraphRegion
from hecompile.ir.timesteps import TRAIN_STEPS

if TYPE_CHECKING:
    from torch import fx

__all__ = ["Affine", "Chain", "Polynomial", "Shape", "read_chain"]

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int, int]  # channels, rows, columns


@dataclass(frozen=True, eq=False)
class Affine:
    """`scale * (sum of matrices times sources + bias) + shift`; scale and shift have a row per timestep bin."""

    name: str
    shape: Shape
    matrices: dict[str, Floats]  # by source: (entries of the result, entries of the source)
    bias: Floats
    scale: Floats  # (bins or 1, entries)
    shift: Floats


@dataclass(frozen=True, eq=False)
class Polynomial:
    """Applied to an affine map: in the Chebyshev basis on [low, high], a row per timestep bin."""

    argument: Affine
    low: Floats
    high: Floats
    coefficients: Floats
    label: str  # the layer it belongs to
    source: str


@dataclass(frozen=True, eq=False)
class Chain:
    """A region: pictures that come in, polynomials in order, affine maps that go out."""

    inputs: dict[str, Shape]
    timestep: str | None
    polynomials: dict[str, Polynomial]
    outputs: dict[str, Affine]


def _shape(node: fx.Node) -> Shape:
    channels, *size = info(node).shape[1:]
    return int(str(channels)), int(str(size[0])), int(str(size[1]))


class _Reader:
    def __init__(self, region: SubgraphRegion) -> None:
        self._module = region.graph_module
        self._nodes = list(region.graph_module.graph.nodes)
        self._bins = max((int(str(info(node.args[2]).shape[0])) for node in self._nodes if str(node.target) == POLYNOMIAL), default=1)
        self.timestep = next((n for n in self._nodes if n.op == "placeholder" and not info(n).secret and not info(n).shape), None)
        self.sources = [n for n in self._nodes if (n.op == "placeholder" and n is not self.timestep) or str(n.target) == POLYNOMIAL]

    def value(self, node: fx.Node, known: dict[fx.Node, Any]) -> torch.Tensor:
        """A node's value from known ones."""
        if node not in known:
            if node.op == "get_attr":
                target: Any = self._module
                for part in str(node.target).split("."):
                    target = getattr(target, part)
                known[node] = target.detach()
            else:
                from hecompile.ir.shapes import map_argument

                args = [map_argument(arg, lambda leaf: self.value(leaf, known) if leaf in self._set else leaf) for arg in node.args]
                known[node] = node.target(*args, **node.kwargs)  # type: ignore[operator]
        found: torch.Tensor = known[node]
        return found

    @property
    def _set(self) -> set[Any]:
        return set(self._nodes)

    def _zeros(self, batch: int) -> dict[fx.Node, Any]:
        known = {node: torch.zeros(batch, *_shape(node)) for node in self.sources}
        if self.timestep is not None:
            known[self.timestep] = torch.zeros(())
        return known

    def affine(self, node: fx.Node) -> Affine:
        """The map to a node: its layers without scales and shifts by timestep, and those apart."""
        inner = peeled(node)
        with torch.no_grad():
            bias = self.value(inner, self._zeros(1))
            matrices = {}
            for source in self.sources:
                count = int(np.prod(_shape(source)))
                known = self._zeros(count)
                known[source] = torch.eye(count).reshape(count, *_shape(source))
                response = (self.value(inner, known) - bias).reshape(count, -1).double().numpy().T if inner is not source else None
                matrix = np.eye(count) if response is None else response
                if np.abs(matrix).max(initial=0.0) > 0:
                    matrices[source.name] = matrix
            rows = [self._scaling(node, inner, place) for place in range(self._bins)]
        scale, shift = (np.stack(each) for each in zip(*rows, strict=True))
        if (scale == scale[0]).all() and (shift == shift[0]).all():
            scale, shift = scale[:1], shift[:1]
        return Affine(node.name, _shape(node), matrices, bias.double().numpy().reshape(-1), scale, shift)

    def _scaling(self, node: fx.Node, inner: fx.Node, place: int) -> tuple[Floats, Floats]:
        """scale and shift of node = scale * inner + shift in a timestep bin."""
        t = torch.tensor((place + 0.5) * TRAIN_STEPS / self._bins)
        found = []
        for fill in (0.0, 1.0):
            known: dict[Any, Any] = {inner: torch.full((1, *_shape(inner)), fill, dtype=torch.float64)}
            if self.timestep is not None:
                known[self.timestep] = t
            found.append(self.value(node, known).double().numpy().reshape(-1))
        return found[1] - found[0], found[0]

    def polynomial(self, node: fx.Node) -> Polynomial:
        low, high, coefficients = (self.value(each, {}).double().numpy() for each in node.args[2:5])  # type: ignore[arg-type]
        record = info(node)
        return Polynomial(self.affine(node.args[0]), low, high, coefficients, record.path or node.name, record.source)  # type: ignore[arg-type]


def read_chain(region: SubgraphRegion) -> Chain:
    """The maps of a region. Raises `CompileError` for what is no chain of pictures."""
    reader = _Reader(region)
    by_name = {node.name: node for node in reader._nodes}
    bad = [node.name for node in reader.sources if len(info(node).shape) != 4]
    bad += [n.name for n in reader._nodes if n.op == "call_function" and not info(n).secret and is_lookup(n) and reader.timestep is None]
    if bad:
        raise CompileError(Diagnostic(f"region '{region.name}': {bad} are no pictures", help="use --backend bfv"))
    polynomials = {node.name: reader.polynomial(node) for node in reader._nodes if str(node.target) == POLYNOMIAL}
    outputs = {name: reader.affine(by_name[name]) for name in region.outputs}
    inputs = {node.name: _shape(node) for node in reader.sources if node.op == "placeholder"}
    return Chain(inputs, reader.timestep.name if reader.timestep is not None else None, polynomials, outputs)
