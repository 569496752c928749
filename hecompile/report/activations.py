"""What a report says of polynomials: a line in words, a row per site, the plot of PSNR against total depth."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np

from hecompile.ir.approximation import Approximation, CurvePoint

__all__ = ["plot", "section"]


def section(record: Approximation) -> dict[str, object]:
    """What the template shows."""
    text = (
        f"{len(record.sites)} polynomials, total depth {record.total_depth}, norms {record.norms}: "
        f"{record.measured_db:.1f} dB on the trial, {record.promised_db:.1f} dB promised."
    )
    tallest = [max(site.histogram, default=0) or 1 for site in record.sites]
    bars = [[round((count / most) ** 0.5, 3) for count in site.histogram] for site, most in zip(record.sites, tallest, strict=True)]
    return {
        "text": text,
        "sites": list(zip(record.sites, bars, strict=True)),
        "sensitivity": {site.name: _span(site.sensitivity) for site in record.sites},
        "excursions": [str(each) for each in record.excursions],
        "plot": base64.b64encode(plot(record.curve)).decode() if record.curve else "",
    }


def _span(values: Sequence[float]) -> str:
    """Least to largest over the timestep bins."""
    finite = [value for value in values if np.isfinite(value)]
    return f"{min(finite):.2g} to {max(finite):.2g}" if finite else ""


def plot(points: Sequence[CurvePoint]) -> bytes:
    """PNG: PSNR over total depth, a line for one degree everywhere, and one for degrees by the error budget."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    lines: dict[str, list[CurvePoint]] = {}
    for point in points:
        lines.setdefault("error budget" if point.degree is None else "one degree", []).append(point)
    for label, line in lines.items():
        drawn = [point for point in line if np.isfinite(point.psnr_db)]
        style = "s--" if line[0].degree is None else "o-"
        axes.plot([point.total_depth for point in drawn], [point.psnr_db for point in drawn], style, label=label)
    axes.set_xlabel("total depth")
    axes.set_ylabel("PSNR (dB)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
