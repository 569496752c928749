"""Every parameter that the compiler can choose lies inside a table made by the lattice estimator: docs/security-parameters.md."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tables.security import (
    MODELS,
    Estimate,
    Lwe,
    Table,
    line_table,
    read_table,
    ring_table,
    secrets_table,
    summary_table,
)
from hecompile.backends.bfv import choose as bfv
from hecompile.backends.bfv.parameters import DIMENSIONS as RINGS
from hecompile.backends.bfv.parameters import MAX_WORD_BITS
from hecompile.backends.bfv.rings import BLOCKS_PER_SEED, Q_BITS, secrets_of
from hecompile.backends.ckks.choose import ring_for
from hecompile.backends.ckks.noise import SIGMA2
from hecompile.backends.ckks.ring import DIMENSIONS
from hecompile.backends.concrete.parameters import DIMENSIONS as SECRETS
from hecompile.backends.sampler_step.choose import choose_parameters
from hecompile.errors import CompileError
from hecompile.ir.linear import conv2d
from hecompile.machine import Machine
from hecompile.security.lwe import LEAST_DIMENSION, least_dimension, least_noise_bits
from hecompile.security.table import BITS_128, ESTIMATES, estimate, max_q_bits, security_bits

DOCUMENT = Path(__file__).parents[1] / "docs" / "security-parameters.md"
CLAIM = 128
LARGEST_DIMENSION = SECRETS[1]  # of an LWE secret that a client accepts


@pytest.fixture(scope="module")
def table() -> Table:
    return read_table()


def ring_samples(dimension: int, q_bits: int) -> Lwe:
    """What SEAL makes in a ring: a ternary secret, errors of variance 10.5."""
    return Lwe(dimension, q_bits, "ternary", "centred binomial of 42 coins", math.log2(math.sqrt(SIGMA2)))


def line_samples(dimension: int, noise_bits: float) -> Lwe:
    """What Concrete makes: a binary secret, Gaussian errors relative to the modulus 2^64."""
    return Lwe(dimension, 64, "binary", "Gaussian", 64 + noise_bits)


def candidates_of_bfv(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Every ring that `choose` considers, as (N, bits of q): none is found good enough, so it goes through all."""
    seen: set[tuple[int, int]] = set()

    def none(priced: Any, proof: Any, *rest: object) -> None:
        q_bits = range(proof.q_bits[0], proof.q_bits[1] + 1)
        seen.update((priced.layout.packing.dimension, bits) for bits in q_bits)

    monkeypatch.setattr(bfv._Priced, "best_q", none)
    for channels, width in itertools.product((1, 16, 1000), (8, 3000, 6000, 12000, 30000)):  # up to rows of the widest ring
        geometry, values = conv2d(np.full((4, channels, 1, 1), 127), (1, width), (1, 1), (0, 0), (1, 1), 1)
        assert bfv.choose(bfv.Weights(geometry, values.astype(np.int8)), 1, Machine()) is None
    return seen


