"""The rows of `docs/security-parameters.json`, what the lattice estimator says of parameters, and the document's tables of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from hecompile.backends.bfv.rings import REUSED_Q_BITS

__all__ = [
    "CLAIMED", "DATA", "MODELS", "Estimate", "Lwe", "Table", "line_table", "read_table", "ring_table", "secrets_table",
    "summary_table", "write_table",
]  # fmt: skip

DATA = Path(__file__).parents[2] / "docs" / "security-parameters.json"

# attack and cost model in the rows: heading in the document
MODELS = {
    "usvp MATZOV": "uSVP, MATZOV",
    "bdd MATZOV": "BDD, MATZOV",
    "dual hybrid MATZOV": "dual hybrid, MATZOV",
    "usvp BDGL16": "uSVP, BDGL16",
    "usvp ADPS16": "core-SVP",
    "usvp ADPS16 quantum": "quantum core-SVP",
    "usvp LaaMosPol14": "quantum LaaMosPol14",
}
CLAIMED = ("usvp MATZOV", "bdd MATZOV", "dual hybrid MATZOV")  # "128 bits" is said of these


@dataclass(frozen=True)
class Lwe:
    """LWE samples: dimension of the secret, log2 of the modulus and of the error's standard deviation, and distributions."""

    dimension: int
    log2_q: float
    secret: str
    error: str
    log2_sigma: float

    def no_weaker_than(self, other: Lwe) -> bool:
        """Whether every attack on these samples works on the other ones: same distributions, and no less of dimension and noise."""
        return (
            (self.secret, self.error) == (other.secret, other.error)
            and self.dimension >= other.dimension
            and self.log2_q <= other.log2_q
            and self.log2_sigma >= other.log2_sigma
        )


@dataclass(frozen=True)
class Estimate:
    """Samples and their bits by attack and cost model; None where the estimator took longer than its limit."""

    lwe: Lwe
    use: str  # "ring" or "line": the document's table
    bits: Mapping[str, float | None]

    @property
    def claimed_bits(self) -> float:
        """The least of the claimed attacks; 0 if one was not estimated."""
        return min(self.bits.get(model) or 0.0 for model in CLAIMED)


@dataclass(frozen=True)
class Table:
    """All rows, and the estimator's repository and commit."""

    estimator: str
    commit: str
    rows: tuple[Estimate, ...]

    def bits(self, lwe: Lwe) -> float:
        """The most claimed bits that the rows give these samples; 0 where there is none.

        A row gives its bits to samples that are no weaker, Concrete's line those of its worst point to what lies on it or above:
        the estimator's search for the best dual hybrid attack does not always find it, so neighbours say little.
        """
        known = [row.claimed_bits for row in self.rows if lwe.no_weaker_than(row.lwe)]
        line = [row for row in self.rows if row.use == "line"]
        if any(
            first.lwe.dimension <= lwe.dimension <= second.lwe.dimension
            and lwe.no_weaker_than(_between(first.lwe, second.lwe, lwe.dimension))
            for first, second in pairwise(line)
        ):
            known.append(min(row.claimed_bits for row in line))
        return max(known, default=0.0)


def _between(first: Lwe, second: Lwe, dimension: int) -> Lwe:
    """The samples of a dimension on the straight line between two others."""
    share = (dimension - first.dimension) / (second.dimension - first.dimension)
    return replace(first, dimension=dimension, log2_sigma=(1 - share) * first.log2_sigma + share * second.log2_sigma)


def read_table(path: Path = DATA) -> Table:
    """The committed rows."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return Table(document["estimator"], document["commit"], tuple(_row(row) for row in document["rows"]))


def _row(row: dict[str, Any]) -> Estimate:
    names = ("dimension", "log2_q", "secret", "error", "log2_sigma")
    return Estimate(Lwe(*(row[name] for name in names)), row["use"], row["bits"])


def write_table(table: Table, path: Path = DATA) -> None:
    """One row a line."""
    rows = ",\n".join("    " + json.dumps({**vars(row.lwe), "use": row.use, "bits": dict(row.bits)}) for row in table.rows)
    head = f'  "estimator": {json.dumps(table.estimator)},\n  "commit": {json.dumps(table.commit)},\n'
    path.write_text(f'{{\n{head}  "rows": [\n{rows}\n  ]\n}}\n', encoding="utf-8")


def _cells(row: Estimate) -> Iterable[str]:
    return ("-" if (bits := row.bits.get(model)) is None else f"{bits:.1f}" for model in MODELS)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def summary_table(table: Table, limits: Mapping[int, int]) -> str:
    """Of each attack and cost model, the least bits of the table's limits and of Concrete's line."""
    rings = [row for row in table.rows if row.use == "ring" and limits.get(row.lwe.dimension) == row.lwe.log2_q]
    line = [row for row in table.rows if row.use == "line"]

    def least(rows: Sequence[Estimate], model: str) -> str:
        return f"{min(bits for row in rows if (bits := row.bits.get(model)) is not None):.1f}"

    rows = [
        [f"**{heading}**" if model in CLAIMED else heading, least(rings, model), least(line, model)]
        for model, heading in MODELS.items()
    ]
    return _markdown(["attack and cost model", "rings of SEAL", "circuits of Concrete"], rows)


def ring_table(table: Table, limits: Mapping[int, int]) -> str:
    """Every row of a ring; the table's own limits in bold."""
    rows = []
    for row in table.rows:
        if row.use == "ring":
            mark = "**" if limits.get(row.lwe.dimension) == row.lwe.log2_q else ""
            rows.append([f"{mark}{row.lwe.dimension}, {row.lwe.log2_q}{mark}", *_cells(row)])
    return _markdown(["N, log2 q", *MODELS.values()], rows)


def secrets_table(table: Table, dimension: int = 2048, most_bits: tuple[int, ...] = (48, 50)) -> str:
    """Claimed bits and LaaMosPol14's quantum bits of a ring, by how many secrets share a seed: n secrets cost log2 n bits."""
    secrets = {1: "1 secret", 8: "8", 64: "64", 400: "400 (8 blocks, 50 requests)"}
    estimates = {row.lwe.log2_q: row for row in table.rows if row.use == "ring" and row.lwe.dimension == dimension}
    rows = []
    for q_bits in most_bits:
        classical, quantum = estimates[q_bits].claimed_bits, estimates[q_bits].bits["usvp LaaMosPol14"] or 0.0
        cells = [f"{classical - math.log2(count):.1f} / {quantum - math.log2(count):.1f}" for count in secrets]
        if q_bits > REUSED_Q_BITS:
            cells[-1] = "refused"
        rows.append([f"{dimension}, {q_bits}", *cells])
    return _markdown(["N, log2 q", *secrets.values()], rows)


def line_table(table: Table) -> str:
    """The points of Concrete's line."""
    rows = [
        [str(row.lwe.dimension), f"{row.lwe.log2_sigma - row.lwe.log2_q:.2f}", *_cells(row)]
        for row in table.rows
        if row.use == "line"
    ]
    return _markdown(["n", "log2(sigma / q)", *MODELS.values()], rows)
