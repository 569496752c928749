"""The commands that look into the compiler: its passes, the program after one of them, and a text after each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hecompile.cli.app import app
from hecompile.compiler import compile_model, pipeline
from hecompile.errors import CompileError
from hecompile.ir.program_printing import program_text
from hecompile.options import CompileOptions


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("backend", ["bfv", "ckks"])
def test_passes_are_listed_in_their_order_with_what_they_do(backend: str) -> None:
    expected = [(step.name, step.help) for step in pipeline(CompileOptions(backend=backend), Path("artifact"))]
    listing = json.loads(run("passes", "--backend", backend, "--json").stdout)
    assert listing["backend"] == backend
    assert [(row["name"], row["help"]) for row in listing["passes"]] == expected


def test_passes_are_told_a_line_each() -> None:
    lines = [line.split(maxsplit=1) for line in run("passes").stdout.splitlines()]
    assert [name for name, _ in lines] == [step.name for step in pipeline(CompileOptions(), Path("artifact"))]
    assert lines[2] == ["mark-secrets", "Mark every value that derives from a secret input."]


def test_passes_of_a_wrong_backend_list_the_right_ones() -> None:
    result = run("passes", "--backend", "none")
    assert isinstance(result.exception, CompileError)
    assert "known: " in str(result.exception)


@pytest.fixture(scope="module")
def partitioned() -> str:
    return program_text(compile_model("digits", until="partition").program)


def test_until_prints_the_program_and_nothing_else(partitioned: str) -> None:
    result = run("compile", "digits", "--until", "partition")
    assert result.stdout == partitioned
    assert [line.split()[0] for line in result.stderr.splitlines()][-1] == "partition"


def test_until_as_json(partitioned: str, tmp_path: Path) -> None:
    result = json.loads(run("compile", "digits", "--until", "partition", "--dump-ir", str(tmp_path / "ir"), "--json").stdout)
    assert result["program"] == partitioned
    assert [record["name"] for record in result["passes"]][-1] == "partition"
    assert "artifact" not in result
    assert (tmp_path / "ir" / "06-partition.txt").read_text() == partitioned


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--output is missing"),
        (["--until", "splt"], "there is no pass 'splt'"),
        (["--until", "partition", "-o", "artifact"], "is not written if compiling stops after 'partition'"),
        (["--until", "partition", "--dump-ir", "full"], "full is not empty"),
        (["--until", "partition", "--dump-ir", "full/notes"], "full/notes exists and is no folder"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    result = run("compile", "digits", *arguments)
    assert isinstance(result.exception, CompileError)
    assert reason in str(result.exception)
    assert result.stdout == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "notes"]


def test_the_commands_and_their_order() -> None:
    text = run("--help").stdout
    names = ["compile", "compile-sampler", "inspect", "plan", "measure-machine", "serve", "sample", "passes", "doctor"]
    places = [text.index(f" {name} ") for name in names]
    assert places == sorted(places)
