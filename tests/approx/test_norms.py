"""Norms as arithmetic compute what norms compute; as a fixed scale and shift they are the best of that kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hecompile.approx.norms import secret_norms, with_norms
from hecompile.approx.sites import find_sites
from hecompile.approx.validation import ValidationRun, psnr_db
from hecompile.calibration import Calibration, Call, from_sampler
from hecompile.ir.graph import ModelGraph
from hecompile.ir.verify import verify_graph
from tests.approx.networks import Mixer, Only, marked, mixer_calls, tiny


@pytest.fixture(scope="module")
def mixer() -> ModelGraph:
    return marked(Mixer().eval(), {"tokens": torch.zeros(2, 5, 8)})


def quality(before: ModelGraph, after: ModelGraph, calls: Calibration) -> float:
    verify_graph(after)
    validation = ValidationRun(calls, None)
    return psnr_db(validation.run(before), validation.run(after))


def test_arithmetic_is_the_norm_itself(mixer: ModelGraph) -> None:
    graph = with_norms(mixer, "polynomial", mixer_calls(0), 1)
    assert not secret_norms(graph)
    assert quality(mixer, graph, mixer_calls(1)) > 110  # float32, sums in another order
    assert [site.function for site in find_sites(graph)] == ["rsqrt", "gelu", "rsqrt", "tanh", "rsqrt"]


def test_group_norm_too() -> None:
    graph = tiny()
    calls = from_sampler(graph, steps=4, samples=3)
    assert quality(graph, with_norms(graph, "polynomial", calls, 20), calls) > 110
    static = with_norms(graph, "static", calls, 20)
    assert not secret_norms(static)
    assert 15 < quality(graph, static, calls) < 60


def test_static_norms_are_exact_where_statistics_do_not_vary() -> None:
    """One call alone in its bin, one sample, one group per channel: the norm is a scale and a shift, and they are found."""
    graph = marked(Only(torch.nn.GroupNorm(4, 4)), {"x": torch.randn(2, 4, 6, 6)})
    calls = Calibration((Call({"x": torch.randn(1, 4, 6, 6).numpy()}),))
    assert quality(graph, with_norms(graph, "static", calls, 1), calls) > 110


def test_a_static_norm_before_a_linear_layer_vanishes_into_it(mixer: ModelGraph) -> None:
    calls = mixer_calls(0)
    static = with_norms(mixer, "static", calls, 1)
    assert not secret_norms(static)
    counts = [[str(node.target) for node in graph.nodes].count("aten.mul.Tensor") for graph in (mixer, static)]
    assert counts[1] == counts[0]
    assert quality(mixer, static, mixer_calls(1)) > 10


def test_nothing_to_change_is_no_change(mixer: ModelGraph) -> None:
    assert with_norms(mixer, "exact", mixer_calls(0), 1) is mixer
    plain = marked(Only(torch.nn.Linear(8, 8)), {"x": torch.zeros(2, 8)})
    assert with_norms(plain, "static", mixer_calls(0), 1) is plain


def test_a_constant_channel_gets_no_scale() -> None:
    graph = marked(Only(torch.nn.LayerNorm(4)), {"x": torch.randn(2, 4)})
    values = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    values[:, 2] = 1.0
    calls = Calibration((Call({"x": values}),))
    assert np.isfinite(quality(graph, with_norms(graph, "static", calls, 1), calls))


def test_a_static_norm_after_a_conv_vanishes_into_it() -> None:
    """The convs pad: nothing changes before them, so their zeros stay zeros."""
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.GroupNorm(4, 4), torch.nn.SiLU(), torch.nn.Conv2d(4, 3, 3, padding=1)
    )
    graph = marked(Only(layers), {"x": torch.randn(2, 3, 6, 6)})
    calls = Calibration((Call({"x": torch.randn(1, 3, 6, 6).numpy()}),))
    static = with_norms(graph, "static", calls, 1)
    called = [str(node.target) for node in static.nodes if node.op == "call_function"]
    assert called == ["aten.conv2d.default", "aten.silu.default", "aten.conv2d.default"]
    assert quality(graph, static, calls) > 110
