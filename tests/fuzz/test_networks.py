"""Networks made at random compile, load and agree with the module, whatever their arguments are called and look like."""

from __future__ import annotations

import os
import tempfile
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import hecompile
from hecompile.frontend.sources import load_source
from hecompile.ir.verify import run
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace
from hecompile.threads import one_thread
from tests.fuzz.networks import Generated, generate

EXAMPLES = int(os.environ.get("HECOMPILE_FUZZ_EXAMPLES", "200"))  # of all ten tests together
OPTIONS = hecompile.CompileOptions(backend="clear", max_batch=3)


def leaves(result: Any) -> list[torch.Tensor]:
    """The tensors of a result, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    items = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    return [leaf for item in items for leaf in leaves(item)]


def shape_of(result: Any) -> Any:
    """The structure of a result: types and names, tensors as their shapes."""
    if isinstance(result, torch.Tensor):
        return tuple(result.shape)
    if isinstance(result, dict):
        return {key: shape_of(item) for key, item in result.items()}
    if isinstance(result, list | tuple):
        return type(result).__name__, [shape_of(item) for item in result]
    return result


def in_float(value: Any) -> Any:
    """Arguments in float32, copied, as a module may change them."""
    if isinstance(value, torch.Tensor):
        return value.float().clone()
    if isinstance(value, dict):
        return {key: in_float(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(in_float(item) for item in value)
    return value


def judge(network: Generated) -> None:
    module = deepcopy(network.module).float()
    graph = Canonicalize().run(Trace().run(load_source(network.module, network.examples)))
    inputs = {spec.name: graph.examples[spec.keyword] for spec in graph.inputs}
    with torch.no_grad():
        expected = leaves(module(**in_float(network.examples)))
    for place, exact in zip(graph.signature.results.places, expected, strict=True):
        result = run(graph, inputs)[place]
        assert np.abs(result - exact.numpy()).max() <= 1e-4 * max(1.0, float(exact.abs().max()))
    with tempfile.TemporaryDirectory() as folder:
        hecompile.compile(network.module, Path(folder) / "m.he", options=OPTIONS, example_inputs=network.examples)
        loaded = hecompile.load(Path(folder) / "m.he", policy="simulation")
    for batch in (1, 3):
        arguments = network.arguments(batch)
        with torch.no_grad():
            expected_result, result = module(**in_float(arguments)), loaded(**arguments)
        assert shape_of(result) == shape_of(expected_result)
        for exact, value in zip(leaves(expected_result), leaves(result), strict=True):
            assert value.dtype == next(iter(leaves(arguments))).dtype
            error = (value.float() - exact).square().mean()
            assert error <= 1e-2 * exact.square().max() + 1e-9  # weights of 8 bits: 20 dB at least, a wrong wire has none


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_networks_made_at_random(number: int) -> None:
    @seed(number)
    @settings(
        max_examples=max(1, EXAMPLES // 10), deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, 2**32))
    def agree(start: int) -> None:
        with one_thread(True):
            judge(generate(Random(start)))

    agree()
