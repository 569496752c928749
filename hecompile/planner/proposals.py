"""The problem of a graph within budgets: what backends propose, priced, with the reveals and distortions that the policy allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hecompile.calibration import Calibration, from_sampler, load_calibration
from hecompile.errors import CompileError
from hecompile.ir.candidates import Candidate, disjoint
from hecompile.ir.graph import ModelGraph
from hecompile.machine import Machine
from hecompile.options.plan import PlanOptions
from hecompile.planner.choices import SHARES, Reveal
from hecompile.planner.distortion import measure_distortions
from hecompile.planner.problem import Budgets, Problem, Run, problem_of, stacks_of

__all__ = ["budgets_of", "calibration_for", "pins_of", "problem_within"]


def problem_within(
    graph: ModelGraph,
    machine: Machine,
    budgets: Budgets,
    candidates: Sequence[Candidate],
    run: Run | None = None,
) -> Problem:
    """What the plan of a graph is chosen from: layers show what its releases show, or less; distortions if budgeted."""
    chained = disjoint([each for each in candidates if each.whole])
    backends = tuple(dict.fromkeys(each.backend for each in candidates if not each.whole))
    reveals = {}
    for each in (found := stacks_of(graph, chained)):
        tiles = each.split.tiles
        whole = tiles.count if tiles else each.geometry.channels
        least = len(tiles.encrypted) if tiles else whole - len(each.split.released)
        counts = {max(least, round(share * whole)) for share in (0.0, *SHARES)} - {whole}
        cut = (tiles.rows, tiles.columns) if tiles else None
        shown = [Reveal(count, each.split.bits, cut) for count in sorted(counts, reverse=True)]
        reveals[each.names[0]] = shown if each.split.shows else []
    calibration = None if budgets.distortion is None else calibration_for(graph, None)
    distortions = measure_distortions(graph, calibration, found) if calibration else None
    return problem_of(graph, machine, reveals, distortions, backends, chained, run)


def budgets_of(options: PlanOptions) -> Budgets | None:
    """The limits of a plan; None where nothing is chosen and every layer goes to the server."""
    if options.partition != "optimised":
        return None
    return Budgets(
        client_s=options.client_seconds,
        rounds=options.most_rounds,
        client_weights_mib=options.client_weights_mib,
        distortion=options.most_distortion,
        leakage=options.most_leakage,
        server_mib=options.server_mib,
        mb_first=options.most_mb_first,
        mb_later=options.most_mb_later,
    )


def pins_of(pins: Sequence[str]) -> dict[str, str]:
    """Pins as they are written, layer=side. Raises `CompileError` for what is not."""
    if broken := [pin for pin in pins if "=" not in pin]:
        raise CompileError(f"pins are written layer=side, not {', '.join(broken)}")
    return dict(pin.rsplit("=", 1) for pin in pins)


def calibration_for(graph: ModelGraph, recorded: Path | None) -> Calibration | None:
    """What was recorded, or a short run of the model's own sampler; None for a model without one."""
    if recorded is not None:
        return load_calibration(recorded)
    if not {"sample", "timestep"} <= {spec.name for spec in graph.inputs}:
        return None
    return from_sampler(graph, steps=4, samples=2)
