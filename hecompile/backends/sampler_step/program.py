"""The document of a sampler's step, its parameters with their proofs, and the sizes of requests and replies.

A request has F, G and the number of revealed entries (12 bytes); the revealed entries of x and of e, reveal_bits each; `b` of the
encrypted ones, q_bits per word, each polynomial of x before the one of e; and a seed for the `a` of each group of up to 64 pairs.
A reply has F x + G e of the revealed entries, then `b` of every pair and `a` of every group, without their dropped low bits.

With |F| + |G| <= W, integers x and e of at most X, errors of at most 21 and a prime q = 1 modulo t of the client's own table,
decryption is exact if

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
from hecompile.backends.program_io import Document, check_all, check_bytes, read_program
from hecompile.backends.words import packed_bytes
from hecompile.errors import CompileError, Diagnostic, ProtocolError
from hecompile.ir.halves import Half
from hecompile.ir.timesteps import TRAIN_STEPS
from hecompile.sparsity.distortion_names import distortion_names

__all__ = [
    "HEADER_BYTES",
    "Drops",
    "SamplerStepBody",
    "SamplerStepProgram",
    "Sizes",
    "check_reveals",
    "reveals",
    "sampler_step_program",
]  # fmt: skip

FULL_BITS = 15  # of an encrypted entry: a revealed one has fewer
HEADER_BYTES = 12
T_BITS, WEIGHTS = (8, 38), (2, 30)  # bits: least and most
MOST_ENTRIES = 1 << 27  # entries of a batch


@dataclass(frozen=True)
class Drops:
    """Low bits that `b` and `a` of the reply leave out."""

    b: int
    a: int


@dataclass(frozen=True)
class Sizes:
    """Entries, polynomials and bytes of one request and its reply."""

    encrypted: int  # entries that are encrypted
    polynomials: int  # of x, and as many of e; each pair has a secret
    up_clear: int  # bytes of the revealed entries of x, and as many of e
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
class SamplerStepBody:
    """What the document says of a sampler's step.

    `clear` is the number of revealed entries of a sample for each timestep bin, with static masks; it is empty with dynamic ones.
    `most_clear` is the largest number of entries of a sample that may ever be revealed.
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

    def check(self, document: Document[Any]) -> None:
        check_all(document.region, self._conditions(document))
        if findings := check_reveals(document):
            raise CompileError(findings)
        check_bytes(document.region, (size for clear in self.counts(self.max_batch) for size in self._messages(clear)))

    def _conditions(self, document: Document[Any]) -> Iterator[tuple[bool, str]]:
        """Conditions and reasons, each computed only if those before it hold, as numbers of a document may have any size."""
        parameters, drops, limit = self.parameters, self.drops, self.parameters.limit
        step = document.backend == "sampler_step" and (len(document.inputs), len(document.outputs)) == (3, 1)
        yield step, "not a sampler region"
        whole = min(self.shape) >= 1 and self.entries <= 1 << 24 and self.max_batch * self.entries <= MOST_ENTRIES
        yield whole, f"batch {self.max_batch} or shape {self.shape} out of range"
        counted = all(0 <= count <= self.entries for count in (*self.clear, self.most_clear)) and len(self.clear) <= TRAIN_STEPS
        yield counted, "entries in the clear that there are not"
        yield 0 <= self.tau < 1 and self.cost in distortion_names(), f"a tau of {self.tau}, or a cost that is none"
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
        """Bytes of the request and the reply of the largest batch."""
        sizes = self.sizes(self.max_batch, clear)
        return sizes.up, sizes.down

    @property
    def entries(self) -> int:
        """Entries of one sample."""
        return prod(self.shape)

    @property
    def dynamic(self) -> bool:
        """Whether masks are chosen from the data."""
        return not self.clear

    @property
    def most_revealed(self) -> int:
        """The largest number of entries of a sample that are ever revealed."""
        return self.most_clear if self.dynamic else max(self.clear)

    @property
    def weight(self) -> int:
        """W, the largest |F| + |G|."""
        return 1 << self.weight_bits

    @property
    def noise_bound(self) -> float:
        """The left side of the bound on the noise."""
        return noise_bound("worst-case", (self.weight, 0.0), self.parameters.dimension, self.drops.b, self.drops.a)

    def sizes(self, batch: int, clear: int) -> Sizes:
        """The sizes for `batch` samples with `clear` revealed entries in all."""
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
        """Bits of F x + G e of a revealed entry."""
        return self.reveal_bits + self.weight_bits

    def counts(self, batch: int) -> list[int]:
        """Numbers of revealed entries among which the largest request occurs, since sizes jump with the number of polynomials."""
        if not self.dynamic:
            return [batch * clear for clear in sorted(set(self.clear))]
        entries, dimension = batch * self.entries, self.parameters.dimension
        return [min(entries - used - 1, batch * self.most_clear) for used in range(0, entries, dimension)]


SamplerStepProgram: TypeAlias = Document[SamplerStepBody]


def reveals(program: SamplerStepProgram) -> tuple[str, ...]:
    """Sentences about what the server sees in the clear, for manifests, reports and logs; empty if it sees nothing."""
    body, most = program.body, program.body.most_revealed
    if not most:
        return ()
    share = f"{most:,} of {body.entries:,} entries ({most / body.entries:.1%}) counted over all steps"
    rounded = f"rounded to {body.reveal_bits} bits"
    sentences = [f"{name}: {'at most ' * body.dynamic}{share}, {rounded}" for name in program.inputs[:2]]
    if body.dynamic:
        sentences.append(f"support: chosen by '{body.cost}' from the {program.inputs[0]} itself at every step")
    return tuple(sentences)


def check_reveals(program: SamplerStepProgram) -> list[Diagnostic]:
    """A finding for every reveal that is never allowed: of whole values, at full precision, or above the document's own budget."""
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
                f"{edge}: {most:,} of {body.entries:,} entries in the clear, counted over all steps, "
                f"are above the budget of {body.most_clear:,}",
                help="lower tau, or raise most_clear",
            )
        )
    return findings


def sampler_step_program(half: Half) -> SamplerStepProgram:
    """The checked document of a half. Raises `ProtocolError`."""
    try:
        return read_program(half, SamplerStepBody)
    except CompileError as error:
        raise ProtocolError(f"region program: {error.diagnostics[0].message}") from error
