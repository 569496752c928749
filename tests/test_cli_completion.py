"""What the shell suggests for the two commands, and how they tell their usage and version."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from hecompile.cli.app import app

COMMANDS = {"hecompile": "main", "compile-model": "compile_model"}


def process(command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One of the two commands in a process of its own."""
    code = f"from hecompile.cli import {COMMANDS[command]} as run; run()"
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120, "env": {**os.environ, **environment}}
    return subprocess.run([sys.executable, "-c", code, *arguments], **settings, check=False)


def suggested(line: str) -> list[str]:
    """What bash would offer for the last word of a line."""
    words = line.split(" ")
    variable = f"_{words[0].replace('-', '_').upper()}_COMPLETE"
    asked = {variable: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return process(words[0], **asked).stdout.split()


@pytest.mark.parametrize(
    ("line", "suggestions"),
    [
        ("hecompile comp", ["compile", "compile-sampler"]),
        ("hecompile --vers", ["--version"]),
        ("hecompile compile digits --max-b", ["--max-batch"]),
        ("hecompile compile digits --protect", []),
        ("hecompile compile digits --partition ", ["all", "optimised"]),
        ("hecompile compile digits --policy ", ["strict", "simulation", "min-distortion"]),
        ("hecompile compile digits --importance h", ["hill", "hill-summed"]),
        ("hecompile compile digits --security ", ["128"]),
        ("hecompile compile dig", ["digits", "digits-unconditional"]),
        ("hecompile compile sd", []),
        ("hecompile plan sd1", ["sd15-shaped"]),
        ("hecompile sample here --scheduler p", ["pndm"]),
        ("hecompile sample here --policy s", ["strict", "simulation"]),
        ("compile-model dig", ["digits", "digits-unconditional"]),
        ("compile-model digits --goal ", ["latency", "client-cpu", "server-cpu", "bytes"]),
    ],
)
def test_a_shell_is_told_how_a_line_goes_on(line: str, suggestions: list[str]) -> None:
    assert suggested(line) == suggestions


def test_backends_are_suggested_that_run_models() -> None:
    assert "sampler_step" not in suggested("hecompile compile digits --backend ")
    assert "bfv" in suggested("hecompile passes --backend ")


def test_suggestions_load_no_compiler() -> None:
    code = (
        "import sys\ntry:\n    from hecompile.cli import main; main()\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'diffusers', 'onnxruntime'} & set(sys.modules))"
    )
    asked = {"_HECOMPILE_COMPLETE": "complete_bash", "COMP_WORDS": "hecompile compile digits --backend ", "COMP_CWORD": "4"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked}, check=True)
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_script_for_a_shell(command: str) -> None:
    result = process(command, "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert f"_{command.replace('-', '_').upper()}_COMPLETE=complete_bash" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_version_is_told_without_torch(command: str) -> None:
    from hecompile.version import __version__

    code = (
        f"import sys\ntry:\n    sys.argv[1:] = ['--version']\n    from hecompile.cli import {COMMANDS[command]} as run; run()\n"
        "except SystemExit:\n    pass\nprint('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [f"hecompile {__version__}", "False"]


def test_the_usage_of_compile_model() -> None:
    assert "Usage: compile-model [OPTIONS] SOURCE" in process("compile-model", "--help").stdout


def test_the_usage_of_compile() -> None:
    assert "Usage: root compile [OPTIONS] SOURCE" in CliRunner().invoke(app, ["compile", "--help"]).stdout


def test_an_error_of_compile_model_names_it() -> None:
    result = process("compile-model", "digits", "--no-such-thing")
    assert result.returncode == 2
    assert "Try 'compile-model --help' for help" in result.stderr


@pytest.mark.parametrize(
    "values", ["[strict|simulation|min-distortion]", "[128]", "[all|optimised]", "[bfv|clear|ckks|ckks_clear|concrete"]
)
def test_help_lists_what_may_be_chosen(values: str) -> None:
    text = CliRunner().invoke(app, ["compile", "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"}).stdout
    assert values in text


def test_help_leaves_out_what_is_always_refused() -> None:
    assert "--protect-weights" not in CliRunner().invoke(app, ["compile", "--help"]).stdout
