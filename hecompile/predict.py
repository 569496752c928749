"""Predicts what a source would cost. It is traced and partitioned, but not compiled, and it needs no weights."""

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
    """Return the partitioned graph of a source under the policy `strict`. A source is anything that `compile` takes."""
    from hecompile.compiler import compile_model

    graph = compile_model(source, example_inputs=example_inputs, until="check-secrecy").program
    if not isinstance(graph, ModelGraph):
        raise InternalError("the pass check-secrecy did not return a graph")
    return graph


def optimised(graph: ModelGraph, machine: Machine, options: CompileOptions, run: Run) -> ModelGraph:
    """Return the partitioned graph with the best plan within the options' budgets. Without `--partition optimised`, the graph
    itself.

    Raises:
        CompileError: if no plan keeps the budgets, or the best plan has nothing for the server.
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
    """Return the machine of a profile, or the default one, with this network and goal. Raises `CompileError` if the file is no
    profile."""
    machine = load_machine(profile) if profile else Machine()
    return replace(machine, rtt_ms=rtt_ms, bandwidth_mbps=bandwidth_mbps, goal=goal)


def run_of(client_cache_mib: float | None = None, run_calls: int | None = None) -> Run:
    """Return the number of calls in a run, and what the client may keep for it in memory. Defaults are those of compiling."""
    from hecompile.options import CompileOptions

    options = CompileOptions(client_cache_mib=client_cache_mib, run_calls=run_calls if client_cache_mib != 0 else None)
    return Run(options.run_calls, int(options.client_cache_mib * 2**20)) if options.client_cache_mib else Run()


def predict_source(
    graph: ModelGraph, machine: Machine, batch: int, memory_mib: float | None = None, run: Run | None = None
) -> Prediction:
    """Predict the cost of a call of a partitioned graph; with `run`, of the calls of a run.

    Raises:
        CompileError: if a layer has no parameters, or the server would need more memory than `memory_mib`, by default this
            machine's.
    """
    prediction = predict_graph(graph, machine, batch, run)
    refuse_without_memory(prediction, available_mib() if memory_mib is None else memory_mib)
    return prediction


def problem_of_source(
    graph: ModelGraph, machine: Machine, recorded: Path | None = None, tile: Pair | None = None, run: Run | None = None
) -> Problem:
    """Return the problem of choosing a plan if every layer may reveal a part of its input. If the graph has weights, distortions
    are measured.

    With `tile`, layers reveal tiles of that size instead of channels, if their picture has several.
    """
    from hecompile.ir.layer_groups import layer_groups
    from hecompile.planner.choices import reveal_options
    from hecompile.planner.distortion import measure_distortions

    groups = layer_groups(graph)
    calibration = calibration_for(graph, recorded) if all(group.weights is not None for group in groups) else None
    distortions = measure_distortions(graph, calibration, groups) if calibration else None
    backends = tuple(dict.fromkeys(str(info(node).backend) for node in graph.nodes if info(node).domain == "server_encrypted"))
    return problem_of(graph, machine, reveal_options(groups, tile=tile), distortions, backends, run=run)
