"""What works with diffusers, row by row: docs/diffusers.md has a table of this, made from the tests that hold it.

A test names the row that it holds: `@works("schedulers", "DDIM", 45)`, or `@refused("adapters", "FreeU", "turn it off")`. A new row
is one such line. `python -m tests.works` writes the tables anew.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

__all__ = ["AREAS", "DOCUMENT", "Row", "collect", "fill", "own_work", "parameters", "refused", "table", "works"]

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "diffusers.md"
AREAS = (
    "pipelines",
    "schedulers",
    "guidance and callbacks",
    "adapters",
    "precision and devices",
    "sizes and tokens",
    "modules",
    "saving and loading",
    "methods",
)
BLOCK = re.compile(r"<!-- works: ([\w ]+) -->\n(.*?)<!-- end -->", re.DOTALL)
HEADINGS = "| | result | how | random weights | `shapes` | tests |\n|---|---|---|---|---|---|\n"

Network = Literal["random", "shapes"]
Result = Literal["works", "refused", "your own work"]


@dataclass(frozen=True)
class Row:
    """One way to use a compiled model, what comes of it, and the least PSNR in dB that a test asks for, by network."""

    area: str
    what: str
    result: Result
    how: str = ""
    least_db: dict[Network, float] = field(default_factory=dict)
    tests: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.area not in AREAS:
            raise ValueError(f"there is no area '{self.area}'; known: {', '.join(AREAS)}")

    def and_also(self, other: Row) -> Row:
        """This row with what another test says of the same use: both must say the same of it."""
        if other.result != self.result or (self.how and other.how and self.how != other.how):
            raise ValueError(f"two tests differ about '{self.what}': {self.result} {self.how!r}, {other.result} {other.how!r}")
        least_db = {
            key: min(row.least_db.get(key, float("inf")) for row in (self, other)) for key in {**self.least_db, **other.least_db}
        }
        tests = tuple(dict.fromkeys([*self.tests, *other.tests]))
        return Row(self.area, self.what, self.result, self.how or other.how, least_db, tests)

    def __str__(self) -> str:
        bounds = [f"≥ {self.least_db[key]:g} dB" if key in self.least_db else "" for key in ("random", "shapes")]
        tests = ", ".join(f"`{name}`" for name in self.tests)
        return f"| {self.what} | {self.result} | {self.how} | {bounds[0]} | {bounds[1]} | {tests} |"


def works(area: str, what: str, least_db: float | None = None, network: Network = "random", how: str = "") -> pytest.MarkDecorator:
    """The test shows that this works; its pictures are within `least_db` of the plain pipeline's, where it compares pictures."""
    return pytest.mark.works(Row(area, what, "works", how, {} if least_db is None else {network: least_db}))


def refused(area: str, what: str, how: str) -> pytest.MarkDecorator:
    """The test shows that this is refused with an error; `how` is what the error says, or what to do in its place."""
    return pytest.mark.works(Row(area, what, "refused", how))


def own_work(area: str, what: str, how: str) -> pytest.MarkDecorator:
    """The test shows that this is left to the caller."""
    return pytest.mark.works(Row(area, what, "your own work", how))


def parameters(area: str, names: Iterable[str], least_db: float, network: Network = "random") -> list[Any]:
    """For `pytest.mark.parametrize`: a row that works for each name."""
    return [pytest.param(name, id=name, marks=works(area, name, least_db, network)) for name in names]


def table(rows: Sequence[Row]) -> str:
    """A Markdown table of rows, those of the same use as one, in alphabetical order."""
    merged: dict[str, Row] = {}
    for row in rows:
        merged[row.what] = merged[row.what].and_also(row) if row.what in merged else row
    lines = [f"{merged[what]}\n" for what in sorted(merged, key=str.lower)]
    return HEADINGS + "".join(lines)


def fill(text: str, rows: Sequence[Row]) -> str:
    """The document's text with the table of every area made from these rows."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- works: {match[1]} -->\n{table([row for row in rows if row.area == match[1]])}<!-- end -->"

    return BLOCK.sub(block, text)


class _Marks:
    """A plugin of pytest that keeps the rows of what is collected."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        for item in items:
            for mark in item.iter_markers("works"):
                (row,) = mark.args
                self.rows.append(Row(row.area, row.what, row.result, row.how, row.least_db, (item.originalname,)))


def collect() -> list[Row]:
    """The rows of all tests, none of which runs. Imports the files that have any, so call it in a process of its own."""
    files = [path for path in sorted(Path(__file__).parent.rglob("test_*.py")) if "tests.works import" in path.read_text("utf-8")]
    marks = _Marks()
    with redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["--collect-only", "-qq", *map(str, files)], plugins=[marks])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"pytest cannot collect the tests: {said.getvalue()}")
    return marks.rows


def main() -> None:
    """Write the tables of the document anew."""
    from tests.works import collect  # as the module that the tests have, not `__main__`

    DOCUMENT.write_text(fill(DOCUMENT.read_text("utf-8"), collect()), "utf-8")


if __name__ == "__main__":
    main()
