"""The client's own table of rings: one prime q for every number of bits of q and of t. An artifact cannot choose another one.

The prime is the largest below 2^q_bits with q = 1 modulo 2^t_bits. Two things follow. For every message m, round(q m / t) is
exactly m (q - 1) / t. And q = 1 modulo 2N for every N up to 2^15, since the table's t_bits is at least 16. Primes of 48 bits are at
most `MOST_48`, so that a word fits in three balanced digits of 16 bits. The core has the same table, `native/core/ring_table.inc`.
"""

from __future__ import annotations

from hecompile.errors import ProtocolError

__all__ = [
    "BLOCKS_PER_SEED", "MODE_BYTES", "MOST_48", "Q_BITS", "REUSED_Q_BITS", "SEED_BYTES", "TABLE_T_BITS", "core_table",
    "groups_of", "prime", "secrets_of", "table_rows",
]  # fmt: skip

Q_BITS = (28, 50)
TABLE_T_BITS = (16, 38)
ROOM_BITS = 10  # q has at least this many bits more than t
MOST_48 = 2**48 - 2**32 - 2**16 - 1
BLOCKS_PER_SEED = 64  # blocks of a request, each with a secret of its own, that share the polynomials `a` of one seed
SEED_BYTES = 32
MODE_BYTES = 1  # before requests of a region with shared seeds: whether the request brings them
REUSED_Q_BITS = 48  # most bits of q if one seed serves several requests

# k of q = 2^q_bits - k 2^t_bits + 1, by q_bits, for t_bits from 16 up
_TABLE: dict[int, tuple[int, ...]] = {
    28: (1, 3, 19),
    29: (4, 2, 1, 10),
    30: (4, 2, 1, 33, 19),
    31: (2, 1, 2, 1, 16, 8),
    32: (16, 8, 4, 2, 1, 9, 10),
    33: (7, 5, 4, 2, 1, 25, 14, 7),
    34: (3, 23, 16, 8, 4, 2, 1, 33, 27),
    35: (5, 4, 2, 1, 7, 29, 25, 19, 20, 10),
    36: (16, 8, 4, 2, 1, 33, 49, 27, 19, 33, 19),
    37: (2, 1, 1, 34, 17, 16, 8, 4, 2, 1, 46, 23),
    38: (24, 12, 6, 3, 7, 32, 16, 8, 4, 2, 1, 3, 42),
    39: (5, 13, 7, 4, 2, 1, 2, 1, 7, 14, 7, 5, 20, 10),
    40: (24, 12, 6, 3, 21, 20, 10, 5, 39, 23, 12, 6, 3, 3, 4),
    41: (1, 11, 10, 5, 22, 11, 14, 7, 17, 11, 8, 4, 2, 1, 10, 5),
    42: (24, 12, 6, 3, 24, 12, 6, 3, 7, 47, 28, 14, 7, 8, 4, 2, 1),
    43: (37, 23, 22, 11, 26, 13, 17, 17, 16, 8, 4, 2, 1, 16, 8, 4, 2, 1),
    44: (49, 29, 21, 15, 13, 9, 10, 5, 16, 8, 4, 2, 1, 5, 25, 32, 16, 8, 4),
    45: (49, 31, 26, 13, 40, 20, 10, 5, 26, 13, 10, 5, 10, 5, 14, 7, 7, 20, 10, 5),
    46: (9, 26, 13, 11, 28, 14, 7, 18, 9, 18, 9, 11, 6, 3, 6, 3, 12, 6, 3, 8, 4),
    47: (16, 8, 4, 2, 1, 8, 4, 2, 1, 1, 14, 7, 31, 35, 22, 11, 56, 28, 14, 7, 10, 5),
    48: (65578, 32789, 16407, 8208, 4104, 2052, 1026, 513, 259, 132, 66, 33, 28, 14, 7, 11, 30, 15, 46, 23, 18, 9, 6),
    49: (11, 11, 11, 10, 5, 22, 11, 7, 5, 13, 10, 5, 4, 2, 1, 4, 2, 1, 1, 22, 11, 16, 8),
    50: (33, 23, 18, 9, 39, 29, 18, 9, 28, 14, 7, 17, 103, 53, 51, 26, 13, 32, 16, 8, 4, 2, 1),
}


def prime(q_bits: int, t_bits: int) -> int:
    """The prime of the ring with plaintext modulus 2^t_bits; for t_bits below 16, the one for 16.

    Raises:
        ProtocolError: if the table has none.
    """
    row = _TABLE.get(q_bits, ())
    place = max(t_bits, TABLE_T_BITS[0]) - TABLE_T_BITS[0]
    if t_bits < 1 or place >= len(row):
        raise ProtocolError(f"the table of rings has no prime of {q_bits} bits for a plaintext modulus of {t_bits} bits")
    return (1 << q_bits) - (row[place] << (place + TABLE_T_BITS[0])) + 1


def table_rows() -> list[tuple[int, int, int]]:
    """(q_bits, t_bits, k) for every prime 2^q_bits - k 2^t_bits + 1 of the table."""
    return [(q_bits, t_bits, k) for q_bits, row in _TABLE.items() for t_bits, k in enumerate(row, start=TABLE_T_BITS[0])]


def core_table() -> str:
    """The text of `native/core/ring_table.inc`, which compiles the table into the core."""
    rows = "".join(f"{{{q_bits}, {t_bits}, {k}}},\n" for q_bits, t_bits, k in table_rows())
    head = "// {q_bits, t_bits, k} of every ring's prime 2^q_bits - k 2^t_bits + 1; made by core_table in rings.py\n"
    return f"{head}// clang-format off\n{rows}"


def groups_of(blocks: int) -> int:
    """How many seeds the blocks of a request need: one for each group of up to `BLOCKS_PER_SEED` blocks."""
    return -(-blocks // BLOCKS_PER_SEED)


def secrets_of(blocks: int, requests: int) -> int:
    """How many secrets there are under one seed that serves this many requests, each of this many blocks."""
    return min(blocks, BLOCKS_PER_SEED) * requests
