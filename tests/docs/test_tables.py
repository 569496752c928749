"""Tables that the code says are what the documents have: `python -m tests.docs.tables` writes them anew."""

from __future__ import annotations

import re

import pytest

from hecompile.compiler import pipeline
from hecompile.options import CompileOptions
from tests.docs.blocks import ROOT
from tests.docs.tables import BLOCK, TABLES, fill, passes_of


@pytest.mark.parametrize("name", TABLES)
def test_a_document_has_the_table_that_the_code_says(name: str) -> None:
    text = (ROOT / TABLES[name][0]).read_text("utf-8")
    assert name in [match[2] for match in BLOCK.finditer(text)]
    assert fill(text) == text


def test_the_passes_are_those_that_compiling_runs() -> None:
    assert [type(step) for step in passes_of("bfv")] == [type(step) for step in pipeline(CompileOptions(), ROOT / "never")]


def test_a_term_of_the_glossary_stands_there_once_in_one_sentence() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.M)
    terms = [term for term, _, _ in rows if term not in ("term", "---")]
    assert len(terms) == len(set(terms))
    assert len(terms) >= 40
    assert [term for term, meaning, _ in rows if re.search(r"\. [A-Z]", meaning)] == []
