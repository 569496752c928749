"""Every command of a document is one that exists: `hecompile` takes its options, files are there, the Makefile has the targets."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from hecompile.cli.app import COMMANDS, app
from hecompile.cli.flags import given_flags
from hecompile.errors import HecompileError
from hecompile.options import CompileOptions
from hecompile.options.gathering import gather
from hecompile.panels import declared
from tests.docs.blocks import DOCUMENTS, ROOT, Command, commands, of_language
from tests.docs.test_python_blocks import NEWCOMERS, named
from tests.newcomer import newcomer

ALL = [command for path in DOCUMENTS for block in of_language(path, "bash", "") for command in commands(block)]
OURS = ("hecompile", "compile-model")
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]  # of the Click that this Typer has

# what is neither ours nor judged, by program, and why
OTHERS = {
    r"(python3(\.\d+)?) -m venv": "makes an environment",
    r"\. ": "enters an environment",
    r"(\S*/)?pip install": "installs packages",
    r"(mkdir|cp|install|openssl) ": "puts files of a server where its administrator wants them",
    r"systemctl ": "an administrator's service",
    r"curl ": "asks a server by its own name",
    r"docker ": "needs a daemon; tests/deploy/test_images.py builds the images where one runs",
    r"git (clone|-C) ": "fetches the lattice estimator, which is no dependency",
    r"estimator-env/bin/": "the lattice estimator's own environment, 1.5 GB",
}
# commands of ours that no test of this file runs, and why
NOT_RUN = {
    r"hecompile demo": "goes on until it is stopped; the program of docs/demo.md starts one",
    r"hecompile serve .*--ray": "Ray starts for half a minute; tests/runtime covers it",
    r"hecompile serve": "goes on until it is stopped; the newcomer's tests start servers",
    r"hecompile sample .*--server": "needs a server; the newcomer's tests ask one",
    r"hecompile (compile|plan) (stable-diffusion|sd15)": "of Stable Diffusion's size: minutes and gigabytes",
    r"hecompile (compile|sample) shapes": "the newcomer's tests run it",
    r"hecompile (sample|inspect) my-unet|compile-model model\.onnx": "a model of the reader's own",
    r"hecompile sample saved-pipeline": "a pipeline of the reader's own",
    r".*--backend (ckks|concrete)": "takes a minute; tests of that backend compile digits with it",
    r"hecompile measure-machine": "measures for half a minute, on all cores",
    r".*--machine machine\.json": "needs the profile that measure-machine writes",
    r".*--activations polynomial": "calibrates and fits for half a minute; tests/approx covers it",
}


def parsed(words: tuple[str, ...]) -> str:
    """Reads a command as the program does, without running it: the error's text, or an empty one where it is taken.

    Options of compiling are also judged by their panels, as to values and as to whether they do something.
    """
    words = tuple(word for word in words if word != "--install-completion")  # which would act while it is parsed
    name, *arguments = ["compile", *words[1:]] if words[0] == "compile-model" else words[1:] or ["--help"]
    if name in ("--help", "--version"):
        return ""
    if name not in COMMANDS:
        return f"there is no command {name}"
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    try:
        given = command.make_context(name, arguments).params
        if name == "compile":
            options = {name for panel in gather().titles for name in declared(panel)}
            CompileOptions(**given_flags({name: value for name, value in given.items() if name in options and value != ()}))
    except (USAGE_ERROR, HecompileError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def reason(command: Command, reasons: dict[str, str]) -> str:
    """The first reason of a table that fits the command, or an empty text."""
    typed = " ".join(command.words)
    return next((why for pattern, why in reasons.items() if re.match(pattern, typed)), "")


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_commands_are_taken_by_their_parsers(path: Path) -> None:
    ours = [command for command in ALL if command.block.document == path and command.words[0] in OURS]
    assert [f"{command.block.name}: {command.text}: {said}" for command in ours if (said := parsed(command.words))] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_commands_within_sentences_have_options_that_exist(path: Path) -> None:
    inline = [code for code in re.findall(r"`((?:hecompile|compile-model) [^`]+)`", path.read_text("utf-8")) if "..." not in code]
    said = {code: parsed(tuple(shlex.split(code))) for code in inline}
    assert {code: text for code, text in said.items() if text and not text.startswith("MissingParameter")} == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hecompile compile digits -o x --bakend bfv", "NoSuchOption"),
        ("hecompile compile digits -o x --goal speed", "goal"),
        ("hecompile compile digits -o x --tile 4x4", "leave --tile away"),
        ("compile-model digits -o x --degre 3", "NoSuchOption"),
        ("hecompile serve", "MissingParameter"),
        ("hecompile compile-all digits", "no command"),
    ],
)
def test_a_command_that_is_wrong_is_found(line: str, said: str) -> None:
    assert said in parsed(tuple(line.split()))


def test_programs_and_targets_that_documents_run_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    missing = list[str]()
    for command in ALL:
        program, *rest = command.words
        if program in OURS or reason(command, OTHERS):
            continue
        if program == "make":
            missing += [] if {word for word in rest if "=" not in word} <= targets else [command.text]
        elif program == "python" and rest[:1] == ["-m"]:
            name = rest[1].replace(".", "/")
            missing += [] if rest[1] == "pytest" or (ROOT / f"{name}.py").exists() or (ROOT / name).is_dir() else [command.text]
            files = [word for word in rest[2:] if word.endswith(".py")]
            missing += [file for file in files if not (ROOT / file).exists()]
        elif program == "python":
            missing += [] if (ROOT / rest[0]).exists() else [command.text]
        else:
            missing.append(command.text)
    assert missing == []


@pytest.mark.parametrize("table", [OTHERS, NOT_RUN], ids=["others", "not run"])
def test_every_reason_has_a_command(table: dict[str, str]) -> None:
    idle = [pattern for pattern in table if not any(re.match(pattern, " ".join(command.words)) for command in ALL)]
    assert idle == []


def cheap(path: Path) -> list[Command]:
    """The commands of ours in a document that run in a test."""
    ours = [command for command in ALL if command.block.document == path and command.words[0] in OURS]
    return [command for command in ours if not reason(command, NOT_RUN)]


RUN = [path for path in DOCUMENTS if path not in NEWCOMERS and cheap(path)]


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=named)
def test_the_commands_of_a_document_run(path: Path, tmp_path: Path) -> None:
    programs = Path(sysconfig.get_path("scripts"))
    needed = {word for command in cheap(path) for word in command.words if word == "digits.he"}
    made = {command.words[command.words.index("-o") + 1] for command in cheap(path) if "-o" in command.words}
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    with newcomer(tmp_path, programs, whole=False) as person:
        for name in needed - made:  # of an earlier document, as its reader has it
            subprocess.run(["hecompile", "compile", "digits", "-o", name], cwd=tmp_path, env=environment, check=True)
        for command in cheap(path):
            person._command(["bash", "-ec", command.text])


def test_several_documents_have_commands_that_run() -> None:
    assert len(RUN) >= 2
