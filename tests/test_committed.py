"""What may be committed: large files, unfinished merges and ends of files are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.committed import MOST_BYTES, faults, main, tracked
from release.environments import ROOT


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout of git")
def test_the_repository_is_as_it_should_be() -> None:
    assert faults(ROOT, tracked(ROOT)) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"one\n", []),
        (b"", []),
        (b"one", ["text.md: the last line does not end"]),
        (b"one\n\n", ["text.md: empty lines at the end"]),
        (b"\n", ["text.md: empty lines at the end"]),
        (b"a title\n=======\n", []),
        (
            b"one\n<<<<<<< ours\ntwo\n=======\n>>>>>>> theirs\n",
            ["text.md:2: a conflict of a merge is left", "text.md:5: a conflict of a merge is left"],
        ),
        (b"\0<<<<<<< data", []),
        (b"\0" * (MOST_BYTES + 1), [f"text.md: {MOST_BYTES + 1:,} bytes, more than {MOST_BYTES:,}"]),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, data: bytes, told: list[str]) -> None:
    (tmp_path / "text.md").write_bytes(data)
    assert faults(tmp_path, ["text.md"]) == told


def test_trained_weights_may_be_large(tmp_path: Path) -> None:
    (tmp_path / "models" / "new").mkdir(parents=True)
    (tmp_path / "models" / "new" / "model.safetensors").write_bytes(b"\0" * (MOST_BYTES + 1))
    assert faults(tmp_path, ["models/new/model.safetensors"]) == []


def test_the_exit_status_tells_whether_there_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.md").write_text("one")
    assert main([str(tmp_path / "text.md")]) == 1
    assert "the last line does not end" in capsys.readouterr().err
    assert main(["LICENSE"]) == 0
