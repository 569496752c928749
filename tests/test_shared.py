"""What tests share is made once, and again if making it was interrupted or it was changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hecompile.compiler import Compiled
from hecompile.ir.program_printing import print_program
from tests import artifacts
from tests.artifacts import shared
from tests.networks import Tiny, tiny_inputs
from tests.programs import program_of


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty store, as another process finds it."""
    monkeypatch.setattr(artifacts, "STORE", tmp_path)
    monkeypatch.setattr(artifacts, "_held", {})


def write(folder: Path) -> int:
    """Write a file, and count how often that was done."""
    folder.mkdir()
    (folder / "file").write_text("whole")
    BUILDS.append(folder)
    return len(BUILDS)


BUILDS: list[Path] = []


def again() -> int:
    """What another process is given."""
    artifacts._held.clear()
    return shared("a name", write)


def test_it_is_made_once() -> None:
    first = shared("a name", write)
    assert (BUILDS[-1] / "file").read_text() == "whole"
    assert again() == first
    assert shared("another name", write) == first + 1


def test_what_was_changed_is_made_again() -> None:
    first = shared("a name", write)
    (BUILDS[-1] / "file").write_text("changed")
    assert again() == first + 1
    assert (BUILDS[-1] / "file").read_text() == "whole"


def test_what_was_interrupted_is_made_again() -> None:
    def interrupted(folder: Path) -> int:
        write(folder)
        if len(BUILDS) == before + 1:
            raise KeyboardInterrupt
        return len(BUILDS)

    before = len(BUILDS)
    with pytest.raises(KeyboardInterrupt):
        shared("a name", interrupted)
    assert shared("a name", interrupted) == before + 2


def test_a_program_comes_back_as_it_was(tiny_clear: Compiled) -> None:
    same = shared("program", lambda folder: tiny_clear)
    assert same is not tiny_clear
    assert print_program(program_of(same)) == print_program(program_of(tiny_clear))
    inputs = {name: value.numpy() for name, value in tiny_inputs().items()}
    values = dict(zip([spec.name for spec in same.program.inputs], inputs.values(), strict=True))
    (name,) = program_of(same).plan.outputs
    result, expected = (program_of(program).run(values)[name] for program in (same, tiny_clear))
    assert (result == expected).all()
    with torch.no_grad():
        exact = Tiny().eval()(**tiny_inputs()).numpy()
    assert abs(result - exact).max() < 0.02 * abs(exact).max()
