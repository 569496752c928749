"""How long inputs are damaged at random, and how much memory that may take."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

__all__ = ["BRIEFLY_AND_LONGER", "MOST_MIB", "TARGETS", "bounded_memory", "damaged_for_a_while"]

SECONDS = float(os.environ.get("HECOMPILE_FUZZ_SECONDS", "20"))  # of all targets together
TARGETS = 15
MOST_MIB = 400  # that any of them may take beyond what was there before
BRIEFLY_AND_LONGER = pytest.mark.parametrize(
    "seconds", [pytest.param(0.25, id="briefly"), pytest.param(SECONDS / TARGETS, id="longer", marks=pytest.mark.slow)]
)
_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def damaged_for_a_while(example: Callable[[Random], None], seconds: float) -> int:
    """Run an example with one generator after another until the time is over; how many ran."""
    count, end = 0, time.monotonic() + seconds

    @settings(max_examples=20, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def some(random: Random) -> None:
        nonlocal count
        count += 1
        example(random)

    while time.monotonic() < end:
        some()
    return count


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Fails if the process took more than `MOST_MIB` in between, at any moment."""
    _REFS.write_text("5")  # forgets the peak so far
    before = _mib("VmRSS")
    yield
    assert _mib("VmHWM") - before < MOST_MIB


def _mib(what: str) -> float:
    match = re.search(rf"{what}:\s+(\d+) kB", _STATUS.read_text())
    assert match
    return int(match[1]) / 1024
