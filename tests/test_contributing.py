"""The checklists of CONTRIBUTING.md are carried out in a copy of the repository: no step is missing, and none is superfluous."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from hecompile import _core

ROOT = Path(__file__).parents[1]
NEEDED = ("hecompile", "passes", "runtime", "models", "tests", "docs", "benchmarks", "examples", "release", "deploy")
FILES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "constraints.txt")
KINDS = ("pass", "backend", "policy", "transport")
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.M | re.S)
# a Python of this environment in which the copy stands for the installed hecompile, which a normal start would put first
START = """\
import runpy, sys
sys.path[:0] = [{copy!r}]
sys.path.append({site!r})
module, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: `sh` is run, `diff` is applied."""

    language: str
    text: str


@dataclass(frozen=True)
class Checklist:
    """The steps of a list, each with the blocks that carry it out, and the command that must succeed at the end."""

    steps: tuple[tuple[Block, ...], ...]
    check: str


@cache
def checklist(kind: str) -> Checklist:
    """The list for one kind of addition."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.split(r"^##+ ", text.partition(f"### A {kind}\n")[2], flags=re.M)[0]
    steps, _, end = section.partition("\nThen these pass")
    parts = re.split(r"^\d+\. ", steps, flags=re.M)[1:]
    return Checklist(tuple(blocks(part) for part in parts), blocks(end)[-1].text)


def blocks(text: str) -> tuple[Block, ...]:
    """The fenced blocks of a text, without its indentation."""
    return tuple(Block(match[1], textwrap.dedent(match[2])) for match in BLOCK.finditer(text))


def file_of(diff: str) -> str:
    """The file that a `diff` block changes, in its first line."""
    return diff.partition("\n")[0].removeprefix("--- ")


def changed(text: str, diff: str) -> str:
    """A file's text after a `diff` block. Raises `ValueError` unless the lines that the block finds stand there exactly once."""
    lines = diff.splitlines()[1:]
    before, after = ("".join(f"{line[1:]}\n" for line in lines if line[0] in kept) for kept in (" -", " +"))
    if f"\n{text}".count(f"\n{before}") != 1:
        raise ValueError(f"{file_of(diff)} does not have these lines exactly once:\n{before}")
    return f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]


@dataclass(frozen=True)
class Copy:
    """A copy of the repository, and commands that use it."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> Copy:
        """A new copy, with the compiled core of this environment."""
        skipped = shutil.ignore_patterns("__pycache__", "*.pyc", "_core*.so")
        for name in NEEDED:
            shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=skipped)
        for name in FILES:
            shutil.copy(ROOT / name, root / name)
        core = Path(_core.__file__)
        (root / "hecompile" / core.name).symlink_to(core)
        (root / "build" / "bin").mkdir(parents=True)
        site = sysconfig.get_path("purelib")
        (root / "build" / "start.py").write_text(START.format(copy=str(root), site=site))
        run = f'exec "{sys.executable}" -S "{root}/build/start.py"'
        commands = {
            "hecompile": f'{run} run_hecompile "$@"',
            "pytest": f'{run} pytest "$@"',
            "python": f'shift; {run} "$@"',
        }
        (root / "run_hecompile.py").write_text("from hecompile.cli import main\nmain()\n")
        for name, line in commands.items():
            (root / "build" / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (root / "build" / "bin" / name).chmod(0o755)
        return cls(root)

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script with the commands of the copy; it ends at the first that fails."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_", "HECOMPILE"))}
        environment = {**kept, "PATH": f"{self.root}/build/bin:{kept['PATH']}"}
        return subprocess.run(
            ["sh", "-ec", script], cwd=self.root, env=environment, capture_output=True, text=True, timeout=900, check=False
        )

    def carry_out(self, steps: Sequence[Sequence[Block]]) -> None:
        """Do these steps. Raises `ValueError` for one that cannot be done."""
        for step in steps:
            for block in step:
                if block.language == "diff":
                    path = self.root / file_of(block.text)
                    path.write_text(changed(path.read_text(encoding="utf-8"), block.text), encoding="utf-8")
                elif (done := self.shell(block.text)).returncode:
                    raise ValueError(f"{block.text}{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def check(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run the commands at the end of a list; of the tests, which come last, up to the first that fails."""
        return self.shell(f"{command.strip()} -x -q -p no:cacheprovider -p no:schemathesis -p no:xdist")


@pytest.mark.parametrize("kind", KINDS)
def test_a_checklist_has_steps_and_ends_with_tests(kind: str) -> None:
    steps = checklist(kind).steps
    assert len(steps) >= 3
    assert all(steps)
    assert {block.language for step in steps for block in step} <= {"sh", "diff"}
    assert checklist(kind).check.splitlines()[-1].startswith("pytest ")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_checklist_changes_is_there(kind: str) -> None:
    """The quick part: every line that a step finds or replaces stands in its file once, after the steps before it."""
    texts: dict[str, str] = {}
    for block in (block for step in checklist(kind).steps for block in step if block.language == "diff"):
        name = file_of(block.text)
        texts[name] = changed(texts.get(name) or (ROOT / name).read_text(encoding="utf-8"), block.text)
    assert texts


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_checklist_is_complete(kind: str, tmp_path: Path) -> None:
    copy = Copy.at(tmp_path / "copy")
    copy.carry_out(checklist(kind).steps)
    done = copy.check(checklist(kind).check)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]  # 5 would say that no test ran


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "left_out"), [(kind, number) for kind in KINDS for number in range(1, len(checklist(kind).steps) + 1)]
)
def test_no_step_of_a_checklist_is_superfluous(kind: str, left_out: int, tmp_path: Path) -> None:
    """Without it a later step cannot be done, or a test at the end fails."""
    copy = Copy.at(tmp_path / "copy")
    steps = checklist(kind).steps
    try:
        copy.carry_out([step for number, step in enumerate(steps, 1) if number != left_out])
    except ValueError:
        return
    assert copy.check(checklist(kind).check).returncode != 0


def test_a_diff_is_applied_at_one_place_only() -> None:
    text = "one\ntwo\none\n"
    assert changed(text, "--- file.py\n two\n+between\n") == "one\ntwo\nbetween\none\n"
    assert changed(text, "--- file.py\n-two\n-one\n+three\n") == "one\nthree\n"
    for wrong in ("-one\n+three", " absent\n+three"):
        with pytest.raises(ValueError, match=r"file\.py does not have these lines exactly once"):
            changed(text, f"--- file.py\n{wrong}\n")
