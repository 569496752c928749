"""docs/diffusers.md says what the tests show: its tables are made from their marks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.works import AREAS, BLOCK, DOCUMENT, ROOT, Row, fill, refused, table, works

ROWS = [
    Row("schedulers", "PNDM", "works", "", {"random": 45}, ("test_one",)),
    Row("schedulers", "DDIM", "works", "no clipping", {"random": 45}, ("test_one",)),
    Row("schedulers", "DDIM", "works", "", {"random": 40, "shapes": 35}, ("test_two",)),
]
CODE = "from tests.works import *; print(fill(DOCUMENT.read_text('utf-8'), collect()), end='')"


def test_rows_of_one_use_are_one_row_with_the_weaker_bound() -> None:
    lines = table(ROWS).splitlines()[2:]
    assert lines[0] == "| DDIM | works | no clipping | ≥ 40 dB | ≥ 35 dB | `test_one`, `test_two` |"
    assert lines[1:] == ["| PNDM | works |  | ≥ 45 dB |  | `test_one` |"]


def test_tests_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(ValueError, match="two tests differ about 'PNDM'"):
        table([*ROWS, Row("schedulers", "PNDM", "refused", "no")])


def test_an_unknown_area_is_an_error() -> None:
    with pytest.raises(ValueError, match="known: pipelines, schedulers"):
        works("sheduler", "DDIM")


def test_a_mark_carries_its_row() -> None:
    assert refused("sizes and tokens", "another size", "`size=`").mark.args == (
        Row("sizes and tokens", "another size", "refused", "`size=`"),
    )


def test_the_text_around_tables_stays() -> None:
    assert fill("a\n<!-- works: schedulers -->\nold\n<!-- end -->\nb", ROWS[:1]).splitlines()[-2:] == ["<!-- end -->", "b"]


def test_the_document_has_a_table_of_every_area() -> None:
    assert [match[1] for match in BLOCK.finditer(DOCUMENT.read_text("utf-8"))] == list(AREAS)


def test_no_table_of_the_document_is_empty() -> None:
    assert [match[1] for match in BLOCK.finditer(DOCUMENT.read_text("utf-8")) if match[2].count("\n") < 3] == []


@pytest.mark.slow
def test_the_document_is_what_the_tests_say() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == DOCUMENT.read_text("utf-8"), done.stderr or "write it anew: python -m tests.works"
