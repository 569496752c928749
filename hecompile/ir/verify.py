"""Checks a program after every pass: that it is well formed, and that it computes the same as the program before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.graph import KEY, ModelGraph, concrete_shape, info
from hecompile.ir.linear import Array
from hecompile.ir.ops import LINEAR, OPS, PLACES
from hecompile.ir.regions import CallRegion, Program

if TYPE_CHECKING:
    from torch import fx

__all__ = [
    "compare",
    "compare_region",
    "compare_regions",
    "compare_with_exact",
    "example_inputs",
    "inputs_in_domain",
    "run",
    "run_exactly",
    "verify_graph",
]


MOST_APART = 16  # by how much the rounding of another order of summation may exceed that of the first


def verify_graph(graph: ModelGraph, canonical: bool = True) -> None:
    """Raises one `InternalError` that names every fault: nodes that read later ones, missing records, operations outside the op
    table, linear weights that are not constant, public nodes that read secret values, signatures that do not match."""
    problems, known = list[str](), set[str]()
    for node in graph.nodes:
        late = [argument.name for argument in node.all_input_nodes if argument.name not in known]
        known.add(node.name)
        if late:
            problems.append(f"%{node.name} reads {late}, which come later")
        if KEY not in node.meta:
            problems.append(f"%{node.name} has no record")
            continue
        if canonical and node.op == "call_function":
            problems += _canonical(node)
        secrets = [argument.name for argument in node.all_input_nodes if KEY in argument.meta and info(argument).secret]
        if info(node).secret is False and secrets and str(node.target) != "aten.expand_as.default":
            problems.append(f"%{node.name} is public but reads secret values: {secrets}")
    problems += _signature(graph)
    if problems:
        raise InternalError(f"{graph.name}: " + "; ".join(problems))


def _signature(graph: ModelGraph) -> list[str]:
    placeholders = tuple(node.name for node in graph.placeholders)
    if placeholders != tuple(spec.name for spec in graph.inputs):
        return [f"inputs are {placeholders}, the signature says {[spec.name for spec in graph.inputs]}"]
    problems = []
    for node, spec in zip(graph.placeholders, graph.inputs, strict=True):
        if KEY in node.meta and (info(node).shape, info(node).dtype) != (spec.shape, spec.dtype):
            problems.append(f"input %{node.name} is {info(node)}, the signature says {spec.shape} {spec.dtype}")
    results = [node for node in graph.graph_module.graph.nodes if node.op == "output"]
    outputs = tuple(node.name for node in results[0].all_input_nodes) if results else ()
    if set(outputs) != set(graph.outputs):
        problems.append(f"outputs are {outputs}, the signature says {graph.outputs}")
    return problems


def _canonical(node: fx.Node) -> list[str]:
    name = str(node.target)
    if name not in OPS:
        return [f"%{node.name} calls {name}, which is not in the op table"]
    if name in LINEAR and any(getattr(constant, "op", "get_attr") != "get_attr" for constant in node.args[1:3]):
        return [f"%{node.name} has weights that are not constant"]
    if name == PLACES and getattr(node.args[2], "op", "") != "get_attr":
        return [f"%{node.name} selects entries by indices that are not constant"]
    return []


def example_inputs(program: ModelGraph | Program, batch: int = 2, attempt: int = 0) -> dict[str, Array]:
    """Return inputs by name that fit the signature: the program's own example where it has one, otherwise seeded random numbers.

    A larger batch repeats the example. Integers are 0 or 1, which are valid labels of any embedding. With `attempt` above 0, all
    floats are drawn between 0.05 and 0.95, for models that take a logarithm or a root of their inputs.
    """
    rng = np.random.default_rng(0)
    values: dict[str, Array] = {}
    for spec in program.inputs:
        shape = concrete_shape(spec.shape, batch)
        if spec.keyword in program.examples:
            values[spec.name] = np.resize(program.examples[spec.keyword], shape)
        elif spec.dtype.startswith("float"):
            scale = 500.0 if spec.name == "timestep" else 1.0
            drawn = rng.standard_normal(shape) if not attempt else rng.uniform(0.05, 0.95, shape)
            drawn = np.abs(drawn) if spec.name == "timestep" else drawn
            values[spec.name] = np.asarray(drawn * scale, np.dtype(spec.dtype))
        else:
            values[spec.name] = np.asarray(rng.integers(0, 2, shape), np.dtype(spec.dtype))
    return values


def inputs_in_domain(program: ModelGraph) -> dict[str, Array]:
    """Return example inputs for which all results are finite, or else those with the most finite results.

    Raises:
        CompileError: if all results are NaN or infinite for all example inputs.
    """
    best: tuple[int, dict[str, Array]] = (0, {})
    for attempt in range(2):
        inputs = example_inputs(program, attempt=attempt)
        results = run(program, inputs)
        finite = sum(int(np.isfinite(value).sum()) for value in results)
        if finite == sum(value.size for value in results):
            return inputs
        best = max(best, (finite, inputs), key=lambda pair: pair[0])
    if not best[0]:
        raise CompileError(
            Diagnostic(
                f"{program.name}: every result of the example call is NaN or infinite",
                help="pass example_inputs that the model is made for: positive where it takes a logarithm or a root",
            )
        )
    return best[1]


def run(program: ModelGraph | Program, inputs: Mapping[str, Array]) -> list[Array]:
    """Return the outputs of a graph, computed by torch, or of a program, computed by `Program.run`."""
    if isinstance(program, Program):
        values = program.run(inputs)
        return [values[name] for name in program.plan.outputs]
    import torch

    with torch.no_grad():
        return [value.numpy() for value in program(*(torch.from_numpy(inputs[spec.name]) for spec in program.inputs))]


def compare_regions(before: Program, after: Program, inputs: Mapping[str, Array], what: str) -> None:
    """Compare every call region before and after the pass `what`, on the values that the program before computes.

    Results must be equal, or within the bound of the rounding that the pass did.

    Raises:
        InternalError: if they are not; it names the region and the layer.
    """
    values = before.run(inputs)
    for name, region in after.calls.items():
        old_region = before.calls[name]
        if isinstance(region, CallRegion) and isinstance(old_region, CallRegion):
            compare_region(old_region, region, values, what)


def compare_region(before: CallRegion, after: CallRegion, values: Mapping[str, Array], what: str) -> None:
    """Compare one region before and after a pass on these values by name. Raises `InternalError` as `compare_regions` does."""
    for old, new in zip(before.linear_ops, after.linear_ops, strict=True):
        if new is old:
            continue
        value = values[new.input]
        bounds = new.rounding(value) if type(new) is not type(old) and hasattr(new, "rounding") else None
        for index, (first, second) in enumerate(zip(old.reference(value), new.reference(value), strict=True)):
            # both are float32: each may be off by a unit in the last place
            allowed = (0 if bounds is None else bounds[index]) + np.abs(first) * 2.0**-22 * (bounds is not None)
            if not ((np.abs(first - second) <= allowed) | ~np.isfinite(first)).all():
                worst, layer = float(np.abs(first - second).max()), new.parts[index].output
                raise InternalError(f"{what} changed {layer} in '{after.name}' by {worst:.2e}, more than it may")


def compare_with_exact(
    exact: Sequence[Array], before: Sequence[Array], after: Sequence[Array], tolerance: float, what: str
) -> float:
    """`compare` for a network that amplifies the rounding of its own sums. `after` may be `MOST_APART` times as far from the exact
    result as `before` is, even if that is above `tolerance`. Raises `InternalError` as `compare` does."""
    own = max((_apart(*pair) for pair in zip(exact, before, strict=True)), default=0.0)
    return compare(exact, after, max(tolerance, MOST_APART * own), what)


def _apart(first: Array, second: Array) -> float:
    """Return the largest difference of entries that are finite in both, relative to the largest of these entries in `first`."""
    finite = np.isfinite(first) & np.isfinite(second)
    scale = float(np.abs(first[finite]).max(initial=0.0)) or 1.0
    return float(np.abs(first[finite].astype(np.float64) - second[finite]).max(initial=0.0)) / scale


def run_exactly(graph: ModelGraph, inputs: Mapping[str, Array]) -> list[Array]:
    """Return the outputs of a graph, computed in float64."""
    import copy

    import torch

    wide = copy.deepcopy(graph.graph_module).double()
    tensors = [torch.from_numpy(inputs[spec.name]) for spec in graph.inputs]
    with torch.no_grad():
        results = wide(*(tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors))
    return [result.numpy() for result in results]


def compare(before: Sequence[Array], after: Sequence[Array], tolerance: float, what: str) -> float:
    """Return the largest difference of results, relative to the largest entry. NaN counts as equal to NaN, and an infinity to
    itself.

    Raises:
        InternalError: if the difference is above `tolerance`, a shape changed, or an entry is finite in only one of them.
    """
    worst = 0.0
    for first, second in zip(before, after, strict=True):
        if first.shape != second.shape:
            raise InternalError(f"{what} changed a result's shape from {first.shape} to {second.shape}")
        if not np.issubdtype(first.dtype, np.floating):
            worst = max(worst, float((first != second).any()))
            continue
        finite = np.isfinite(first) & np.isfinite(second)
        if not ((first == second) | (np.isnan(first) & np.isnan(second)))[~finite].all():
            raise InternalError(f"{what} changed the result: an entry is finite only before or only after it")
        worst = max(worst, _apart(first, second))
    if not worst <= tolerance:
        raise InternalError(f"{what} changed the result by {worst:.2e} of its largest entry, allowed {tolerance:.2e}")
    return worst
