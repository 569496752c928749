"""The document of a sampler region, its parameters with their proofs, and the sizes of what travels.

Request: F, G and the number of entries in clear (12 bytes), the entries in clear of x and of e at `reveal_bits` each, then `b` of
the encrypted ones at q_bits per word, a polynomial of x before the one of e, and a seed of their `a` for each group of up to
64 pairs. Reply: F x + G e in clear, then `b` of every pair and `a` of every group, without their dropped low bits.

With |F| + |G| <= W, integers of at most X, |e| <= 21 and a prime q = 1 modulo t of the client's own table, what is decrypted is
exact:

    message   W X <= t/2 - 1
    noise     21 W + 1/2 + 2^(lb-1) + N 2^(la-1) <= q/2t - 1       (worst case)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from hecompile.backends.bfv.parameters import DIMENSIONS, MAX_WORD_BITS, Parameters, noise_bound
from hecompile.backends.bfv.rings import SEED_BYTES, groups_of, prime
from hecompile.backends.program_io import Document, judge_bytes, judge_facts, read_program
from hecompile.backends.words import packed_bytes
from hecompile.errors import CompileError, Diagnostic, ProtocolError
from hecompile.ir.halves import Half
from hecompile.ir.timesteps import TRAIN_STEPS
from hecompile.sparsity.cost_names import cost_names

__all__ = [
    "HEADER_BYTES", "AffineBody", "AffineProgram", "Drops", "Sizes", "affine_program", "judge",
    "reveals",
]  # fmt: skip

FULL_BITS = 15  # what encrypted entries keep: a reveal keeps less
HEADER_BYTES = 12
T_BITS, WEIGHTS = (8, 38), (2, 30)  # bits: least and most
MOST_ENTRIES = 1 << 27  # of a batch


@dataclass(frozen=True)
class Drops:
    """Low bits that the reply leaves away."""

    b: int
    a: int


@dataclass(frozen=True)
class Sizes:
    """Polynomials and bytes of one request and its reply."""

    encrypted: int  # entries
    polynomials: int  # of x, and as many of e: each pair has a secret
    up_clear: int  # of x, and as many of e
    up_words: int
    up_seeds: int
    down_clear: int
    down_b: int
    down_a: int

    @property
    def up(self) -> int:
        return HEADER_BYTES + 2 * self.up_clear + self.up_words + self.up_seeds

    @property
    def down(self) -> int:
        return self.down_clear + self.down_b + self.down_a


@dataclass(frozen=True)
class AffineBody:
    """What a document says of a sampler's step.

    `clear` is the number of entries in clear of a sample, one per timestep bin, for static masks; empty for dynamic ones.
    `most_clear` bounds the entries of a sample that are ever in clear.
    """

    shape: tuple[int, int, int]
    max_batch: int
    parameters: Parameters
    q: int
    drops: Drops
    weight_bits: int
    reveal_bits: int
    clear: tuple[int, ...]
    most_clear: int
    tau: float
    cost: str
    fill: bool

    def judge(self, document: Document[Any]) -> None:
        judge_facts(document.region, self._facts(document))
        if findings := judge(document):
            raise CompileError(findings)
        judge_bytes(document.region, (size for clear in self.counts(self.max_batch) for size in self._messages(clear)))

    def _facts(self, document: Document[Any]) -> Iterator[tuple[bool, str]]:
        """What must hold, each computed only where those before it do: numbers of a stranger's document may be of any size."""
        parameters, drops, limit = self.parameters, self.drops, self.parameters.limit
        step = document.backend == "affine" and (len(document.inputs), len(document.outputs)) == (3, 1)
        yield step, "not a sampler region"
        whole = min(self.shape) >= 1 and self.entries <= 1 << 24 and self.max_batch * self.entries <= MOST_ENTRIES
        yield whole, f"batch {self.max_batch} or shape {self.shape} out of range"
        counted = all(0 <= count <= self.entries for count in (*self.clear, self.most_clear)) and len(self.clear) <= TRAIN_STEPS
        yield counted, "entries in clear that there are not"
        yield 0 <= self.tau < 1 and self.cost in cost_names(), f"a tau of {self.tau}, or a cost that is none"
        ring = parameters.dimension in DIMENSIONS and T_BITS[0] <= parameters.t_bits < parameters.q_bits
        yield ring, f"parameters out of range: {parameters}"
        limited = 1 <= limit < 1 << 31 and WEIGHTS[0] <= self.weight_bits <= WEIGHTS[1]
        yield limited, f"a limit of {limit} or weights of {self.weight_bits} bits"
        sums = self.q >= 1 and self.q.bit_length() == parameters.q_bits and self.weight_bits + parameters.q_bits <= 62
        yield sums, "sums of words do not fit 63 bits"
        yield parameters.q_bits <= MAX_WORD_BITS, f"words of {parameters.q_bits} bits"
        own = self.q == prime(parameters.q_bits, parameters.t_bits)
        yield own, f"q is {self.q}, not the table's prime for {parameters}"
        dropped = 0 <= min(drops.b, drops.a) <= max(drops.b, drops.a) < parameters.q_bits
        yield dropped, f"bits dropped out of range: {drops}"

    def _messages(self, clear: int) -> tuple[int, int]:
        """Bytes of the largest batch's request and reply."""
        sizes = self.sizes(self.max_batch, clear)
        return sizes.up, sizes.down

    @property
    def entries(self) -> int:
        """Of one sample."""
        return prod(self.shape)

    @property
    def dynamic(self) -> bool:
        """Whether masks are chosen from the data."""
        return not self.clear

    @property
    def most_revealed(self) -> int:
        """Entries of a sample that are ever in clear, at most."""
        return self.most_clear if self.dynamic else max(self.clear)

    @property
    def weight(self) -> int:
        """W."""
        return 1 << self.weight_bits

    @property
    def noise_bound(self) -> float:
        return noise_bound("worst-case", (self.weight, 0.0), self.parameters.dimension, self.drops.b, self.drops.a)

    def sizes(self, batch: int, clear: int) -> Sizes:
        """What travels for `batch` samples with `clear` entries in clear in all."""
        parameters, encrypted = self.parameters, batch * self.entries - clear
        polynomials = -(-encrypted // parameters.dimension)
        words, seeds = polynomials * parameters.dimension, groups_of(polynomials)
        return Sizes(
            encrypted,
            polynomials,
            up_clear=packed_bytes(clear, self.reveal_bits),
            up_words=packed_bytes(2 * words, parameters.q_bits),
            up_seeds=seeds * SEED_BYTES,
            down_clear=packed_bytes(clear, self.result_bits),
            down_b=packed_bytes(words, parameters.q_bits - self.drops.b),
            down_a=packed_bytes(seeds * parameters.dimension, parameters.q_bits - self.drops.a),
        )

    @property
    def result_bits(self) -> int:
        """Of F x + G e in clear."""
        return self.reveal_bits + self.weight_bits

    def counts(self, batch: int) -> list[int]:
        """Entries in clear of requests, of which one is the largest: all there are, or per number of polynomials the most."""
        if not self.dynamic:
            return [batch * clear for clear in sorted(set(self.clear))]
        entries, dimension = batch * self.entries, self.parameters.dimension
        return [min(entries - used - 1, batch * self.most_clear) for used in range(0, entries, dimension)]


AffineProgram: TypeAlias = Document[AffineBody]


def reveals(program: AffineProgram) -> tuple[str, ...]:
    """What the server sees in clear, for manifests, reports and logs; nothing if nothing."""
    body, most = program.body, program.body.most_revealed
    if not most:
        return ()
    share = f"{most:,} of {body.entries:,} entries ({most / body.entries:.1%}) counted over all steps"
    rounded = f"rounded to {body.reveal_bits} bits"
    found = [f"{name}: {'at most ' * body.dynamic}{share}, {rounded}" for name in program.inputs[:2]]
    if body.dynamic:
        found.append(f"support: chosen by '{body.cost}' from the {program.inputs[0]} itself at every step")
    return tuple(found)


def judge(program: AffineProgram) -> list[Diagnostic]:
    """Every reveal that no program may make: whole, at full precision, or above its own budget."""
    body, most = program.body, max(program.body.clear, default=0)
    edge = " and ".join(f"{name} -> {program.region}" for name in program.inputs[:2])
    findings = []
    if most >= body.entries or (body.dynamic and body.most_clear >= body.entries):
        findings.append(
            Diagnostic(f"{edge}: revealed at fraction 1", help="lower tau or the budget: some entries must be encrypted")
        )
    if not 2 <= body.reveal_bits < FULL_BITS:
        precision = "at full precision" if body.reveal_bits >= FULL_BITS else "with a sign at most"
        findings.append(
            Diagnostic(f"{edge}: revealed {precision} ({body.reveal_bits} bits)", help=f"reveal_bits is from 2 to {FULL_BITS - 1}")
        )
    if most > body.most_clear:
        findings.append(
            Diagnostic(
                f"{edge}: {most:,} of {body.entries:,} entries in clear, counted over all steps, "
                f"are above the budget of {body.most_clear:,}",
                help="lower tau, or raise most_clear",
            )
        )
    return findings


def affine_program(half: Half) -> AffineProgram:
    """The document of a half, checked. Raises `ProtocolError`."""
    try:
        return read_program(half, AffineBody)
    except CompileError as error:
        raise ProtocolError(f"region program: {error.diagnostics[0].message}") from error
