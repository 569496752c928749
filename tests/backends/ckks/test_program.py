"""Slot programs as text: printed, parsed back, verified."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hecompile.backends.ckks.document import read_document, read_tables
from hecompile.backends.ckks.engine import Engine
from hecompile.backends.ckks.program import parse_program, print_program
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from tests.backends.ckks.regions import polynomial_region
from tests.golden_files import check

pytestmark = pytest.mark.fhe  # the network is compiled once for all of them


def test_a_region_of_two_convs_with_activations_as_text(with_polynomials: Compiled) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    check("slot-programs/two convs with activations", rounded(str(lowered.server.program["text"])))


def rounded(text: str) -> str:
    """Ranges come from a fit on this machine's floats: without them."""
    return re.sub(r", range [\d.e+-]+", "", text)


def test_programs_are_parsed_back(with_polynomials: Compiled) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    text = str(lowered.server.program["text"])
    assert print_program(parse_program(text)) == text


@pytest.mark.parametrize("line", ["", "ring 8192", "%a = he.jump %b : level 1, scale 1.0, range 1", "he.rotate %a {steps = 1}"])
def test_lines_that_are_none_are_refused(with_polynomials: Compiled, line: str) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    lines = str(lowered.server.program["text"]).splitlines()
    with pytest.raises(ProtocolError, match="line 3"):
        parse_program("\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(ProtocolError, match="names no ring"):
        parse_program(line)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (r"he\.rescale (%\w+) : level 4", r"he.rescale \1 : level 3", "comes out at level 4"),
        (r"scale 268435456\.0", "scale 268435457.5e1", "comes out at level|different levels or scales"),
        (r"table = @t0", "table = @t9", "does not exist"),
        (r"row = 0", "row = 900", "does not exist"),
        (r"he\.relinearize", "he.relinearise", "not an operation"),
        (r"he\.add (%\w+), (%\w+)", r"he.add \1, %nothing", "no earlier operation makes"),
        (r"\{steps = (-?\d+)\}", r"{steps = \1, more = 1}", "does not have"),
    ],
)
def test_programs_that_do_not_add_up_are_refused(with_polynomials: Compiled, old: str, new: str, reason: str) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    document = read_document(lowered.server)
    changed = re.sub(old, new, document.body.text, count=1)
    if changed == document.body.text:
        assert "relinearise" in new
        changed = document.body.text.replace("he.rotate", "he.turn", 1)
    tables, inputs = read_tables(lowered.server, document), dict.fromkeys(upload.name for upload in document.body.uploads)
    with pytest.raises(ProtocolError, match=reason):
        Engine(parse_program(changed), tables).run(inputs)


def test_a_missing_rotation_key_is_named_with_its_layer(with_polynomials: Compiled) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    document = read_document(lowered.server)
    engine = Engine(document.body.program, read_tables(lowered.server, document), steps=[])
    with pytest.raises(ProtocolError, match=r"layer '.+': no key for a rotation by .* open a new session"):
        engine.run(dict.fromkeys(upload.name for upload in document.body.uploads))


def test_tables_are_checked(with_polynomials: Compiled) -> None:
    from hecompile.ir.halves import Half

    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    half, document = lowered.server, read_document(lowered.server)
    for bad in (np.zeros((1, 3), np.float32), np.full((1, 4), np.nan, np.float32), np.zeros(4, np.float32)):
        with pytest.raises(ProtocolError, match="is not finite float32 or float64 rows"):
            read_tables(Half(half.program, dict(half.tensors) | {"t0": bad}), document)
