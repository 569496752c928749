"""What a request shows in the clear is what its client rounded, and nothing else is read from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hecompile.calibration.calls import Call
from hecompile.compiler import Compiled, compile_model
from hecompile.demo.other_policies import channels_view
from hecompile.errors import ProtocolError
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.revealed import RevealedChannels, first_revealing, half_of, revealed_channels, revealed_step
from hecompile.runtime.wire import pack_request
from hecompile.sampler_artifact import SamplerOptions, compile_sampler
from tests.artifacts import shared
from tests.networks import Tiny, tiny_inputs

SHAPE = (4, 8, 8)


def tiny_revealing(folder: Path) -> Path:
    compile_model(
        Tiny().eval(), folder, example_inputs=tiny_inputs(),
        policy="min-distortion", budget=0.5, importance="magnitude", max_batch=2,
    )  # fmt: skip
    return folder


def calls() -> list[Call]:
    """Latents that choose a mask."""
    rng = np.random.default_rng(2)
    return [Call({"sample": rng.standard_normal((1, *SHAPE)).astype(np.float32), "timestep": np.array(500)}) for _ in range(4)]


@pytest.fixture(scope="module")
def revealing() -> Path:
    """`Tiny` under `min-distortion`."""
    return shared("tiny-that-reveals magnitude 0.5", tiny_revealing, Tiny, tiny_inputs)


@pytest.mark.parametrize("batch", [1, 2])
def test_revealed_channels_are_those_of_the_value(revealing: Path, batch: int) -> None:
    bundle = load_bundle(revealing, "min-distortion")
    region = first_revealing(revealing, bundle.manifest)
    half, client = half_of(revealing, bundle.manifest, region), bundle.calls[region]
    rng = np.random.default_rng(0)
    shapes = [bundle.manifest.plan.value(name).at(batch) for name in client.inputs]
    values = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    client.start_run()
    for _ in range(2):  # a run's first request brings seeds, a later one does not
        payload, _pending = client.encrypt(values, batch)
        body = b"".join(bytes(piece) for piece in pack_request(batch, payload))
        for shown in revealed_channels(half, body):
            value = values[client.inputs.index(shown.value)].astype(np.float64)
            assert 0 < len(shown.channels) < shown.count == value.shape[1]
            for entries, picture in zip(shown.integers, value, strict=True):
                expected = np.sort(picture[list(shown.channels)].reshape(len(shown.channels), -1))
                integers = np.sort(entries.reshape(expected.shape))  # a layer with a stride has another order within channels
                scale = (integers * expected).sum() / (expected**2).sum()
                assert np.abs(integers - scale * expected).max() < 0.6  # rounded, up to what the scale is off


def test_nothing_is_revealed_under_strict(tiny: Compiled) -> None:
    artifact = tiny.artifact
    assert artifact is not None
    assert first_revealing(artifact, load_bundle(artifact).manifest) == ""


def test_a_cut_request_is_refused(revealing: Path) -> None:
    bundle = load_bundle(revealing, "min-distortion")
    region = first_revealing(revealing, bundle.manifest)
    with pytest.raises(ProtocolError):
        revealed_channels(half_of(revealing, bundle.manifest, region), b"\x00")


def test_a_steps_entries_are_those_of_latent_and_noise(tmp_path: Path) -> None:
    options = SamplerOptions(tau=0.1, fill=False, max_batch=1)
    compile_sampler(tmp_path / "s.he", SHAPE, calls(), options)
    bundle = load_bundle(tmp_path / "s.he", "he-diffusion", sampler=True)
    (region,) = bundle.calls
    half = half_of(tmp_path / "s.he", bundle.manifest, region)
    encrypted = np.unpackbits(half.tensors["masks"][0], count=int(np.prod(SHAPE))).astype(np.bool_).reshape(SHAPE)
    rng, f, g = np.random.default_rng(1), 1.25, -0.5
    sample, noise = (rng.standard_normal((1, *SHAPE)).astype(np.float32) for _ in range(2))
    payload, _ = bundle.calls[region].encrypt([sample, noise, np.array([500.0, f, g])], 1)
    shown = revealed_step(half, b"".join(bytes(piece) for piece in payload))
    assert len(shown.sample) == len(shown.noise) == int((~encrypted).sum()) > 0
    clear = np.concatenate([sample[0][~encrypted], noise[0][~encrypted]])
    scale = np.abs(clear).max() / np.abs(np.concatenate([shown.sample, shown.noise])).max()
    assert np.allclose(shown.sample * scale, sample[0][~encrypted], atol=scale)
    assert np.allclose(shown.noise * scale, noise[0][~encrypted], atol=scale)
    assert shown.f / shown.g == pytest.approx(f / g, rel=1e-2)


def test_layers_with_a_stride_show_all_of_a_channel() -> None:
    """A layer with a stride has four smaller channels for each, which one sheet shows one below the other."""
    integers = np.arange(1 * 8 * 4 * 4).reshape(1, 8, 4, 4)
    view = channels_view([RevealedChannels("x", (0, 3), 4, integers)])
    assert "2 of the 4 channels" in view.sentence
