"""Every code block of README.md and of the quickstart runs, in order, in an empty folder and an environment of its own.

`HECOMPILE_WHOLE_INSTALL=1` runs the quickstart's own `pip install` lines, with torch, in place of a wheel with borrowed packages.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.newcomer import NOT_RUN, ROOT, Newcomer, blocks, fresh_environment, newcomer, reason_not_to_run

WHOLE = bool(os.environ.get("HECOMPILE_WHOLE_INSTALL"))
README, QUICKSTART = ROOT / "README.md", ROOT / "docs" / "quickstart.md"
LANGUAGES = {"python", "bash"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_environment(tmp_path_factory.mktemp("environment") / "venv", WHOLE)


def run_all(document: Path, folder: Path, programs: Path) -> None:
    with newcomer(folder, programs, WHOLE) as person:
        for block in blocks(document):
            person.run(block)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_the_quickstart_is_short() -> None:
    assert len(QUICKSTART.read_text("utf-8").splitlines()) <= 80


@pytest.mark.parametrize("document", [README, QUICKSTART], ids=lambda path: path.name)
def test_blocks_are_of_languages_that_run(document: Path) -> None:
    assert {block.language for block in blocks(document)} <= LANGUAGES


def test_every_reason_not_to_run_a_line_has_such_a_line() -> None:
    lines = [line for path in (README, QUICKSTART) for block in blocks(path) for line in block.text.splitlines()]
    assert {reason_not_to_run(line, whole=False) for line in lines} == {"", *NOT_RUN.values()}


@pytest.mark.slow
def test_hecompile_is_the_one_of_the_fresh_environment(programs: Path, tmp_path: Path) -> None:
    command = [str(programs / "python"), "-c", "import hecompile; print(hecompile.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(programs.parent)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quickstart_from_top_to_bottom(programs: Path, tmp_path: Path) -> None:
    run_all(QUICKSTART, tmp_path, programs)
    assert size(tmp_path / "seven.png")[0] >= 8
    assert size(tmp_path / "scene.png") == (32, 32)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_readme_from_top_to_bottom(programs: Path, tmp_path: Path) -> None:
    run_all(README, tmp_path, programs)
    assert (tmp_path / "out" / "seven.png").is_file()
    assert (tmp_path / "seven.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_a_block_that_fails_is_told_with_what_it_said(programs: Path, tmp_path: Path) -> None:
    person = Newcomer(tmp_path, programs, WHOLE)
    with pytest.raises(AssertionError, match="there is no backend 'none'"):
        person._command(["bash", "-ec", "hecompile compile digits -o never --backend none"])
