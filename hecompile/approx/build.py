"""The whole approximation of a graph: norms, ranges, fits, degrees, and the record of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from hecompile.approx.excursions import excursions
from hecompile.approx.fits import Fit, Floats, depth, weighted
from hecompile.approx.inner import is_inner
from hecompile.approx.judge import Judge
from hecompile.approx.norms import with_norms
from hecompile.approx.options import ApproximationOptions
from hecompile.approx.rewrite import with_polynomials
from hecompile.approx.sites import find_sites
from hecompile.approx.spend import MARGIN_DB, for_depth, uniform
from hecompile.approx.tables import Fitter
from hecompile.approx.trial import calibrations, psnr_db
from hecompile.calibration import Calibration, Call, Statistics, collect
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.approximation import Approximation, CurvePoint, SiteRecord
from hecompile.ir.graph import ModelGraph, concrete_shape, info
from hecompile.ir.ops import POLYNOMIAL
from hecompile.ir.timesteps import TIMESTEP_BINS

__all__ = ["approximate", "curve", "timestep_bins"]

CURVE_DEGREES = (1, 3, 7, 15)  # the largest of each depth
EXAMPLE_BATCH, PROBE_BATCH = 2, 8  # of the comparison between passes, and of what measures sensitivity


def timestep_bins(graph: ModelGraph, rows: int = TIMESTEP_BINS) -> int:
    """How many rows the tables of a graph have: one if it reads no timestep."""
    return rows if any(spec.name == "timestep" for spec in graph.inputs) else 1


def approximate(
    program: ModelGraph,
    options: ApproximationOptions,
    choose: Callable[[Judge], Mapping[str, int]],
    recorded: Calibration | None,
    rows: int = TIMESTEP_BINS,
    fit: Fit = weighted,
) -> ModelGraph:
    """The graph with its norms and activations as the options say; itself if it has none.

    Args:
        choose: the degree of each site, by name.
        recorded: calls to fit to and to judge by, in place of the model's own sampler.
        rows: of tables over the timestep.
        fit: how coefficients are found.

    Raises:
        CompileError: if a range does not allow a polynomial, or the degrees cannot be chosen.
    """
    bins = timestep_bins(program, rows)
    calibration, trial = calibrations(program, recorded)
    graph = with_norms(program, options.norms, calibration, bins, options.sites)
    sites = find_sites(graph) if options.activations == "polynomial" else []
    sites = [site for site in sites if options.sites == "all" or is_inner(site.node)]
    if not sites and graph is program:
        return program
    reference = trial.run(program)
    statistics = collect(graph, calibration, {site.argument.name for site in sites}, bins)
    judge = Judge(graph, reference, trial, Fitter(sites, statistics, fit))
    degrees = choose(judge) if sites else {}
    tables = {site.name: judge.fitter.table(site.name, degrees[site.name]) for site in sites}
    new = with_polynomials(graph, sites, tables, options.clamp)
    measured, outside = psnr_db(reference, trial.run(new)), excursions(new, trial)
    if outside and not np.isfinite(measured):
        raise CompileError(
            Diagnostic(f"a polynomial explodes out of its range: {outside[0]}", help="another --degree or --norms, or --clamp")
        )
    promised = options.budget_db if options.budget_db is not None else measured - MARGIN_DB
    measures = options.budget_db is not None or options.total_depth is not None
    points = curve(judge) if measures else ()
    probes = [_cut(new, call, PROBE_BATCH) for call in calibration]
    records = _records(new, judge, degrees, statistics, judge.sensitivity(probes, bins))
    example = _cut(new, calibration.calls[len(calibration) // 2], EXAMPLE_BATCH).inputs
    record = Approximation(
        options.norms, promised, measured, records, outside, points, trial, example
    )  # fmt: skip
    return replace(new, approximation=record)


def curve(judge: Judge) -> tuple[CurvePoint, ...]:
    """PSNR against total depth: one degree everywhere, and degrees by the error budget."""
    points, sites = [], len(judge.fitter.sites)
    for degree in CURVE_DEGREES:
        points.append(CurvePoint(degree, depth(degree) * sites, judge.psnr_db(uniform(judge, degree))))
    for total in sorted({point.total_depth for point in points}):
        degrees = for_depth(judge, total)
        spent = sum(depth(degree) for degree in degrees.values())
        points.append(CurvePoint(None, spent, judge.psnr_db(degrees)))
    return tuple(points)


def _records(
    graph: ModelGraph, judge: Judge, degrees: Mapping[str, int], statistics: Statistics, sensitivity: Mapping[str, Floats]
) -> tuple[SiteRecord, ...]:
    """One record per polynomial of the graph, in its order."""
    nodes = [node for node in graph.nodes if str(node.target) == POLYNOMIAL]
    records = []
    for node, (name, site) in zip(nodes, judge.fitter.sites.items(), strict=True):
        table, found = judge.fitter.table(name, degrees[name]), statistics[site.argument.name]
        error = float(np.sqrt(np.mean(judge.fitter.errors(name, degrees[name]))))
        records.append(
            SiteRecord(
                node.name, site.function, info(node).path, info(node).source, degrees[name], depth(degrees[name]),
                float(table.low.min()), float(table.high.max()), error, tuple(map(float, sensitivity[name])),
                tuple(map(float, found.histogram.sum(axis=0))),
            )
        )  # fmt: skip
    return tuple(records)


def _cut(graph: ModelGraph, call: Call, batch: int) -> Call:
    """The call with at most so large a batch."""
    shapes = {spec.name: concrete_shape(spec.shape, batch) for spec in graph.inputs}
    return Call({name: np.asarray(call.inputs[name][tuple(map(slice, shape))]) for name, shape in shapes.items()})
