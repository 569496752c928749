"""The table of rings: every number in it is the largest prime of its kind, and the core has the same ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hecompile.backends.bfv.parameters import DIMENSIONS
from hecompile.backends.bfv.rings import (
    MOST_48,
    Q_BITS,
    ROOM_BITS,
    TABLE_T_BITS,
    core_table,
    groups_of,
    prime,
    secrets_of,
    table_rows,
)
from hecompile.errors import ProtocolError

CORE = Path(__file__).parents[2] / "native" / "core" / "ring_table.inc"
BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_prime(number: int) -> bool:
    """Miller-Rabin with the bases that decide every number below 3.1e23."""
    if any(number % base == 0 for base in BASES):
        return number in BASES
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    return all(witness(base, number, twos) for base in BASES)


def witness(base: int, number: int, twos: int) -> bool:
    power = pow(base, number - 1 >> twos, number)
    return power == 1 or any(pow(power, 1 << turn, number) == number - 1 for turn in range(twos))


def largest(q_bits: int, t_bits: int) -> int:
    most = MOST_48 if q_bits == 48 else 2**q_bits - 1
    factor = most - 1 >> t_bits
    while not is_prime((factor << t_bits) + 1):
        factor -= 1
    return (factor << t_bits) + 1


def test_the_test_of_primes_tells_them() -> None:
    assert [number for number in range(2, 60) if is_prime(number)] == [
        2,
        3,
        5,
        7,
        11,
        13,
        17,
        19,
        23,
        29,
        31,
        37,
        41,
        43,
        47,
        53,
        59,
    ]
    assert not is_prime(3215031751)  # a strong pseudoprime to the bases 2, 3, 5 and 7
    assert is_prime(2**61 - 1)


def test_the_table_has_every_size_with_room_for_noise() -> None:
    assert [(q_bits, t_bits) for q_bits, t_bits, _ in table_rows()] == [
        (q_bits, t_bits)
        for q_bits in range(Q_BITS[0], Q_BITS[1] + 1)
        for t_bits in range(TABLE_T_BITS[0], TABLE_T_BITS[1] + 1)
        if q_bits - t_bits >= ROOM_BITS
    ]


def test_every_number_is_the_largest_prime_of_its_kind() -> None:
    for q_bits, t_bits, k in table_rows():
        q = prime(q_bits, t_bits)
        assert q == 2**q_bits - k * 2**t_bits + 1 == largest(q_bits, t_bits)
        assert q.bit_length() == q_bits
        assert q % 2**t_bits == 1
        assert all(q % (2 * dimension) == 1 for dimension in DIMENSIONS)


def test_encoding_is_exact() -> None:
    for q_bits, t_bits, _ in table_rows():
        q, t = prime(q_bits, t_bits), 1 << t_bits
        for message in (1, t // 3, t // 2 - 1):
            assert (2 * q * message + t) // (2 * t) == message * ((q - 1) // t)


def test_small_plaintext_moduli_have_the_prime_of_the_least_in_the_table() -> None:
    assert prime(32, 8) == prime(32, 16)


@pytest.mark.parametrize("sizes", [(27, 16), (51, 16), (40, 31), (50, 39), (48, 0)])
def test_other_sizes_have_no_prime(sizes: tuple[int, int]) -> None:
    with pytest.raises(ProtocolError, match="has no prime"):
        prime(*sizes)


def test_the_core_has_the_same_table() -> None:
    if os.environ.get("HECOMPILE_UPDATE_GOLDEN"):
        CORE.write_text(core_table(), encoding="utf-8")
    assert CORE.read_text(encoding="utf-8") == core_table()


def test_blocks_beyond_64_have_another_seed() -> None:
    assert [groups_of(blocks) for blocks in (1, 64, 65, 128, 129)] == [1, 1, 2, 2, 3]
    assert [secrets_of(blocks, 1) for blocks in (1, 64, 65)] == [1, 64, 64]
    assert secrets_of(8, 50) == 400
