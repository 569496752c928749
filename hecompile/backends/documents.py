"""The documents of regions: read from a half and judged, the same way for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from hecompile.errors import ProtocolError

if TYPE_CHECKING:
    import pydantic

    from hecompile.backends.base import Half
    from hecompile.ir.products import Part

__all__ = ["Layer", "judge_batch", "judge_layers", "read_program"]

_Document = TypeVar("_Document")


class Layer(Protocol):
    """What a document says of a product, whatever the backend."""

    @property
    def input(self) -> str: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...


def read_program(adapter: pydantic.TypeAdapter[_Document], half: Half) -> _Document:
    """A half's document. Raises `ProtocolError` naming the first field that is not what it must be."""
    import pydantic

    try:
        return adapter.validate_python(half.program)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ProtocolError(f"region program: {place}: {first['msg']}") from error


def judge_batch(batch: int, largest: int) -> None:
    """Raises `ProtocolError` for a batch that an artifact was not compiled for."""
    if not 1 <= batch <= largest:
        raise ProtocolError(f"batch {batch}: this artifact was compiled for 1 to {largest}")


def judge_layers(region: str, layers: Sequence[Layer], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Raises `ProtocolError` if a region's inputs and outputs are not those of its layers."""
    if {layer.input for layer in layers} != set(inputs):
        raise ProtocolError(f"region '{region}': inputs {inputs} are not those of its layers")
    if tuple(part.output for layer in layers for part in layer.parts) != outputs:
        raise ProtocolError(f"region '{region}': outputs {outputs} are not those of its layers")
