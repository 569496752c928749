"""The plan: which regions run where, in which order, over which named values. Kept in the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hecompile.errors import ProtocolError

__all__ = ["Plan", "Step", "Value"]

Domain = Literal["client", "server_encrypted", "server_clear"]


@dataclass(frozen=True)
class Value:
    """A named tensor that passes between regions. Dimensions: integers, or `"B"`, `"4B"` for multiples of the batch."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    secret: bool

    def at(self, batch: int) -> tuple[int, ...]:
        """The shape at a batch size."""
        return tuple(size if isinstance(size, int) else int(size[:-1] or 1) * batch for size in self.shape)


@dataclass(frozen=True)
class Step:
    """One region, run once: by the client itself, or by one request to the server."""

    kind: Literal["client", "call"]
    region: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    once: bool = False  # a call whose inputs are the same at every step of a run


@dataclass(frozen=True)
class Plan:
    """Steps in order. Every value is defined before it is used, once."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        defined = set(self.inputs)
        for step in self.steps:
            missing = [name for name in step.inputs if name not in defined]
            if missing:
                raise ProtocolError(f"plan: region '{step.region}' reads {missing} before they are computed")
            twice = [name for name in step.outputs if name in defined]
            if twice:
                raise ProtocolError(f"plan: region '{step.region}' computes {twice} a second time")
            defined.update(step.outputs)
        undefined = [name for name in self.outputs if name not in defined]
        if undefined:
            raise ProtocolError(f"plan: outputs {undefined} are never computed")
        unnamed = defined - {value.name for value in self.values}
        if unnamed:
            raise ProtocolError(f"plan: no record of the values {sorted(unnamed)}")

    @property
    def rounds(self) -> int:
        """Requests per call of the model, those at the start of a run left out."""
        return sum(step.kind == "call" and not step.once for step in self.steps)

    def value(self, name: str) -> Value:
        """The record of a value. Raises `KeyError`."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Value]:
        return {value.name: value for value in self.values}
