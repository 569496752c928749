"""Programs as text: the plan with every region, products with what their stage knows."""

from __future__ import annotations

from hecompile.ir.graph import ModelGraph
from hecompile.ir.printing import print_graph
from hecompile.ir.products import AnyProduct
from hecompile.ir.regions import AnyCall, CallRegion, ClientRegion, Program, SubgraphRegion

__all__ = ["print_program", "program_text"]


def _product(product: AnyProduct) -> str:
    geometry = product.geometry
    picture, grid = "x".join(map(str, geometry.picture)), "x".join(map(str, (geometry.rows, *geometry.grid)))
    text = f"{picture} -> {grid}, {len(geometry.taps)} taps" + ("" if product.split.whole else f", {product.split}")
    return f"{text}{product.described}"


def _operations(region: ClientRegion | SubgraphRegion) -> str:
    nodes = [node for node in region.graph_module.graph.nodes if node.op == "call_function"]
    return f"    {', '.join(str(node.target).split('.')[1] for node in nodes)}"


def _call(region: AnyCall) -> list[str]:
    lines = []
    if isinstance(region, CallRegion):
        for product in region.products:
            names = ", ".join(part.output for part in product.parts)
            lines.append(f"    {names} <- {product.input}: {_product(product)}")
    else:
        lines.append(_operations(region))
    if region.lowered is not None:
        for half, name in ((region.lowered.client, "client"), (region.lowered.server, "server")):
            tensors = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in sorted(half.tensors.items()))
            lines.append(f"    {name} half: {tensors}")
    return lines


def print_program(program: Program) -> str:
    """The plan step by step."""
    lines = [f"inputs {', '.join(program.plan.inputs)}"]
    for step in program.plan.steps:
        once = " once a run" if step.once else ""
        lines.append(f"{step.kind} {step.region}{once} ({', '.join(step.inputs)}) -> ({', '.join(step.outputs)})")
        if step.kind == "client":
            lines.append(_operations(program.clients[step.region]))
        else:
            lines += _call(program.calls[step.region])
    secret = sum(value.secret for value in program.plan.values)
    lines.append(f"outputs {', '.join(program.plan.outputs)}; {secret} of {len(program.plan.values)} values are secret")
    return "\n".join(lines) + "\n"


def program_text(program: ModelGraph | Program) -> str:
    """The program between two passes, whichever kind it is there. Tensors are told by their shapes, never by their numbers."""
    return print_graph(program) if isinstance(program, ModelGraph) else print_program(program)
