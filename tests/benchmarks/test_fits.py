"""The fits that the library's is measured against: each is the best at what it is for, and has the numbers of the literature."""

from __future__ import annotations

import pytest

from benchmarks.baselines.fits import FITS, interpolation
from hecompile.approx.fits import mean_square_error
from tests.approx.test_fits import density, largest_error, silu


@pytest.mark.parametrize(("width", "degree", "error"), [(6, 8, 2.2e-2), (6, 15, 1.3e-3), (8, 15, 8.7e-3), (12, 31, 1.0e-3)])
def test_interpolation_has_the_errors_of_the_reference(width: float, degree: int, error: float) -> None:
    over = density(-width, width)
    assert largest_error(interpolation(silu, over, degree), over) == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("degree", [3, 7, 9])
def test_each_fit_is_the_best_by_its_own_measure(degree: int) -> None:
    over = density()
    fitted = {kind: fit(silu, over, degree) for kind, fit in FITS.items()}
    assert min(FITS, key=lambda kind: mean_square_error(silu, over, fitted[kind])) == "weighted"
    assert min(FITS, key=lambda kind: largest_error(fitted[kind], over)) == "minimax"
