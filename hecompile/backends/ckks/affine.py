"""A region's graph as affine maps between its inputs, its polynomials and its outputs, read off by running it on unit vectors.

Whatever linear layers lie between (convolutions of any kind, upsampling, sums), they become one matrix: a level less for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from hecompile.backends.ckks.chains import is_lookup, peeled
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import info
from hecompile.ir.ops import CONVOLUTIONS, POLYNOMIAL, UPSAMPLE
from hecompile.ir.regions import SubgraphRegion
from hecompile.ir.timesteps import TRAIN_STEPS

__all__ = ["Affine", "Chain", "Polynomial", "Shape", "read_chain"]

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int, int]  # channels, rows, columns
NOISE = 1e-6  # of a matrix's largest entry: what float32 leaves where there is none


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
    between: dict[str, Affine]  # values between layers, in order; outputs may be among them
    order: tuple[str, ...]  # of polynomials and values between
    outputs: dict[str, Affine]


def _shape(node: fx.Node) -> Shape:
    channels, *size = info(node).shape[1:]
    return int(str(channels)), int(str(size[0])), int(str(size[1]))


class _Reader:
    def __init__(self, region: SubgraphRegion) -> None:
        self._module = region.graph_module
        self._nodes = list(region.graph_module.graph.nodes)
        self._bins = max(
            (int(str(info(node.args[2]).shape[0])) for node in self._nodes if str(node.target) == POLYNOMIAL), default=1
        )
        scalars = [n for n in self._nodes if n.op == "placeholder" and not info(n).secret and not info(n).shape]
        self.timestep = next((node for node in scalars if info(node).dtype.startswith("float")), None)
        self._row = next((node for node in scalars if info(node).dtype.startswith("int")), None)  # of tables, found by the timestep
        inputs = [node for node in self._nodes if node.op == "placeholder" and node not in scalars]
        self.polynomials = [node for node in self._nodes if str(node.target) == POLYNOMIAL]
        self.between = self._between()
        self.sources = [*inputs, *self.polynomials, *self.between]

    def _between(self) -> list[fx.Node]:
        """What a layer reads that other layers made: a level of its own, as one matrix for both would have many more diagonals."""
        layered, found = set[fx.Node](), list[fx.Node]()
        for node in self._nodes:
            operands = [each for each in node.all_input_nodes if each in layered]
            if str(node.target) in (*CONVOLUTIONS, UPSAMPLE):
                found += [each for each in operands if each not in found and str(each.target) != UPSAMPLE]
                layered.add(node)
            elif operands and str(node.target) not in (POLYNOMIAL, "output"):
                layered.add(node)
        return found

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

                args = [map_argument(arg, lambda leaf: self._leaf(leaf, known)) for arg in node.args]
                known[node] = node.target(*args, **node.kwargs)  # type: ignore[operator]
        found: torch.Tensor = known[node]
        return found

    def _leaf(self, leaf: object, known: dict[fx.Node, Any]) -> object:
        return self.value(leaf, known) if isinstance(leaf, fx.Node) else leaf

    def _read(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether a node reads a source without another source in between."""
        stack = [node]
        while stack:
            each = stack.pop()
            if each is source:
                return True
            if each is node or each not in self.sources:
                stack += each.all_input_nodes
        return False

    def _zeros(self, batch: int, but: fx.Node) -> dict[fx.Node, Any]:
        known = {node: torch.zeros(batch, *_shape(node)) for node in self.sources if node is not but}
        return known | self._public(0)

    def _public(self, place: int) -> dict[fx.Node, Any]:
        """The public scalars in a timestep bin."""
        known = dict[fx.Node, Any]()
        if self.timestep is not None:
            known[self.timestep] = torch.tensor((place + 0.5) * TRAIN_STEPS / self._bins)
        if self._row is not None:
            known[self._row] = torch.tensor(place)
        return known

    def affine(self, node: fx.Node) -> Affine:
        """The map to a node: its layers without scales and shifts by timestep, and those apart."""
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
        scale, shift = (np.stack(each) for each in zip(*rows, strict=True))
        if (scale == scale[0]).all() and (shift == shift[0]).all():
            scale, shift = scale[:1], shift[:1]
        return Affine(node.name, _shape(node), matrices, bias.double().numpy().reshape(-1), scale, shift)

    def _scaling(self, node: fx.Node, inner: fx.Node, place: int) -> tuple[Floats, Floats]:
        """scale and shift of node = scale * inner + shift in a timestep bin."""
        found = []
        for fill in (0.0, 1.0):
            known: dict[Any, Any] = {inner: torch.full((1, *_shape(inner)), fill, dtype=torch.float64)}
            known |= self._public(place)
            found.append(self.value(node, known).double().numpy().reshape(-1))
        return found[1] - found[0], found[0]

    def polynomial(self, node: fx.Node) -> Polynomial:
        low, high, coefficients = (self.value(each, {}).double().numpy() for each in node.args[2:5])  # type: ignore[arg-type]
        record = info(node)
        return Polynomial(self.affine(node.args[0]), low, high, coefficients, record.path or node.name, record.source)  # type: ignore[arg-type]


def _as_it_is(node: fx.Node) -> Affine:
    """The map that brings a polynomial's values to the ring's scale and leaves them as they are: those that leave the region."""
    shape = _shape(node)
    count = int(np.prod(shape))
    return Affine(node.name, shape, {node.name: np.eye(count)}, np.zeros(count), np.ones((1, count)), np.zeros((1, count)))


def read_chain(region: SubgraphRegion) -> Chain:
    """The maps of a region. Raises `CompileError` for what is no chain of pictures."""
    reader = _Reader(region)
    by_name = {node.name: node for node in reader._nodes}
    bad = [node.name for node in reader.sources if len(info(node).shape) != 4]
    bad += [node.name for node in reader._nodes if is_lookup(node) and reader.timestep is None]
    if bad:
        raise CompileError(Diagnostic(f"region '{region.name}': {bad} are no pictures", help="use --backend bfv"))
    polynomials = {node.name: reader.polynomial(node) for node in reader._nodes if str(node.target) == POLYNOMIAL}
    outputs = {name: reader.affine(by_name[name]) for name in region.outputs if by_name[name] not in reader.sources}
    outputs |= {name: _as_it_is(by_name[name]) for name in region.outputs if name in polynomials}
    inputs = {node.name: _shape(node) for node in reader.sources if node.op == "placeholder"}
    between = {node.name: reader.affine(node) for node in reader.between}
    order = tuple(node.name for node in reader._nodes if node.name in polynomials or node.name in between)
    timestep = reader.timestep.name if reader.timestep is not None else None
    return Chain(inputs, timestep, polynomials, between, order, outputs)
