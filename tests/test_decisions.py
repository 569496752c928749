"""Decisions have one form, and their index says what the files say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from release.decisions import FOLDER, Decision, decisions, faults, main, page, read

NUMBERED = re.compile(r"[Dd]ecisions?[ \n]+\[?(\d+)\]?(?:\((?:[\w./-]*/)?(\d{4})-[\w.-]+\))?")


@pytest.fixture(scope="module")
def known() -> list[Decision]:
    return decisions(FOLDER)


def test_every_decision_has_the_form(known: list[Decision]) -> None:
    assert faults(known) == []
    assert len(known) == len([path for path in FOLDER.glob("*.md") if path.name != "README.md"])


def test_the_index_is_up_to_date(known: list[Decision]) -> None:
    """Else `python -m release.decisions` writes it again."""
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == page(known)
    assert main(["--check"]) == 0


def test_a_linked_decision_has_the_number_that_the_text_says() -> None:
    root = FOLDER.parents[1]
    wrong = []
    for path in [root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").rglob("*.md"))]:
        for said, linked in re.findall(r"\[decision (\d+)\]\([\w./-]*?(\d{4})-[\w.-]+\)", path.read_text(encoding="utf-8")):
            wrong += [f"{path.name}: decision {said} leads to {linked}"] if int(said) != int(linked) else []
    assert wrong == []


def test_no_text_names_a_decision_that_there_is_not(known: list[Decision]) -> None:
    wrong = []
    for path in FOLDER.glob("*.md"):
        for said, _ in NUMBERED.findall(path.read_text(encoding="utf-8")):
            wrong += [f"{path.name}: decision {said}"] if not 1 <= int(said) <= len(known) else []
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "# SEAL\n\nStatus: accepted\n\nDate: 2026-11-24\n\n## Context\n",
        "# 1. SEAL\n\nStatus: proposed\n\nDate: 2026-11-24\n\n## Context\n",
        "# 1. SEAL\n\nStatus: superseded by\n\nDate: 2026-11-24\n\n## Context\n",
        "# 1. SEAL\n\nDate: 2026-11-24\n\nStatus: accepted\n\n## Context\n",
    ],
)
def test_another_head_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "0001-seal.md").write_text(text)
    with pytest.raises(ValueError, match=r"0001-seal\.md does not begin as a decision does: # N. Title"):
        read(tmp_path / "0001-seal.md")


def test_wrong_numbers_sections_and_references_are_told() -> None:
    form = ("Context", "Decision", "Consequences")
    one = Decision("0001-one.md", 1, "One", "superseded by 3", "2026-11-24", form)
    two = Decision("0002-two.md", 3, "Two", "amended by 1", "2026-11-24", ("Context", "Choice", "Price"))
    wrong = faults([one, two])
    assert "numbers are not 1 to 2, each once: [1, 3]" in wrong
    assert "0002-two.md has the number 3" in wrong
    assert "0002-two.md has the sections Context, Choice, Price; they must be Context, Decision, Consequences" in wrong
    assert "0001-one.md: superseded by 3, which is no later decision" in wrong
    assert "0002-two.md: amended by 1, which is no later decision" in wrong
