"""Predictions for a source: traced, partitioned and priced, without weights where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.errors import InternalError
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.linear import Pair
from hecompile.machine import GOALS, Machine, load_machine
from hecompile.planner.plan import Prediction, available_mib, predict_graph, refuse_without_memory
from hecompile.planner.problem import Problem, Run, problem_of
from hecompile.planner.proposals import budgets_of, calibration_for

if TYPE_CHECKING:
    from hecompile.options import CompileOptions

__all__ = ["machine_of", "optimised", "partitioned", "predict_source", "problem_of_source", "run_of"]


def partitioned(source: Any, example_inputs: Mapping[str, Any] | None = None) -> ModelGraph:
    """The graph of a source, anything that `compile` takes, with domains and regions under `strict`."""
    from hecompile.compiler import compile_model

    graph = compile_model(source, example_inputs=example_inputs, until="check-secrecy").program
    if not isinstance(graph, ModelGraph):
        raise InternalError("the program is cut before its secrecy is checked")
    return graph


def optimised(graph: ModelGraph, machine: Machine, options: CompileOptions, run: Run) -> ModelGraph:
    """A partitioned graph with the best plan within the options' budgets instead; as it is where they choose no plan.

    Raises:
        CompileError: if no plan keeps the budgets, or the best one leaves nothing for the server.
    """
    from hecompile.backends.context import Context
    from hecompile.options.plan import PlanOptions
    from hecompile.passes.partition import Partition

    budgets = budgets_of(options.panel(PlanOptions))
    if budgets is None:
        return graph
    context = Context(machine=machine, panels=options.backend_panels())
    return Partition(options.backend, context, budgets, options.pin, options.among, run).run(graph)


def machine_of(profile: Path | None, rtt_ms: float, bandwidth_mbps: float, goal: str = GOALS[0]) -> Machine:
    """A profile, or the default one, on a network. Raises `CompileError` for what is no profile."""
    machine = load_machine(profile) if profile else Machine()
    return replace(machine, rtt_ms=rtt_ms, bandwidth_mbps=bandwidth_mbps, goal=goal)


def run_of(client_cache_mib: float | None = None, run_calls: int | None = None) -> Run:
    """Calls of a run and what the client may keep for them, by default what compiling takes."""
    from hecompile.options import CompileOptions

    options = CompileOptions(client_cache_mib=client_cache_mib, run_calls=run_calls if client_cache_mib != 0 else None)
    return Run(options.run_calls, int(options.client_cache_mib * 2**20)) if options.client_cache_mib else Run()


def predict_source(
    graph: ModelGraph, machine: Machine, batch: int, memory_mib: float | None = None, run: Run | None = None
) -> Prediction:
    """The prediction for a partitioned source, of calls of a run where `run` is given.

    Raises:
        CompileError: if no parameters carry a layer, or the server's memory (this machine's by default) will not do.
    """
    prediction = predict_graph(graph, machine, batch, run)
    refuse_without_memory(prediction, available_mib() if memory_mib is None else memory_mib)
    return prediction


def problem_of_source(
    graph: ModelGraph, machine: Machine, recorded: Path | None = None, tile: Pair | None = None, run: Run | None = None
) -> Problem:
    """What plans are chosen from where layers may show a part of their input, distortions measured where the model has weights.

    With `tile`, tiles of that size instead of channels wherever a picture has several.
    """
    from hecompile.ir.layer_groups import stacks
    from hecompile.planner.choices import ladder
    from hecompile.planner.distortion import measure_distortions

    found = stacks(graph)
    calibration = calibration_for(graph, recorded) if all(each.weights is not None for each in found) else None
    distortions = measure_distortions(graph, calibration, found) if calibration else None
    backends = tuple(dict.fromkeys(str(info(node).backend) for node in graph.nodes if info(node).domain == "server_encrypted"))
    return problem_of(graph, machine, ladder(found, tile=tile), distortions, backends, run=run)
