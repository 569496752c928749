"""Splits batches that are larger than the artifact allows, and converts outputs to the caller's type and device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hecompile.artifact import Input
from hecompile.ir.halves import Array
from hecompile.ir.signature import Keyword
from hecompile.runtime.arguments import multiple_of
from hecompile.runtime.executor import Executor

__all__ = ["as_like", "batched", "leading", "request_count"]


def request_count(executor: Executor, batch: int) -> int:
    """Return the largest number of requests that a batch can take. It is lower where conditions were already sent in this run."""
    manifest = executor.bundle.manifest
    pieces = -(-batch // manifest.max_batch)
    return pieces * sum(step.kind == "call" for step in manifest.plan.steps)


def batched(executor: Executor, inputs: dict[str, Array], batch: int) -> list[Array]:
    """Return the model's outputs for a batch of any size, computed in pieces of at most the artifact's largest batch."""
    manifest = executor.bundle.manifest
    if batch <= manifest.max_batch:
        return executor.run(inputs, batch)
    pieces = []
    for start in range(0, batch, manifest.max_batch):
        stop = min(start + manifest.max_batch, batch)
        piece = {spec.name: _slice(inputs[spec.name], spec, start, stop) for spec in manifest.inputs}
        executor.forget()  # every piece has conditions of its own
        pieces.append(executor.run(piece, stop - start))
    executor.forget()
    shapes = [manifest.plan.value(name).shape for name in manifest.plan.outputs]
    grows = [bool(shape) and isinstance(shape[0], str) for shape in shapes]
    columns = zip(zip(*pieces, strict=True), grows, strict=True)
    return [np.concatenate(parts) if growing else parts[0] for parts, growing in columns]


def _slice(value: Array, spec: Input, start: int, stop: int) -> Array:
    multiple = multiple_of(spec)
    return value if multiple is None else value[start * multiple : stop * multiple]


def leading(tensors: Mapping[Keyword, Any], inputs: Sequence[Input]) -> torch.Tensor:
    """Return the tensor whose type and device the outputs get: the first floating-point input with a batch dimension."""
    floating = [spec for spec in inputs if multiple_of(spec) and spec.dtype.startswith("float")]
    tensor = next((tensors[spec.keyword] for spec in floating if isinstance(tensors[spec.keyword], torch.Tensor)), None)
    return torch.zeros(()) if tensor is None or not tensor.is_floating_point() else tensor


def as_like(value: Array, like: torch.Tensor) -> torch.Tensor:
    """Convert an output to a tensor on the device of `like`, and to its type if the output is floating-point."""
    tensor = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    return tensor.to(like.device, like.dtype) if tensor.is_floating_point() else tensor.to(like.device)
