"""The threat model names a test for every promise, and every test that names a promise names one that exists."""

from __future__ import annotations

import os
import re

import pytest

from tests.promises import PROMISES, ROOT, held, table

DOCUMENT = ROOT / "docs" / "threat-model.md"
_KNOWN = {key for section in PROMISES.values() for key in section}


def test_every_promise_has_a_test_and_every_mark_a_promise() -> None:
    tests = held()
    assert _KNOWN - set(tests) == set()
    assert set(tests) - _KNOWN == set()


@pytest.mark.parametrize("section", list(PROMISES))
def test_the_threat_model_has_the_tables_of_the_tests(section: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- promises: {section} -->\n).*?(<!-- end -->)", re.DOTALL)
    written = place.sub(lambda match: match[1] + table(section, held()) + match[2], text)
    assert place.search(text), f"no place for the promises of '{section}'"
    if os.environ.get("HECOMPILE_UPDATE_GOLDEN"):
        DOCUMENT.write_text(written, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == written
