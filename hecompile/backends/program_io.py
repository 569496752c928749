"""The document of a region: what every backend's documents have in common, and how one is read, checked and written.

A half may come from anybody, so its document must be exactly what hecompile would write for what was read: no field is missing,
added, or of another type. Each backend's body checks the ranges of its own numbers; the bounds of all documents are here.
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
    "MOST_BATCH",
    "MOST_BYTES",
    "Body",
    "Document",
    "Layer",
    "check_all",
    "check_batch",
    "check_bytes",
    "check_layer_names",
    "read_program",
]  # fmt: skip

MOST_BATCH = 256
MOST_BYTES = 1 << 31  # bytes of a request or a reply
MOST_NAMES = 4096  # inputs or outputs of a region
_LARGEST = 1 << 63  # no number of a document has a larger absolute value
_REGION, _VALUE = re.compile(r"[A-Za-z0-9_]{1,64}"), re.compile(r"[A-Za-z0-9_.]{1,256}")
_SHARED = ("region", "backend", "inputs", "outputs")


class Layer(Protocol):
    """What the document of any backend says of a linear layer."""

    @property
    def input(self) -> str: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...


class Body(Protocol):
    """What a scheme adds to a document: a frozen dataclass. In the JSON its fields stand beside those that all documents have."""

    @property
    def max_batch(self) -> int: ...
    def check(self, document: Document[Any]) -> None:
        """Raises `ProtocolError` for numbers out of range, or a body that does not fit the region's inputs and outputs."""
        ...


BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True)
class Document(Generic[BodyT]):
    """The document of a region, public and the same in both halves: name, backend, inputs, outputs, and the scheme's `body`."""

    region: str
    backend: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    body: BodyT

    def __post_init__(self) -> None:
        _check_names(self)
        self.body.check(self)

    @property
    def max_batch(self) -> int:
        """The largest batch size that the region was compiled for."""
        return self.body.max_batch

    def check_batch(self, batch: int) -> None:
        """Raises `ProtocolError` for a batch size that the region was not compiled for."""
        check_batch(batch, self.max_batch)

    def as_json(self) -> dict[str, object]:
        """The document as both halves hold it, with the fields of the body beside the others."""
        fields: dict[str, Any] = asdict(self)
        body: dict[str, object] = fields.pop("body")
        return fields | body


def read_program(half: Half, body: type[BodyT]) -> Document[BodyT]:
    """The checked document of a half. Raises `ProtocolError`, which names the first wrong field."""
    import pydantic

    _check_numbers(half.program)
    shared = {name: half.program[name] for name in _SHARED if name in half.program}
    rest = {name: value for name, value in half.program.items() if name not in _SHARED}
    try:
        document: Document[BodyT] = _adapter(body).validate_python({**shared, "body": rest})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part)[:60] for part in first["loc"]).removeprefix("body.")
        raise ProtocolError(f"region program: {place}: {first['msg'][:200]}") from error
    wrong_field = difference(half.program, document.as_json())
    if wrong_field is not None:
        raise ProtocolError(f"region program: {wrong_field or 'the document'} is unknown, missing, or of another type")
    return document


@cache
def _adapter(body: type[Any]) -> pydantic.TypeAdapter[Any]:
    """The pydantic reader of documents with this body."""
    import pydantic

    return pydantic.TypeAdapter(Document[body])  # type: ignore[valid-type]  # which body is known at run time only


def _check_numbers(value: Any) -> None:
    """Raises `ProtocolError` for integers of more than 64 bits. No field has such integers, and few libraries handle them."""
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, int):
        if not -_LARGEST < value < _LARGEST:
            raise ProtocolError("region program: a number of more than 64 bits")
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            _check_numbers(item)


def check_batch(batch: int, largest: int) -> None:
    """Raises `ProtocolError` for a batch size that an artifact was not compiled for."""
    if not 1 <= batch <= largest:
        raise ProtocolError(f"batch {batch}: this artifact was compiled for 1 to {largest}")


def _check_names(program: Document[Any]) -> None:
    """Raises `ProtocolError` for names that hecompile does not give, names that occur twice, or a largest batch out of range."""
    if not _REGION.fullmatch(program.region):
        raise ProtocolError(
            f"region {program.region[:64]!r}: a name has at most 64 characters, all of them letters, digits or underscores"
        )
    for what, names in (("inputs", program.inputs), ("outputs", program.outputs)):
        if not 1 <= len(names) <= MOST_NAMES or len(set(names)) != len(names):
            raise ProtocolError(f"region '{program.region}': no {what}, too many, or the same one twice")
        if not all(_VALUE.fullmatch(name) for name in names):
            raise ProtocolError(f"region '{program.region}': {what} with names that hecompile does not give")
    if not 1 <= program.max_batch <= MOST_BATCH:
        raise ProtocolError(f"region '{program.region}': a largest batch of {program.max_batch}, not 1 to {MOST_BATCH}")


def check_bytes(region: str, sizes: Iterable[int]) -> None:
    """Raises `ProtocolError` for a request or reply that is empty or has more than `MOST_BYTES` bytes."""
    for size in sizes:
        if not 1 <= size <= MOST_BYTES:
            raise ProtocolError(f"region '{region}': a message of {size} bytes, not 1 to {MOST_BYTES}")


def check_all(region: str, conditions: Iterable[tuple[bool, str]]) -> None:
    """Raises `ProtocolError` if a condition does not hold, with the reason given for the first such condition."""
    for holds, reason in conditions:
        if not holds:
            raise ProtocolError(f"region '{region}': {reason}")


def check_layer_names(region: str, layers: Sequence[Layer], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Raises `ProtocolError` if a region's inputs and outputs are not those of its layers."""
    if {layer.input for layer in layers} != set(inputs):
        raise ProtocolError(f"region '{region}': inputs {inputs} are not those of its layers")
    if tuple(part.output for layer in layers for part in layer.parts) != outputs:
        raise ProtocolError(f"region '{region}': outputs {outputs} are not those of its layers")
