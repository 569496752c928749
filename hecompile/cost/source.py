"""Predictions for a source: traced, partitioned and priced, without weights where it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hecompile.backends.base import Candidate
from hecompile.backends.registry import backend
from hecompile.calibration import Calibration, from_sampler, load_calibration
from hecompile.cost.machine import Machine, load_machine
from hecompile.cost.plan import Prediction, available_mib, predict_graph, refuse_without_memory
from hecompile.cost.problem import Budgets, Problem, disjoint, problem_of, stacks_of
from hecompile.errors import CompileError
from hecompile.ir.graph import ModelGraph
from hecompile.ir.linear import Pair

__all__ = ["machine_of", "partitioned", "pins_of", "predict_source", "problem_of_source"]


def partitioned(source: Any, example_inputs: Mapping[str, Any] | None = None) -> ModelGraph:
    """The graph of a source, anything that `compile` takes, with domains and regions under `strict`."""
    from hecompile.compiler import pipeline
    from hecompile.frontend.sources import load_source
    from hecompile.options import CompileOptions

    program: Any = load_source(source, example_inputs)
    for each in pipeline(CompileOptions(), None):
        if not isinstance(program, ModelGraph) or each.name != "split":
            program = each.run(program)
        else:
            break
    return program  # type: ignore[no-any-return]


def machine_of(profile: Path | None, rtt_ms: float, bandwidth_mbps: float) -> Machine:
    """A profile, or the default one, on a network. Raises `CompileError` for what is no profile."""
    machine = load_machine(profile) if profile else Machine()
    return replace(machine, rtt_ms=rtt_ms, bandwidth_mbps=bandwidth_mbps)


def predict_source(graph: ModelGraph, machine: Machine, batch: int, memory_mib: float | None = None) -> Prediction:
    """The prediction for a partitioned source.

    Raises:
        CompileError: if no parameters carry a layer, or the server's memory (this machine's by default) will not do.
    """
    prediction = predict_graph(graph, machine, batch)
    refuse_without_memory(prediction, available_mib() if memory_mib is None else memory_mib)
    return prediction


def problem_of_source(graph: ModelGraph, machine: Machine, recorded: Path | None = None, tile: Pair | None = None) -> Problem:
    """What plans are chosen from where layers may show a part of their input, distortions measured where the model has weights.

    With `tile`, tiles of that size instead of channels wherever a picture has several.
    """
    from hecompile.cost.choices import ladder
    from hecompile.cost.distortion import measure_distortions
    from hecompile.cost.layers import stacks

    found = stacks(graph)
    calibration = _calibration(graph, recorded) if all(each.weights is not None for each in found) else None
    distortions = measure_distortions(graph, calibration, found) if calibration else None
    return problem_of(graph, machine, ladder(found, tile=tile), distortions)


def problem_within(
    graph: ModelGraph,
    machine: Machine,
    budgets: Budgets,
    backends: Sequence[str] = ("bfv",),
    candidates: Sequence[Candidate] = (),
) -> Problem:
    """What the plan of a graph is chosen from: layers show what its releases show, or less; distortions if budgeted."""
    from hecompile.cost.choices import SHARES, Reveal
    from hecompile.cost.distortion import measure_distortions

    proposed = disjoint([each for each in candidates if backend(each.backend).chains])
    priced = [backend(each.backend).price_chain(graph, each, machine) for each in proposed]
    chained = [each for each in priced if each is not None]
    reveals = {}
    for each in (found := stacks_of(graph, chained)):
        tiles = each.split.tiles
        whole = tiles.count if tiles else each.geometry.channels
        least = len(tiles.encrypted) if tiles else whole - len(each.split.released)
        counts = {max(least, round(share * whole)) for share in (0.0, *SHARES)} - {whole}
        cut = (tiles.rows, tiles.columns) if tiles else None
        shown = [Reveal(count, each.split.bits, cut) for count in sorted(counts, reverse=True)]
        reveals[each.names[0]] = shown if each.split.shows else []
    calibration = None if budgets.distortion is None else _calibration(graph, None)
    distortions = measure_distortions(graph, calibration, found) if calibration else None
    return problem_of(graph, machine, reveals, distortions, backends, chained)


def pins_of(pins: Sequence[str]) -> dict[str, str]:
    """Pins as they are written, layer=side. Raises `CompileError` for what is not."""
    if broken := [pin for pin in pins if "=" not in pin]:
        raise CompileError(f"pins are written layer=side, not {', '.join(broken)}")
    return dict(pin.rsplit("=", 1) for pin in pins)


def _calibration(graph: ModelGraph, recorded: Path | None) -> Calibration | None:
    """What was recorded, or a short run of the model's own sampler; None for a model without one."""
    if recorded is not None:
        return load_calibration(recorded)
    if not {"sample", "timestep"} <= {spec.name for spec in graph.inputs}:
        return None
    return from_sampler(graph, steps=4, samples=2)
