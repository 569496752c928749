"""Predictions before any key is made, and what is refused by them."""

from __future__ import annotations

import numpy as np
import pytest

from hecompile.backends.concrete.lookups.admission import CostLimits, PredictedCost
from hecompile.backends.concrete.lookups.lowering import Quantiser
from hecompile.errors import CompileError
from hecompile.options import CompileOptions


def test_limits_refuse_with_all_numbers() -> None:
    prediction = PredictedCost(400.0, 3000.0, 6000.0)
    prediction.refuse_above(CostLimits(500.0, 4000.0), "region")
    with pytest.raises(CompileError, match=r"400 CPU seconds.*3000 MiB") as caught:
        prediction.refuse_above(CostLimits(180.0, 2048.0), "region")
    assert "--backend concrete" in str(caught.value)


@pytest.mark.parametrize("p_error", [0.0, -1.0, 1.0, 1e-60])
def test_error_probabilities_have_a_range(p_error: float) -> None:
    with pytest.raises(CompileError, match="p_error"):
        CompileOptions(backend="concrete", p_error=p_error)


def test_quantisers_clip_what_is_not_finite() -> None:
    quantiser = Quantiser(0.5, np.array([0.0]), -8, 7)
    value = np.array([[0.2, 1.0, 100.0, -np.inf, np.inf, np.nan]], np.float32)
    np.testing.assert_array_equal(quantiser.quantise(value), [[0, 2, 7, -8, 7, 0]])
    np.testing.assert_array_equal(quantiser.value(np.array([2, -8])), [1.0, -4.0])
