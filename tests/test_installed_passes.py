"""Passes of other packages: they run where they are asked for, behind the pass that they name, and are refused in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from hecompile import installed_passes as module
from hecompile.cli.app import app
from hecompile.compiler import compile_model
from hecompile.errors import CompileError
from hecompile.ir.graph import ModelGraph
from hecompile.options import CompileOptions
from hecompile.passes.base import Pass
from tests.networks import Tiny, tiny_inputs


@dataclass(frozen=True)
class Looking(Pass[ModelGraph, ModelGraph]):
    """A pass of another package: before -> before."""

    after = "canonicalize"

    def run(self, program: ModelGraph) -> ModelGraph:
        return program


class Nowhere(Looking):
    """One that follows a pass that there is not."""

    after = "canonicalise"


@dataclass(frozen=True)
class Anywhere(Pass[ModelGraph, ModelGraph]):
    """One that says not what it follows."""

    def run(self, program: ModelGraph) -> ModelGraph:
        return program


class Split(Looking):
    """One with the name of the compiler's own."""


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"looking": "Looking", "nowhere": "Nowhere", "anywhere": "Anywhere", "split": "Split", "other": "Looking"}
    values |= {"absent": "Absent", "no-pass": "Tiny"}
    points = {name: EntryPoint(name, f"{__name__}:{value}", module.GROUP) for name, value in values.items()}
    monkeypatch.setattr(module, "installed_passes", lambda: points)


def names(*passes: str) -> list[str]:
    """The passes that ran, up to the marking of secrets."""
    options = CompileOptions(backend="clear", passes=passes)
    done = compile_model(Tiny().eval(), options=options, example_inputs=tiny_inputs(), until="mark-secrets")
    return [record.name for record in done.passes]


def test_a_pass_runs_only_where_it_is_asked_for() -> None:
    assert names() == ["trace", "canonicalize", "mark-secrets"]
    assert names("looking") == ["trace", "canonicalize", "looking", "mark-secrets"]


def test_a_pass_that_is_asked_for_twice_runs_once() -> None:
    assert names("looking", "looking") == names("looking")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lookin", r"there is no installed pass 'lookin'\n.*known: .*looking, no-pass, nowhere"),
        ("nowhere", r"pass 'nowhere' follows 'canonicalise', which is no pass\n  help: known: trace, canonicalize, "),
        ("anywhere", r"pass 'anywhere' follows no pass: its class needs an attribute 'after'"),
        ("split", "there is already a pass 'split'"),
        ("other", r"'.*:Looking' is not a pass named 'other'"),
        ("absent", r"pass 'absent' does not load: .*\n  help: it is '.*:Absent'"),
        ("no-pass", r"'.*:Tiny' is not a pass named 'no-pass'"),
    ],
)
def test_a_pass_that_cannot_run_is_refused(name: str, reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        names(name)


def test_installed_passes_are_listed_and_none_is_loaded() -> None:
    """One of them cannot be loaded, and is listed all the same."""
    listing = json.loads(CliRunner().invoke(app, ["passes", "--json"]).stdout)
    assert listing["installed"]["absent"] == f"{__name__}:Absent"
    lines = CliRunner().invoke(app, ["passes"]).stdout.splitlines()
    assert f"only with --passes looking, from {__name__}:Looking" in next(line for line in lines if line.startswith("looking "))


def test_the_shell_asks_for_passes() -> None:
    result = CliRunner().invoke(app, ["compile", "digits", "--until", "canonicalize", "--passes", "looking", "--passes", "none"])
    assert "there is no installed pass 'none'" in str(result.exception)
    result = CliRunner().invoke(app, ["compile", "digits", "--until", "looking", "--passes", "looking"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["trace", "canonicalize", "looking"]
