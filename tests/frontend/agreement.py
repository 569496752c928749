"""The same model four ways: as it came, traced, canonical, and as ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch

from hecompile.frontend.sources import Source
from hecompile.ir.graph import ModelGraph, concrete_shape
from hecompile.ir.linear import Array
from hecompile.ir.verify import verify_graph
from hecompile.onnx_export import to_onnx
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace

__all__ = ["arguments", "call", "inputs_at", "worst_difference"]

BATCHES = (1, 3)  # the trace is made at 2


def inputs_at(source: Source, graph: ModelGraph, batch: int) -> dict[tuple[str | int, ...], torch.Tensor]:
    """Inputs of a batch size, by keyword, different from the examples where they may be."""
    generator = torch.Generator().manual_seed(batch)
    values = {}
    for spec in graph.inputs:
        example, shape = source.inputs[spec.keyword], concrete_shape(spec.shape, batch)
        if not shape:
            values[spec.keyword] = example + 1
        elif example.is_floating_point():
            values[spec.keyword] = torch.randn(shape, generator=generator) * example.abs().mean()
        else:
            values[spec.keyword] = torch.randint(0, 2, shape, generator=generator)
    return values


def arguments(values: dict[tuple[str | int, ...], torch.Tensor]) -> dict[str, Any]:
    """The keyword arguments of a call."""
    nested: dict[str, Any] = {}
    for keyword, value in values.items():
        if len(keyword) == 1:
            nested[str(keyword[0])] = value
        else:
            nested.setdefault(str(keyword[0]), {})[keyword[1]] = value
    return nested


def call(source: Source, values: dict[tuple[str | int, ...], torch.Tensor]) -> Array:
    """What the model gives."""
    given = arguments(values)
    if source.config.get("_class_name") == "UNet2DConditionModel":
        given.setdefault("encoder_hidden_states", None)
    assert source.module is not None
    with torch.no_grad():
        result = source.module(**given)
    return (result if isinstance(result, torch.Tensor) else result.sample).numpy()


def worst_difference(source: Source) -> float:
    """The largest difference of any of the three to the model, relative to the model's largest entry."""
    traced = Trace().run(source)
    verify_graph(traced, canonical=False)
    canonical = Canonicalize().run(traced)
    verify_graph(canonical)
    session = onnxruntime.InferenceSession(to_onnx(canonical.graph_module, "model"), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in BATCHES:
        values = inputs_at(source, canonical, batch)
        expected = call(source, values)
        inputs = [values[spec.keyword] for spec in canonical.inputs]
        with torch.no_grad():
            results = [graph(*inputs)[0].numpy() for graph in (traced, canonical)]
        named = {spec.name: value.numpy() for spec, value in zip(canonical.inputs, inputs, strict=True)}
        read = {item.name for item in session.get_inputs()}
        results.append(session.run(None, {name: value for name, value in named.items() if name in read})[0])
        for result in results:
            assert result.shape == expected.shape
            worst = max(worst, float(np.abs(result - expected).max() / np.abs(expected).max()))
    return worst
