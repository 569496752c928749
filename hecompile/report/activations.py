"""What a report says of polynomials: a line in words, and a row for each site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hecompile.ir.approximation import Approximation

__all__ = ["section"]


def section(record: Approximation) -> dict[str, object]:
    """Return what the report says of polynomials: a sentence, a row with a histogram for each site, and values out of range."""
    text = (
        f"{len(record.sites)} polynomials, total depth {record.total_depth}, norms {record.norms}: "
        f"{record.measured_db:.1f} dB on the validation run, {record.promised_db:.1f} dB promised."
    )
    tallest = [max(site.histogram, default=0) or 1 for site in record.sites]
    bars = [[round((count / most) ** 0.5, 3) for count in site.histogram] for site, most in zip(record.sites, tallest, strict=True)]
    return {
        "text": text,
        "sites": list(zip(record.sites, bars, strict=True)),
        "sensitivity": {site.name: _span(site.sensitivity) for site in record.sites},
        "out_of_range": [str(event) for event in record.out_of_range],
    }


def _span(values: Sequence[float]) -> str:
    """Least to largest over the timestep bins."""
    finite = [value for value in values if np.isfinite(value)]
    return f"{min(finite):.2g} to {max(finite):.2g}" if finite else ""
