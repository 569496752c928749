"""Pareto fronts: the fastest plan for each of a range of budgets, for leakage, distortion and the client's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path

from hecompile.outputs import write_file
from hecompile.planner.optimise import Budgets, OptimalPlan, Problem, Totals, best_plan, optimise

__all__ = ["AXES", "Front", "Point", "fronts", "plot", "write"]

AXES = {
    "leakage": "share of secret entries revealed",
    "distortion": "relative variance of the output",
    "client_weights_mib": "MiB of weights at the client, nothing revealed",
}


@dataclass(frozen=True)
class Point:
    """The fastest plan within one budget."""

    budget: float
    totals: Totals
    encrypted: Mapping[str, float]  # for every layer at the server the share of its input that is encrypted
    gap_s: float


@dataclass(frozen=True)
class Front:
    """The plans that no other plan of the range beats in both budget and latency, slowest first."""

    axis: str
    points: tuple[Point, ...]


def fronts(problem: Problem, budgets: Budgets, pins: Mapping[str, str] | None = None, steps: int = 8) -> tuple[Front, ...]:
    """Return one front per axis, with the other budgets kept. On the axis of the client's weights, nothing is revealed.

    Raises:
        CompileError: if no plan keeps the budgets, even without a limit on the axis.
    """
    pins = pins or {}
    held = sum(options[0].client_weights for options in problem.options) / 2**20
    strict, free = replace(budgets, leakage=0.0), optimise(problem, budgets, pins).totals
    best = []
    for axis in AXES:
        base = replace(strict, client_weights_mib=None) if axis == "client_weights_mib" else budgets
        low, high = _ends(problem, base, pins, axis, free, held)
        values = [low + (high - low) * step / steps for step in range(steps + 1)]
        plans = [(value, best_plan(problem, _within(base, axis, value), pins)) for value in values]
        best.append(Front(axis, _undominated(axis, [(value, plan) for value, plan in plans if plan is not None])))
    return tuple(best)


def _ends(problem: Problem, base: Budgets, pins: Mapping[str, str], axis: str, free: Totals, held: float) -> tuple[float, float]:
    """Return the smallest and largest budget between which plans differ."""
    if axis == "client_weights_mib":
        return 0.0, held
    if axis == "leakage":
        return 0.0, free.leakage
    strict = best_plan(problem, replace(base, leakage=0.0), pins)
    least = strict.totals.distortion if strict else 0.0
    return min(least, free.distortion) * (1 + 1e-6), max(least, free.distortion) * (1 + 1e-6)


def _within(budgets: Budgets, axis: str, value: float) -> Budgets:
    """Return the budgets with one of them changed."""
    if axis == "leakage":
        return replace(budgets, leakage=value)
    return replace(budgets, distortion=value) if axis == "distortion" else replace(budgets, client_weights_mib=value)


def _undominated(axis: str, plans: list[tuple[float, OptimalPlan]]) -> tuple[Point, ...]:
    """Return the plans that no other plan beats in both budget and latency."""
    points = [Point(value, plan.totals, dict(plan.encrypted), plan.gap_s) for value, plan in plans]
    points.sort(key=lambda point: (getattr(point.totals, axis), point.totals.latency_s))
    kept: list[Point] = []
    for point in points:
        if not kept or point.totals.latency_s < kept[-1].totals.latency_s:
            kept.append(point)
    return tuple(kept)


def write(best: tuple[Front, ...], path: Path) -> tuple[Path, Path]:
    """Write the fronts to `path` with .json and, as a plot, with .png. Raises `CompileError` if they cannot be written."""
    data, picture = path.with_suffix(".json"), path.with_suffix(".png")
    document = {"fronts": {front.axis: [asdict(point) for point in front.points] for front in best}}
    drawn = plot(best)
    write_file(data, (json.dumps(document, indent=1) + "\n").encode())
    write_file(picture, drawn)
    return data, picture


def plot(best: tuple[Front, ...]) -> bytes:
    """Plot latency against each axis, and return the bytes of a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(best), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for place, front in enumerate(best, start=1):
        axes = figure.add_subplot(1, len(best), place)
        across = [getattr(point.totals, front.axis) for point in front.points]
        axes.step(across, [point.totals.latency_s for point in front.points], where="post", marker="o")
        axes.set_xlabel(AXES[front.axis])
        axes.set_ylabel("predicted seconds per call")
        axes.set_ylim(bottom=0)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    return data.getvalue()
