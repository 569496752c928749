"""The documents of regions: read from a half and judged, the same way for every backend.

A half may come from anybody. Its document must be exactly what hecompile writes for what was read of it: no field is missing, more,
or of another type. Each class of a document bounds its own numbers; here are the bounds that all have in common.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hecompile.errors import ProtocolError
from hecompile.untrusted import difference

if TYPE_CHECKING:
    import pydantic

    from hecompile.ir.halves import Half
    from hecompile.ir.linear import Part

__all__ = ["MOST_BATCH", "MOST_BYTES", "Layer", "judge_batch", "judge_bytes", "judge_layers", "judge_names", "read_program"]

MOST_BATCH = 256
MOST_BYTES = 1 << 31  # of a request or a reply
MOST_NAMES = 4096  # of inputs or outputs
_LARGEST = 1 << 63  # no number of a document is this far from zero
_REGION, _VALUE = re.compile(r"[A-Za-z0-9_]{1,64}"), re.compile(r"[A-Za-z0-9_.]{1,256}")

_Document = TypeVar("_Document")


class Layer(Protocol):
    """What a document says of a product, whatever the backend."""

    @property
    def input(self) -> str: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...


class Region(Protocol):
    """What every document says of its region."""

    @property
    def region(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def max_batch(self) -> int: ...


def read_program(adapter: pydantic.TypeAdapter[_Document], half: Half) -> _Document:
    """A half's document. Raises `ProtocolError` naming the first field that is not what it must be."""
    import pydantic

    _judge_numbers(half.program)
    try:
        found = adapter.validate_python(half.program)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part)[:60] for part in first["loc"])
        raise ProtocolError(f"region program: {place}: {first['msg'][:200]}") from error
    odd = difference(half.program, asdict(found))  # type: ignore[call-overload]  # all documents are dataclasses
    if odd is not None:
        raise ProtocolError(f"region program: {odd or 'the document'}: unknown, missing, or of another type")
    return found


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


def judge_names(program: Region) -> None:
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


def judge_layers(region: str, layers: Sequence[Layer], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Raises `ProtocolError` if a region's inputs and outputs are not those of its layers."""
    if {layer.input for layer in layers} != set(inputs):
        raise ProtocolError(f"region '{region}': inputs {inputs} are not those of its layers")
    if tuple(part.output for layer in layers for part in layer.parts) != outputs:
        raise ProtocolError(f"region '{region}': outputs {outputs} are not those of its layers")
