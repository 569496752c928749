"""The plan: which regions run where and in which order, and the named values that they pass on. The manifest holds it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hecompile.errors import ProtocolError

__all__ = ["Plan", "Step", "Value"]

DTYPES = ("float16", "float32", "float64", "int64", "int32", "bool")
MOST_STEPS, MOST_VALUES, MOST_NAMES = 4096, 1 << 16, 4096
MOST_DIMENSIONS, MOST_SIZE, MOST_ENTRIES = 8, 1 << 24, 1 << 32  # of a value at batch one
_REGION, _NAME = re.compile(r"[A-Za-z0-9_]{1,64}"), re.compile(r"[A-Za-z0-9_.]{1,256}")
_BATCHES = re.compile(r"([1-9][0-9]{0,5})?B")

Domain = Literal["client", "server_encrypted", "server_clear"]


@dataclass(frozen=True)
class Value:
    """A named tensor that regions pass on. A dimension is an integer, or `"B"` or `"4B"` for multiples of the batch size."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    secret: bool

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.dtype not in DTYPES:
            raise ProtocolError(f"plan: a value named {self.name[:60]!r} of type {self.dtype[:20]!r}")
        if len(self.shape) > MOST_DIMENSIONS or not all(_is_dimension(size) for size in self.shape):
            raise ProtocolError(f"plan: '{self.name}' has a shape that is not valid")
        if math.prod(self.at(1)) > MOST_ENTRIES:
            raise ProtocolError(f"plan: '{self.name}' has {math.prod(self.at(1))} entries, at most {MOST_ENTRIES}")

    def at(self, batch: int) -> tuple[int, ...]:
        """Return the shape at this batch size, in integers."""
        return tuple(size if isinstance(size, int) else int(size[:-1] or 1) * batch for size in self.shape)


def _is_dimension(size: int | str) -> bool:
    if isinstance(size, str):
        return _BATCHES.fullmatch(size) is not None
    return type(size) is int and 1 <= size <= MOST_SIZE


@dataclass(frozen=True)
class Step:
    """One run of one region: on the client itself, or by one request to the server."""

    kind: Literal["client", "call"]
    region: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    per_run: bool = False  # the request is the same at every step of a sampling run, so it is sent once per run

    def __post_init__(self) -> None:
        if not _REGION.fullmatch(self.region):
            raise ProtocolError(
                f"plan: the region name {self.region[:64]!r} has other characters than letters, digits and underscores"
            )
        if max(len(self.inputs), len(self.outputs)) > MOST_NAMES or len(set(self.inputs)) != len(self.inputs):
            raise ProtocolError(f"plan: region '{self.region}' has too many values, or one twice")


@dataclass(frozen=True)
class Plan:
    """The steps in order. Every value is computed exactly once, before it is read. Raises `ProtocolError` when built otherwise."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(self.steps) > MOST_STEPS or len(self.values) > MOST_VALUES or len(self.outputs) > MOST_NAMES:
            raise ProtocolError(f"plan: {len(self.steps)} regions and {len(self.values)} values are too many")
        defined = set(self.inputs)
        if len(defined) != len(self.inputs):
            raise ProtocolError("plan: an input stands twice")
        for step in self.steps:
            missing = [name for name in step.inputs if name not in defined]
            if missing:
                raise ProtocolError(f"plan: region '{step.region}' reads {missing} before they are computed")
            twice = [name for name in step.outputs if name in defined]
            if twice:
                raise ProtocolError(f"plan: region '{step.region}' computes {twice} a second time")
            if len(set(step.outputs)) != len(step.outputs):
                raise ProtocolError(f"plan: region '{step.region}' computes a value twice")
            defined.update(step.outputs)
        undefined = [name for name in self.outputs if name not in defined]
        if undefined:
            raise ProtocolError(f"plan: outputs {undefined} are never computed")
        recorded = [value.name for value in self.values]
        unnamed = defined - set(recorded)
        if unnamed:
            raise ProtocolError(f"plan: no record of the values {sorted(unnamed)}")
        if len(set(recorded)) != len(recorded):
            raise ProtocolError("plan: two records of one value")

    @property
    def rounds(self) -> int:
        """Requests per call of the model, without those that are sent once per run."""
        return sum(step.kind == "call" and not step.per_run for step in self.steps)

    def value(self, name: str) -> Value:
        """Return the record of the value with this name. Raises `KeyError` if there is none."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Value]:
        return {value.name: value for value in self.values}
