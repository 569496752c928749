"""Reads a region's graph as affine maps between its inputs, its polynomials and its outputs.

The matrices are found by running the graph on unit vectors. All linear layers between two polynomials (convolutions of any kind,
upsampling, sums) become one matrix, which takes one level however many layers they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from hecompile.backends.ckks.candidates import is_timestep_row, peeled
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import info
from hecompile.ir.ops import CONVOLUTIONS, POLYNOMIAL, UPSAMPLE
from hecompile.ir.regions import SubgraphRegion
from hecompile.ir.timesteps import TRAIN_STEPS

__all__ = ["AffineMap", "Polynomial", "RegionMaps", "Shape", "read_maps"]

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int, int]  # channels, rows, columns
NOISE = 1e-6  # of a matrix's largest entry: what float32 rounding leaves where the true entry is zero


@dataclass(frozen=True, eq=False)
class AffineMap:
    """The map `scale * (sum of matrices times sources + bias) + shift`, with flat values and elementwise scale, bias and shift.

    `scale` and `shift` have one row per timestep bin, or a single row that holds for all bins.
    """

    name: str
    shape: Shape
    matrices: dict[str, Floats]  # by name of the source: (entries of the result, entries of the source)
    bias: Floats
    scale: Floats  # (bins or 1, entries)
    shift: Floats


@dataclass(frozen=True, eq=False)
class Polynomial:
    """A polynomial of an affine map's result, in the Chebyshev basis on [low, high]. Each array has one row per timestep bin."""

    argument: AffineMap
    low: Floats
    high: Floats
    coefficients: Floats
    label: str  # path of the layer that it belongs to
    source: str  # where the layer stands in the model's code


@dataclass(frozen=True, eq=False)
class RegionMaps:
    """A region as maps: the pictures that come in, its polynomials, and the affine maps that give its outputs."""

    inputs: dict[str, Shape]
    timestep: str | None
    polynomials: dict[str, Polynomial]
    between: dict[str, AffineMap]  # values that one layer makes and another reads, in order; outputs may be among them
    order: tuple[str, ...]  # names of polynomials and of values between layers, in order of execution
    outputs: dict[str, AffineMap]


def _shape(node: fx.Node) -> Shape:
    """Channels, rows and columns of a node's value, without its batch."""
    channels, *size = info(node).shape[1:]
    return int(str(channels)), int(str(size[0])), int(str(size[1]))


