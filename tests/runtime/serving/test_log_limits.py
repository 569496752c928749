"""Logs: one line of a kind in a minute, with the number of those that were left out."""

from __future__ import annotations

import logging

import pytest

from hecompile.errors import CompileError
from hecompile.runtime.serving.limits import Limits, limits_of_machine
from hecompile.runtime.serving.log_limits import PERIOD_S, OncePerMinute


def record(text: str, line: int = 1, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("uvicorn.error", level, "file", line, text, (), None)


def test_a_kind_of_line_is_written_once_in_a_while() -> None:
    now = 0.0
    seldom = OncePerMinute(lambda: now)
    assert [seldom.filter(record("again")) for _ in range(5)] == [True, False, False, False, False]
    assert seldom.filter(record("another"))
    now = PERIOD_S + 1
    last = record("again")
    assert seldom.filter(last)
    assert last.getMessage() == "again (4 more like this in the meantime)"


def test_lines_that_differ_in_a_strangers_text_are_bounded() -> None:
    seldom = OncePerMinute(lambda: 0.0)
    assert sum(seldom.filter(record(f"text {number}")) for number in range(10_000)) < 300


def test_debugging_is_not_filtered() -> None:
    seldom = OncePerMinute(lambda: 0.0)
    assert all(seldom.filter(record("again", level=logging.DEBUG)) for _ in range(5))


def test_limits_that_cannot_work_are_refused() -> None:
    for given, reason in (
        ({"connections": 1}, "too few"),
        ({"connections": 10**7}, "may open"),
        ({"queue_s": 0.0}, "above zero"),
        ({"queue_s": float("nan")}, "above zero"),
        ({"body_bytes": 100}, "four of them"),
    ):
        with pytest.raises(CompileError, match=reason):
            limits_of_machine(1000, **given)


def test_the_limits_of_a_machine_leave_descriptors_over() -> None:
    import resource

    limits = limits_of_machine(1000)
    assert limits.connections < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert limits_of_machine(10 << 30).body_bytes >= 40 << 30
    assert all(name in str(Limits()) for name in ("connections", "sessions", "MiB"))
