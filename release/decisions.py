"""docs/decisions/README.md: a table of all decisions with number, title, status and date.

Run as `python -m release.decisions`; with `--check` it ends with 1 if the table is out of date or a decision has another form.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from release.environments import ROOT

__all__ = ["FOLDER", "Decision", "decisions", "faults", "main", "page", "read"]

FOLDER = ROOT / "docs" / "decisions"
HEAD = re.compile(
    r"# (?P<number>\d+)\. (?P<title>[^\n]+)\n\n"
    r"Status: (?P<status>accepted|(?:superseded|amended) by \d+(?:, \d+)*(?: and \d+)?)\n\n"
    r"Date: (?P<date>\d{4}-\d{2}-\d{2})\n\n"
)
SECTIONS = ("Context", "Decision", "Consequences")
FORM = f"# N. Title, `Status: accepted | superseded by N | amended by N`, `Date: YYYY-MM-DD`, {', '.join(SECTIONS)}"
ABOUT = """\
# Decisions

Made by `python -m release.decisions` from the files of this folder; `make lint` fails if it is out of date. A decision says what
was to be decided (context), what was chosen, and what that costs (consequences). A superseded decision does not hold any more; an
amended one holds except for what the later decision says. To add one, take the next number and this form:

```text
# 1. What was decided, as a title

Status: accepted

Date: 2026-11-24

## Context

## Decision

## Consequences
```

| number | decision | status | date |
|---|---|---|---|"""


@dataclass(frozen=True)
class Decision:
    """One file of the folder: its name, and what its head and headings say."""

    name: str
    number: int
    title: str
    status: str
    date: str
    sections: tuple[str, ...]


def read(path: Path) -> Decision:
    """The decision of one file. Raises `ValueError` if its head has another form."""
    text = path.read_text(encoding="utf-8")
    head = HEAD.match(text)
    if head is None:
        raise ValueError(f"{path.name} does not begin as a decision does: {FORM}")
    sections = tuple(re.findall(r"^## (.+)$", text, re.M))
    return Decision(path.name, int(head["number"]), head["title"], head["status"], head["date"], sections)


def decisions(folder: Path) -> list[Decision]:
    """All decisions of a folder, by number. Raises `ValueError` as `read` does."""
    return [read(path) for path in sorted(folder.glob("[0-9]*.md"))]


def faults(known: Sequence[Decision]) -> list[str]:
    """What is wrong with decisions beside their heads: numbers, sections, and the decisions that a status names."""
    numbers = [decision.number for decision in known]
    wrong = [] if numbers == list(range(1, len(known) + 1)) else [f"numbers are not 1 to {len(known)}, each once: {numbers}"]
    for decision in known:
        if not decision.name.startswith(f"{decision.number:04d}-"):
            wrong.append(f"{decision.name} has the number {decision.number}")
        if decision.sections != SECTIONS:
            wrong.append(f"{decision.name} has the sections {', '.join(decision.sections)}; they must be {', '.join(SECTIONS)}")
        later = [int(number) for number in re.findall(r"\d+", decision.status)]
        wrong += [
            f"{decision.name}: {decision.status}, which is no later decision"
            for number in later
            if not decision.number < number <= len(known)
        ]
    return wrong


def page(known: Sequence[Decision]) -> str:
    """The text of docs/decisions/README.md."""
    files = {decision.number: decision.name for decision in known}

    def linked(match: re.Match[str]) -> str:
        return f"[{match[0]}]({files[int(match[0])]})"

    rows = []
    for decision in known:
        status = re.sub(r"[0-9]+", linked, decision.status)
        rows.append(f"| {decision.number} | [{decision.title}]({decision.name}) | {status} | {decision.date} |")
    return "\n".join([ABOUT, *rows]) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` compare it; the exit status."""
    try:
        known = decisions(FOLDER)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    wrong = faults(known)
    sys.stderr.writelines(f"{text}\n" for text in wrong)
    if wrong:
        return 1
    index = FOLDER / "README.md"
    if "--check" not in arguments:
        index.write_text(page(known), encoding="utf-8")
    elif index.read_text(encoding="utf-8") != page(known):
        sys.stderr.write("docs/decisions/README.md is out of date: run python -m release.decisions\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
