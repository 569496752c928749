"""The document of a region: what every backend's says, how it is read from a half and judged, and how it is written.

A half may come from anybody. Its document must be exactly what hecompile writes for what was read of it: no field is missing, more,
or of another type. Each body bounds its own numbers; here are the bounds that all documents have in common.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from hecompile.errors import ProtocolError
from hecompile.untrusted import difference

if TYPE_CHECKING:
    import pydantic

    from hecompile.ir.halves import Half
    from hecompile.ir.linear import Part

__all__ = [
    "MOST_BATCH", "MOST_BYTES", "Body", "Document", "Layer", "judge_batch", "judge_bytes", "judge_facts", "judge_layers",
    "read_program",
]  # fmt: skip

MOST_BATCH = 256
MOST_BYTES = 1 << 31  # of a request or a reply
MOST_NAMES = 4096  # of inputs or outputs
_LARGEST = 1 << 63  # no number of a document is this far from zero
_REGION, _VALUE = re.compile(r"[A-Za-z0-9_]{1,64}"), re.compile(r"[A-Za-z0-9_.]{1,256}")
_SHARED = ("region", "backend", "inputs", "outputs")


class Layer(Protocol):
    """What a document says of a product, whatever the backend."""

    @property
    def input(self) -> str: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...


class Body(Protocol):
    """What a scheme adds to a document: a frozen dataclass, whose fields stand in the JSON beside those that all have."""

    @property
    def max_batch(self) -> int: ...
    def judge(self, document: Document[Any]) -> None:
        """Raises `ProtocolError` for numbers out of range, or a body that does not fit the region's inputs and outputs."""
        ...


BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True)
class Document(Generic[BodyT]):
    """A region's document, public and the same in both halves: its name, what it reads and makes, and the scheme's `body`."""

    region: str
    backend: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    body: BodyT

    def __post_init__(self) -> None:
        _judge_names(self)
        self.body.judge(self)

    @property
    def max_batch(self) -> int:
        """The largest batch that the region was compiled for."""
        return self.body.max_batch

    def judge_batch(self, batch: int) -> None:
        """Raises `ProtocolError` for a batch that the region was not compiled for."""
        judge_batch(batch, self.max_batch)

    def as_json(self) -> dict[str, object]:
        """The document as both halves hold it: the fields of the body lie flat beside the others."""
        found: dict[str, Any] = asdict(self)
        body: dict[str, object] = found.pop("body")
        return found | body


def read_program(half: Half, body: type[BodyT]) -> Document[BodyT]:
    """A half's document. Raises `ProtocolError` naming the first field that is not what it must be."""
    import pydantic

    _judge_numbers(half.program)
    shared = {name: half.program[name] for name in _SHARED if name in half.program}
    rest = {name: value for name, value in half.program.items() if name not in _SHARED}
    try:
        found: Document[BodyT] = _adapter(body).validate_python({**shared, "body": rest})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part)[:60] for part in first["loc"]).removeprefix("body.")
        raise ProtocolError(f"region program: {place}: {first['msg'][:200]}") from error
    odd = difference(half.program, found.as_json())
    if odd is not None:
        raise ProtocolError(f"region program: {odd or 'the document'}: unknown, missing, or of another type")
    return found


@cache
def _adapter(body: type[Any]) -> pydantic.TypeAdapter[Any]:
    """What reads documents of this body."""
    import pydantic

    return pydantic.TypeAdapter(Document[body])  # type: ignore[valid-type]  # which body is known at run time only


def _judge_numbers(value: Any) -> None:
    """Raises `ProtocolError` for integers beyond 64 bits: no field has such, and few libraries take them."""
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, int):
        if not -_LARGEST < value < _LARGEST:
            raise ProtocolError("region program: a number of more than 64 bits")
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            _judge_numbers(item)


def judge_batch(batch: int, largest: int) -> None:
    """Raises `ProtocolError` for a batch that an artifact was not compiled for."""
    if not 1 <= batch <= largest:
        raise ProtocolError(f"batch {batch}: this artifact was compiled for 1 to {largest}")


def _judge_names(program: Document[Any]) -> None:
    """Raises `ProtocolError` for names that hecompile does not give, that stand twice, or for a largest batch out of range."""
    if not _REGION.fullmatch(program.region):
        raise ProtocolError(f"region {program.region[:64]!r}: names are of letters, digits and underscores, at most 64")
    for what, names in (("inputs", program.inputs), ("outputs", program.outputs)):
        if not 1 <= len(names) <= MOST_NAMES or len(set(names)) != len(names):
            raise ProtocolError(f"region '{program.region}': no {what}, too many, or one twice")
        if not all(_VALUE.fullmatch(name) for name in names):
            raise ProtocolError(f"region '{program.region}': {what} with names that hecompile does not give")
    if not 1 <= program.max_batch <= MOST_BATCH:
        raise ProtocolError(f"region '{program.region}': a largest batch of {program.max_batch}, not 1 to {MOST_BATCH}")


def judge_bytes(region: str, sizes: Iterable[int]) -> None:
    """Raises `ProtocolError` for a request or reply without bytes, or of more than `MOST_BYTES`."""
    for size in sizes:
        if not 1 <= size <= MOST_BYTES:
            raise ProtocolError(f"region '{region}': a message of {size} bytes, not 1 to {MOST_BYTES}")


def judge_facts(region: str, facts: Iterable[tuple[bool, str]]) -> None:
    """Raises `ProtocolError` with the reason that stands beside the first of these that does not hold."""
    for holds, reason in facts:
        if not holds:
            raise ProtocolError(f"region '{region}': {reason}")


def judge_layers(region: str, layers: Sequence[Layer], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Raises `ProtocolError` if a region's inputs and outputs are not those of its layers."""
    if {layer.input for layer in layers} != set(inputs):
        raise ProtocolError(f"region '{region}': inputs {inputs} are not those of its layers")
    if tuple(part.output for layer in layers for part in layer.parts) != outputs:
        raise ProtocolError(f"region '{region}': outputs {outputs} are not those of its layers")
