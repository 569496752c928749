"""The options of `hecompile serve`: what is out of range is one sentence, and nothing is served."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hecompile.cli.app import app
from hecompile.compiler import Compiled
from hecompile.errors import CompileError


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--queue-s", "nan", "queue_s is nan"),
        ("--queue-s", "-1", "queue_s is -1.0"),
        ("--connections", "0", "connections is 0"),
        ("--connections", "3", "too few"),
        ("--connections", "1000000000000000000000", "may open"),
        ("--sessions", "0", "sessions is 0"),
        ("--session-idle-s", "inf", "session_idle_s is inf"),
        *[(option, value, f"{option} ") for option in ("--body-mib", "--key-mib") for value in ("-1", "0", "nan", "inf", "1e300")],
        ("--body-mib", "1e-300", "body_bytes is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(tiny: Compiled, option: str, value: str, reason: str) -> None:
    result = CliRunner().invoke(app, ["serve", str(tiny.artifact), "--port", "0", option, value])
    assert isinstance(result.exception, CompileError)
    assert reason in str(result.exception)
    assert result.output == ""
