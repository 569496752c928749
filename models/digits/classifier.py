"""Recognises digits with a support vector machine that was trained on all real digits, in order to check drawn ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

__all__ = ["holdout_accuracy", "recognised_share"]


def _machine() -> Any:
    """Return an untrained support vector machine."""
    return SVC(gamma=0.001)  # the value that scikit-learn's example uses for these digits


@lru_cache(maxsize=1)
def _trained() -> Any:
    """Return the support vector machine trained on all real digits."""
    data = load_digits()
    return _machine().fit(data.data, data.target)


def holdout_accuracy() -> float:
    """Return the share of real digits that the classifier recognises without having seen them, by five-fold cross-validation."""
    data = load_digits()
    return float(cross_val_score(_machine(), data.data, data.target, cv=5).mean())


def recognised_share(images: npt.NDArray[Any], labels: Sequence[int]) -> float:
    """Return the share of images (B, 8, 8, 1) in [0, 1] that the classifier recognises as their label."""
    predicted = _trained().predict(images.reshape(len(images), 64) * 16)
    return float((predicted == np.asarray(labels)).mean())