def rings_of_ckks() -> Iterator[tuple[int, int]]:
    """Every ring that a region can get, as (N, bits of all primes)."""
    for least in (0, *DIMENSIONS):
        for slots in {1, *(dimension // 2 for dimension in DIMENSIONS)}:
            for depth in range(1, 64):
                try:
                    ring = ring_for(depth, slots, "a test", least_dimension=least)
                except CompileError:
                    break
                yield ring.dimension, ring.q_bits


@pytest.mark.promise("128-bits")
@pytest.mark.parametrize(("dimension", "q_bits"), BITS_128.items())
def test_every_limit_of_the_table_was_estimated(table: Table, dimension: int, q_bits: int) -> None:
    rows = [row for row in table.rows if row.lwe.dimension == dimension and row.lwe.log2_q == q_bits and row.use == "ring"]
    assert [row.claimed_bits >= CLAIM for row in rows] == [True]
    assert set(rows[0].bits) == set(MODELS)


@pytest.mark.promise("128-bits")
def test_every_ring_of_bfv_is_covered(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = candidates_of_bfv(monkeypatch)
    assert {dimension for dimension, _ in seen} == set(RINGS)
    assert max(q_bits for _, q_bits in seen) == 48
    assert max_q_bits(2048) > MAX_WORD_BITS
    every = {(dimension, q_bits) for dimension in RINGS for q_bits in range(Q_BITS[0], MAX_WORD_BITS + 1)}
    assert seen < every
    assert {ring for ring in every if table.bits(ring_samples(*ring)) - math.log2(BLOCKS_PER_SEED) < CLAIM} == set()


@pytest.mark.promise("128-bits")
def test_the_gate_gives_what_the_rows_do(table: Table) -> None:
    """Bits of a ring are those of the rows that it is no weaker than, less log2 of the secrets under one seed."""
    for (dimension, q_bits), expected in ESTIMATES.items():
        row = next(candidate for candidate in table.rows if (candidate.lwe.dimension, candidate.lwe.log2_q) == (dimension, q_bits))
        assert (row.claimed_bits, row.bits["usvp LaaMosPol14"]) == (expected.classical, expected.quantum)
    for dimension, q_bits in itertools.product(RINGS, range(Q_BITS[0], MAX_WORD_BITS + 1)):
        assert security_bits(dimension, q_bits, 1) == table.bits(ring_samples(dimension, q_bits))
        assert security_bits(dimension, q_bits, 64) == security_bits(dimension, q_bits, 1) - 6
    assert security_bits(1024, 26, 1) == 0  # no ring of ours
    assert security_bits(2048, 54, 1) == 0


def test_a_seed_serves_no_more_secrets_than_the_gate_lets_through() -> None:
    """A run of 50 steps with 8 blocks a request, and the most requests of 64 blocks that a seed may serve."""
    assert security_bits(2048, 48, secrets_of(8, 50)) == pytest.approx(134.2, abs=0.05)
    assert security_bits(2048, 48, secrets_of(64, 445)) >= CLAIM > security_bits(2048, 48, secrets_of(64, 446))
    assert estimate(2048, 48).quantum == 137.1


@pytest.mark.promise("128-bits")
def test_every_ring_of_ckks_is_covered(table: Table) -> None:
    seen = set(rings_of_ckks())
    assert {dimension for dimension, _ in seen} == set(DIMENSIONS)
    assert {ring for ring in seen if table.bits(ring_samples(*ring)) < CLAIM} == set()


@pytest.mark.promise("128-bits")
@pytest.mark.parametrize("entries", [1, 4095, 4096, 1 << 20])
def test_every_ring_of_a_samplers_step_is_covered(table: Table, entries: int) -> None:
    parameters, q, _ = choose_parameters(entries)
    assert q.bit_length() == parameters.q_bits
    assert table.bits(ring_samples(parameters.dimension, parameters.q_bits)) >= CLAIM


@pytest.mark.promise("128-bits")
def test_every_dimension_of_concretes_line_is_covered(table: Table) -> None:
    dimensions = [*range(LEAST_DIMENSION, 4097), LARGEST_DIMENSION]
    weak = [dimension for dimension in dimensions if table.bits(line_samples(dimension, least_noise_bits(dimension))) < CLAIM]
    assert weak == []


def test_the_points_of_the_line_are_close_enough(table: Table) -> None:
    """The primal attacks, whose estimates are smooth, differ by little from one point to the next."""
    line = [row for row in table.rows if row.use == "line"]
    assert [row.lwe.dimension for row in line] == sorted({row.lwe.dimension for row in line})
    for first, second in pairwise(line):
        for model in ("usvp MATZOV", "bdd MATZOV"):
            assert 0 <= (first.bits[model] or 0) - (second.bits[model] or 0) < 1.0


@pytest.mark.parametrize("noise_bits", [-9.0, -15.5, -36.7, -55.0])
def test_the_dimension_that_a_noise_gets_is_covered(table: Table, noise_bits: float) -> None:
    assert table.bits(line_samples(least_dimension(noise_bits), noise_bits)) >= CLAIM


@pytest.mark.parametrize(("dimension", "q_bits"), BITS_128.items())
def test_a_ring_one_bit_wider_is_not_covered(table: Table, dimension: int, q_bits: int) -> None:
    assert table.bits(ring_samples(dimension, q_bits + 1)) < CLAIM


@pytest.mark.parametrize("dimension", [LEAST_DIMENSION, 1024, 2048, LARGEST_DIMENSION])
def test_a_bit_less_noise_than_the_lines_is_not_covered(table: Table, dimension: int) -> None:
    assert table.bits(line_samples(dimension, least_noise_bits(dimension) - 1)) < CLAIM


def test_other_distributions_are_not_covered(table: Table) -> None:
    ring = ring_samples(2048, 53)
    assert table.bits(ring) >= CLAIM
    assert table.bits(replace(ring, secret="binary")) == 0
    assert table.bits(replace(ring, error="Gaussian")) == 0
    assert table.bits(replace(ring, log2_sigma=1.5)) == 0
    assert table.bits(line_samples(LEAST_DIMENSION - 1, -1.0)) == 0


def test_a_row_without_a_claimed_model_covers_nothing() -> None:
    ring = ring_samples(2048, 53)
    assert Estimate(ring, "ring", {"usvp MATZOV": 130.0, "bdd MATZOV": None, "dual hybrid MATZOV": 130.0}).claimed_bits == 0
    assert Estimate(ring, "ring", {"usvp MATZOV": 130.0, "bdd MATZOV": 129.0}).claimed_bits == 0
    assert Estimate(ring, "ring", {"usvp MATZOV": 130.0, "bdd MATZOV": 129.0, "dual hybrid MATZOV": 127.9}).claimed_bits == 127.9


def test_rows_are_of_the_distributions_that_are_drawn(table: Table) -> None:
    for row in table.rows:
        if row.use == "ring":
            assert (row.lwe.secret, row.lwe.error) == ("ternary", "centred binomial of 42 coins")
            assert 0 <= math.log2(math.sqrt(SIGMA2)) - row.lwe.log2_sigma < 0.001
        else:
            assert (row.lwe.secret, row.lwe.error, row.lwe.log2_q) == ("binary", "Gaussian", 64)


def filled(rows: str, match: re.Match[str]) -> str:
    """A place of the document with these rows between its marks."""
    return match[1] + rows + match[2]


def test_the_document_has_the_tables_of_the_rows(table: Table) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    tables = {
        "summary": summary_table(table, BITS_128),
        "rings": ring_table(table, BITS_128),
        "secrets": secrets_table(table),
        "line": line_table(table),
    }
    for name, rows in tables.items():
        place = re.compile(rf"(<!-- estimates: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert place.search(text), f"no place for the estimates of '{name}'"
        text = place.sub(partial(filled, rows), text)
    if os.environ.get("HECOMPILE_UPDATE_GOLDEN"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text
    assert table.commit in text
