"""Writes programs as text: the plan with its regions, and every linear operation with what its stage knows of it."""

from __future__ import annotations

from hecompile.ir.graph import ModelGraph
from hecompile.ir.linear_ops import LinearOp
from hecompile.ir.printing import print_graph
from hecompile.ir.regions import AnyCall, CallRegion, ClientRegion, Program, SubgraphRegion

__all__ = ["print_program", "program_text"]


def _linear_op(linear_op: LinearOp) -> str:
    geometry = linear_op.geometry
    picture, grid = "x".join(map(str, geometry.picture)), "x".join(map(str, (geometry.rows, *geometry.grid)))
    text = f"{picture} -> {grid}, {len(geometry.taps)} taps" + ("" if linear_op.split.whole else f", {linear_op.split}")
    return f"{text}{linear_op.described}"


def _operations(region: ClientRegion | SubgraphRegion) -> str:
    nodes = [node for node in region.graph_module.graph.nodes if node.op == "call_function"]
    return f"    {', '.join(str(node.target).split('.')[1] for node in nodes)}"


def _call(region: AnyCall) -> list[str]:
    lines = []
    if isinstance(region, CallRegion):
        for linear_op in region.linear_ops:
            names = ", ".join(part.output for part in linear_op.parts)
            lines.append(f"    {names} <- {linear_op.input}: {_linear_op(linear_op)}")
    else:
        lines.append(_operations(region))
    if region.lowered is not None:
        for half, name in ((region.lowered.client, "client"), (region.lowered.server, "server")):
            tensors = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in sorted(half.tensors.items()))
            lines.append(f"    {name} half: {tensors}")
    return lines


def print_program(program: Program) -> str:
    """Return the program as text: inputs, every step of the plan with its region, and outputs."""
    lines = [f"inputs {', '.join(program.plan.inputs)}"]
    for step in program.plan.steps:
        per_run = " once a run" if step.per_run else ""
        lines.append(f"{step.kind} {step.region}{per_run} ({', '.join(step.inputs)}) -> ({', '.join(step.outputs)})")
        if step.kind == "client":
            lines.append(_operations(program.clients[step.region]))
        else:
            lines += _call(program.calls[step.region])
    secret = sum(value.secret for value in program.plan.values)
    lines.append(f"outputs {', '.join(program.plan.outputs)}; {secret} of {len(program.plan.values)} values are secret")
    return "\n".join(lines) + "\n"


def program_text(program: ModelGraph | Program) -> str:
    """Return a graph or a program as text. It has the shapes of tensors, never their numbers."""
    return print_graph(program) if isinstance(program, ModelGraph) else print_program(program)
