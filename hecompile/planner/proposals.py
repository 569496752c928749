"""Sets up the problem of choosing a plan: the candidates of the backends with their prices, and the reveals that the policy
allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hecompile.calibration import Calibration, from_sampler, load_calibration
from hecompile.errors import CompileError
from hecompile.ir.candidates import Candidate, disjoint
from hecompile.ir.graph import ModelGraph
from hecompile.machine import Machine
from hecompile.options.plan import PlanOptions
from hecompile.planner.choices import SHARES, RevealOption
from hecompile.planner.distortion import measure_distortions
from hecompile.planner.problem import Budgets, Problem, Run, groups_of, problem_of

__all__ = ["budgets_of", "calibration_for", "pins_of", "problem_within"]


def problem_within(
    graph: ModelGraph,
    machine: Machine,
    budgets: Budgets,
    candidates: Sequence[Candidate],
    run: Run | None = None,
) -> Problem:
    """Return the problem of choosing a graph's plan. Layers may reveal what their reveals allow, or less; distortions are measured
    only if there is a budget for them."""
    multi_layer = disjoint([candidate for candidate in candidates if candidate.whole])
    backends = tuple(dict.fromkeys(candidate.backend for candidate in candidates if not candidate.whole))
    reveals = {}
    for group in (groups := groups_of(graph, multi_layer)):
        tiles = group.split.tiles
        whole = tiles.count if tiles else group.geometry.channels
        least = len(tiles.encrypted) if tiles else whole - len(group.split.revealed)
        counts = {max(least, round(share * whole)) for share in (0.0, *SHARES)} - {whole}
        cut = (tiles.rows, tiles.columns) if tiles else None
        options = [RevealOption(count, group.split.bits, cut) for count in sorted(counts, reverse=True)]
        reveals[group.names[0]] = options if group.split.reveals else []
    calibration = None if budgets.distortion is None else calibration_for(graph, None)
    distortions = measure_distortions(graph, calibration, groups) if calibration else None
    return problem_of(graph, machine, reveals, distortions, backends, multi_layer, run)


def budgets_of(options: PlanOptions) -> Budgets | None:
    """Return the limits of a plan; None if every layer runs at the server, so that nothing is chosen."""
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
    """Parse pins, written as layer=side. Raises `CompileError` for a pin without an equals sign."""
    if broken := [pin for pin in pins if "=" not in pin]:
        raise CompileError(f"pins are written layer=side, not {', '.join(broken)}")
    return dict(pin.rsplit("=", 1) for pin in pins)


def calibration_for(graph: ModelGraph, recorded: Path | None) -> Calibration | None:
    """Return the recorded calls, or those of a short run of the model's own sampler; None for a model without a sampler."""
    if recorded is not None:
        return load_calibration(recorded)
    if not {"sample", "timestep"} <= {spec.name for spec in graph.inputs}:
        return None
    return from_sampler(graph, steps=4, samples=2)
