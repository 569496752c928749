"""Networks made at random compile, load and agree with the module, whatever their arguments are called and look like."""

from __future__ import annotations

import os
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import hecompile
from hecompile.ir.graph import ModelGraph
from hecompile.ir.verify import run_exactly
from hecompile.passes.base import Pass
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


def as_type(value: Any, dtype: torch.dtype) -> Any:
    """Arguments in a floating type, copied, as a module may change them."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype).clone()
    if isinstance(value, dict):
        return {key: as_type(item, dtype) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_type(item, dtype) for item in value)
    return value


def with_noise(value: Any) -> Any:
    """Arguments with seeded noise of a 64th of a standard deviation."""
    if isinstance(value, torch.Tensor):
        return value + torch.randn(value.shape, generator=torch.Generator().manual_seed(7)) / 64
    if isinstance(value, dict):
        return {key: with_noise(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_noise(item) for item in value)
    return value


@dataclass(frozen=True)
class Keep(Pass[ModelGraph, ModelGraph]):
    """Keep the graph that goes by."""

    kept: list[ModelGraph] = field(default_factory=list)

    def run(self, program: ModelGraph) -> ModelGraph:
        self.kept.append(program)
        return program


def judge(network: Generated) -> None:
    module, keep = deepcopy(network.module).float(), Keep()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.he"
        hecompile.compile(
            network.module, path, options=OPTIONS, example_inputs=network.examples, extra_passes={"canonicalize": [keep]}
        )
        loaded = hecompile.load(path, policy="simulation")
    (graph,) = keep.kept
    results = run_exactly(graph, {spec.name: graph.examples[spec.keyword] for spec in graph.inputs})
    with torch.no_grad():
        expected = leaves(deepcopy(module).double()(**as_type(network.examples, torch.float64)))
    for place, exact in zip(graph.signature.results.places, expected, strict=True):
        assert np.abs(results[place] - exact.numpy()).max() <= 1e-5 * max(1.0, float(exact.abs().max()))
    for batch in (1, 3):
        arguments = network.arguments(batch)
        with torch.no_grad():
            expected_result, result = module(**as_type(arguments, torch.float32)), loaded(**arguments)
            noisy = leaves(module(**with_noise(as_type(arguments, torch.float32))))
        assert shape_of(result) == shape_of(expected_result)
        noise = iter([(first - second).square().mean() for first, second in zip(noisy, leaves(expected_result), strict=True)])
        for exact, value in zip(leaves(expected_result), leaves(result), strict=True):
            assert value.dtype == next(iter(leaves(arguments))).dtype
            error = (value.float() - exact).square().mean()
            # 20 dB, as weights have 8 bits, or what the network makes of noise of 36 dB in its inputs; a wrong wire has 0 dB
            assert error <= 1e-2 * exact.square().max() + 30 * next(noise) + 1e-9


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