class _Reader:
    """Runs a region's graph on chosen values to find the map to any of its nodes.

    `sources` are the nodes where maps begin: inputs, polynomials and values between layers.
    """

    def __init__(self, region: SubgraphRegion) -> None:
        self._module = region.graph_module
        self._nodes = list(region.graph_module.graph.nodes)
        self._bins = max(
            (int(str(info(node.args[2]).shape[0])) for node in self._nodes if str(node.target) == POLYNOMIAL), default=1
        )
        scalars = [n for n in self._nodes if n.op == "placeholder" and not info(n).secret and not info(n).shape]
        self.timestep = next((node for node in scalars if info(node).dtype.startswith("float")), None)
        self._row = next((node for node in scalars if info(node).dtype.startswith("int")), None)  # of timestep tables
        inputs = [node for node in self._nodes if node.op == "placeholder" and node not in scalars]
        self.polynomials = [node for node in self._nodes if str(node.target) == POLYNOMIAL]
        self.between = self._between()
        self.sources = [*inputs, *self.polynomials, *self.between]

    def _between(self) -> list[fx.Node]:
        """The values that one layer makes and another reads.

        Each takes a level: one matrix for both layers would have more diagonals.
        """
        layered, between = set[fx.Node](), list[fx.Node]()
        for node in self._nodes:
            operands = [operand for operand in node.all_input_nodes if operand in layered]
            if str(node.target) in (*CONVOLUTIONS, UPSAMPLE):
                between += [operand for operand in operands if operand not in between and str(operand.target) != UPSAMPLE]
                layered.add(node)
            elif operands and str(node.target) not in (POLYNOMIAL, "output"):
                layered.add(node)
        return between

    def value(self, node: fx.Node, known: dict[fx.Node, Any]) -> torch.Tensor:
        """Compute a node's value from `known` values, and add it and all that it needed to them."""
        if node not in known:
            if node.op == "get_attr":
                target: Any = self._module
                for part in str(node.target).split("."):
                    target = getattr(target, part)
                known[node] = target.detach()
            else:
                from hecompile.ir.shapes import map_argument

                args = [map_argument(arg, lambda leaf: self._leaf(leaf, known)) for arg in node.args]
                known[node] = node.target(*args, **node.kwargs)  # type: ignore[operator]
        value: torch.Tensor = known[node]
        return value

    def _leaf(self, leaf: object, known: dict[fx.Node, Any]) -> object:
        """An argument's value: that of a node, or the argument itself."""
        return self.value(leaf, known) if isinstance(leaf, fx.Node) else leaf

    def _read(self, node: fx.Node, source: fx.Node) -> bool:
        """True if a node depends on `source` along a path without another source on it."""
        pending = [node]
        while pending:
            operand = pending.pop()
            if operand is source:
                return True
            if operand is node or operand not in self.sources:
                pending += operand.all_input_nodes
        return False

    def _zeros(self, batch: int, but: fx.Node) -> dict[fx.Node, Any]:
        """Zeros (batch, C, H, W) for every source except `but`, and the public scalars of the first timestep bin."""
        known = {node: torch.zeros(batch, *_shape(node)) for node in self.sources if node is not but}
        return known | self._public(0)

    def _public(self, place: int) -> dict[fx.Node, Any]:
        """Values of the public scalars, timestep and row of the tables, in timestep bin `place`."""
        known = dict[fx.Node, Any]()
        if self.timestep is not None:
            known[self.timestep] = torch.tensor((place + 0.5) * TRAIN_STEPS / self._bins)
        if self._row is not None:
            known[self._row] = torch.tensor(place)
        return known

    def affine(self, node: fx.Node) -> AffineMap:
        """The map from the sources to a node. Scales and shifts that depend on the timestep are kept apart from the matrices."""
        inner = peeled(node)
        with torch.no_grad():
            bias = self.value(inner, self._zeros(1, inner))
            matrices = {}
            for source in self.sources:
                if source is inner or not self._read(inner, source):
                    continue
                count = int(np.prod(_shape(source)))
                known = self._zeros(count, inner)
                known[source] = torch.eye(count).reshape(count, *_shape(source))
                matrix = (self.value(inner, known) - bias).reshape(count, -1).double().numpy().T
                matrix[np.abs(matrix) < NOISE * np.abs(matrix).max(initial=0.0)] = 0.0
                if matrix.any():
                    matrices[source.name] = matrix
            rows = [self._scaling(node, inner, place) for place in range(self._bins)]
        scale, shift = (np.stack(column) for column in zip(*rows, strict=True))
        if (scale == scale[0]).all() and (shift == shift[0]).all():
            scale, shift = scale[:1], shift[:1]
        return AffineMap(node.name, _shape(node), matrices, bias.double().numpy().reshape(-1), scale, shift)

    def _scaling(self, node: fx.Node, inner: fx.Node, place: int) -> tuple[Floats, Floats]:
        """The scale and shift, each (entries), for which node = scale * inner + shift in timestep bin `place`."""
        results = []
        for fill in (0.0, 1.0):
            known: dict[Any, Any] = {inner: torch.full((1, *_shape(inner)), fill, dtype=torch.float64)}
            known |= self._public(place)
            results.append(self.value(node, known).double().numpy().reshape(-1))
        return results[1] - results[0], results[0]

    def polynomial(self, node: fx.Node) -> Polynomial:
        """The polynomial of a `hecompile.polynomial` node, with the map that gives its argument."""
        low, high, coefficients = (self.value(table, {}).double().numpy() for table in node.args[2:5])  # type: ignore[arg-type]
        record = info(node)
        argument = self.affine(node.args[0])  # type: ignore[arg-type]
        return Polynomial(argument, low, high, coefficients, record.path or node.name, record.source)


def _as_it_is(node: fx.Node) -> AffineMap:
    """The identity map of a polynomial's values. Values that leave the region go through it to get the ring's scale."""
    shape = _shape(node)
    count = int(np.prod(shape))
    return AffineMap(node.name, shape, {node.name: np.eye(count)}, np.zeros(count), np.ones((1, count)), np.zeros((1, count)))


def read_maps(region: SubgraphRegion) -> RegionMaps:
    """Read the maps of a region.

    Raises:
        CompileError: if a value has other dimensions than a picture's (N, C, H, W), or a table is read without a timestep.
    """
    reader = _Reader(region)
    by_name = {node.name: node for node in reader._nodes}
    bad = [node.name for node in reader.sources if len(info(node).shape) != 4]
    bad += [node.name for node in reader._nodes if is_timestep_row(node) and reader.timestep is None]
    if bad:
        raise CompileError(Diagnostic(f"region '{region.name}': {bad} are not pictures (N, C, H, W)", help="use --backend bfv"))
    polynomials = {node.name: reader.polynomial(node) for node in reader._nodes if str(node.target) == POLYNOMIAL}
    outputs = {name: reader.affine(by_name[name]) for name in region.outputs if by_name[name] not in reader.sources}
    outputs |= {name: _as_it_is(by_name[name]) for name in region.outputs if name in polynomials}
    inputs = {node.name: _shape(node) for node in reader.sources if node.op == "placeholder"}
    between = {node.name: reader.affine(node) for node in reader.between}
    order = tuple(node.name for node in reader._nodes if node.name in polynomials or node.name in between)
    timestep = reader.timestep.name if reader.timestep is not None else None
    return RegionMaps(inputs, timestep, polynomials, between, order, outputs)
