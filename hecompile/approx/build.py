"""Approximates a graph: replaces norms, finds ranges, fits polynomials of chosen degrees, and records how good the result is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from hecompile.approx.degrees import MARGIN_DB, for_depth, uniform
from hecompile.approx.fits import Fit, Floats, depth, weighted
from hecompile.approx.inner import is_inner
from hecompile.approx.norms import with_norms
from hecompile.approx.options import ApproximationOptions
from hecompile.approx.out_of_range import out_of_range
from hecompile.approx.quality import Quality
from hecompile.approx.rewrite import with_polynomials
from hecompile.approx.sites import find_sites
from hecompile.approx.tables import Fitter
from hecompile.approx.validation import calibrations, psnr_db
from hecompile.calibration import Calibration, Call, Statistics, collect
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.approximation import Approximation, CurvePoint, SiteRecord
from hecompile.ir.graph import ModelGraph, concrete_shape, info
from hecompile.ir.ops import POLYNOMIAL
from hecompile.ir.timesteps import TIMESTEP_BINS

__all__ = ["approximate", "curve", "timestep_bins"]

CURVE_DEGREES = (1, 3, 7, 15)  # the largest of each depth
EXAMPLE_BATCH, PROBE_BATCH = 2, 8  # batches of the example that passes are compared on, and of calls that measure sensitivity


def timestep_bins(graph: ModelGraph, rows: int = TIMESTEP_BINS) -> int:
    """How many rows the tables of a graph have: `rows`, or one if it reads no timestep."""
    return rows if any(spec.name == "timestep" for spec in graph.inputs) else 1


def approximate(
    program: ModelGraph,
    options: ApproximationOptions,
    choose: Callable[[Quality], Mapping[str, int]],
    recorded: Calibration | None,
    rows: int = TIMESTEP_BINS,
    fit: Fit = weighted,
) -> ModelGraph:
    """Return the graph with norms and activations approximated as the options say, or `program` itself if it has none.

    Args:
        choose: chooses the degree of each site, by name.
        recorded: calls to fit to and to validate with, in place of the model's own sampler.
        rows: how many rows timestep tables have.
        fit: finds the coefficients of a polynomial.

    Raises:
        CompileError: if a range does not allow a polynomial, or the degrees cannot be chosen.
    """
    bins = timestep_bins(program, rows)
    calibration, validation = calibrations(program, recorded)
    graph = with_norms(program, options.norms, calibration, bins, options.sites)
    sites = find_sites(graph) if options.activations == "polynomial" else []
    sites = [site for site in sites if options.sites == "all" or is_inner(site.node)]
    if not sites and graph is program:
        return program
    reference = validation.run(program)
    statistics = collect(graph, calibration, {site.argument.name for site in sites}, bins)
    quality = Quality(graph, reference, validation, Fitter(sites, statistics, fit))
    degrees = choose(quality) if sites else {}
    tables = {site.name: quality.fitter.table(site.name, degrees[site.name]) for site in sites}
    new = with_polynomials(graph, sites, tables, options.clamp)
    measured, outside = psnr_db(reference, validation.run(new)), out_of_range(new, validation)
    if outside and not np.isfinite(measured):
        raise CompileError(
            Diagnostic(
                f"a polynomial gives infinite values outside its range: {outside[0]}",
                help="another --degree or --norms, or --clamp",
            )
        )
    promised = options.budget_db if options.budget_db is not None else measured - MARGIN_DB
    measures = options.budget_db is not None or options.total_depth is not None
    points = curve(quality) if measures else ()
    probes = [_cut(new, call, PROBE_BATCH) for call in calibration]
    records = _records(new, quality, degrees, statistics, quality.sensitivity(probes, bins))
    example = _cut(new, calibration.calls[len(calibration) // 2], EXAMPLE_BATCH).inputs
    record = Approximation(
        options.norms, promised, measured, records, outside, points, validation, example
    )  # fmt: skip
    return replace(new, approximation=record)


def curve(quality: Quality) -> tuple[CurvePoint, ...]:
    """The points of PSNR against total depth, for one degree everywhere and for degrees that `for_depth` chooses."""
    points, sites = [], len(quality.fitter.sites)
    for degree in CURVE_DEGREES:
        points.append(CurvePoint(degree, depth(degree) * sites, quality.psnr_db(uniform(quality, degree))))
    for total in sorted({point.total_depth for point in points}):
        degrees = for_depth(quality, total)
        spent = sum(depth(degree) for degree in degrees.values())
        points.append(CurvePoint(None, spent, quality.psnr_db(degrees)))
    return tuple(points)


def _records(
    graph: ModelGraph, quality: Quality, degrees: Mapping[str, int], statistics: Statistics, sensitivity: Mapping[str, Floats]
) -> tuple[SiteRecord, ...]:
    """One record for every polynomial of the graph, in execution order."""
    nodes = [node for node in graph.nodes if str(node.target) == POLYNOMIAL]
    records = []
    for node, (name, site) in zip(nodes, quality.fitter.sites.items(), strict=True):
        table, argument = quality.fitter.table(name, degrees[name]), statistics[site.argument.name]
        error = float(np.sqrt(np.mean(quality.fitter.errors(name, degrees[name]))))
        records.append(
            SiteRecord(
                node.name, site.function, info(node).path, info(node).source, degrees[name], depth(degrees[name]),
                float(table.low.min()), float(table.high.max()), error, tuple(map(float, sensitivity[name])),
                tuple(map(float, argument.histogram.sum(axis=0))),
            )
        )  # fmt: skip
    return tuple(records)


def _cut(graph: ModelGraph, call: Call, batch: int) -> Call:
    """The call with only the first entries of its batch, `batch` of them at most."""
    shapes = {spec.name: concrete_shape(spec.shape, batch) for spec in graph.inputs}
    return Call({name: np.asarray(call.inputs[name][tuple(map(slice, shape))]) for name, shape in shapes.items()})
