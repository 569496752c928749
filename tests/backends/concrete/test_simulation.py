"""Concrete's own simulation: the same results, wrong as often as declared; no server, nothing encrypted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hecompile.backends.concrete.circuits import convolved, linear_circuit
from hecompile.backends.concrete.simulation import SimulatedCircuit
from hecompile.backends.concrete.windows import limits_for, quantise_windows
from hecompile.compiler import Compiled
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir.linear import conv2d
from hecompile.runtime.simulation import load_simulation
from hecompile.sampling.labels import draw_labels
from tests.networks import tiny_inputs
from tests.programs import program_of


def test_a_simulation_asks_no_server(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="a simulation uses no server"):
        draw_labels(tmp_path, "http://127.0.0.1:1", [0], 1, 0, "ddim", "strict", tmp_path / "x.png", simulate=True)


def test_other_backends_have_none(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    with pytest.raises(CompileError, match="'bfv', which has no simulation") as caught:
        load_simulation(tiny.artifact)
    assert "--backend clear" in str(caught.value)


@pytest.mark.fhe
def test_a_simulated_model_gives_the_integers_of_the_encrypted_one_and_sends_nothing(tiny_concrete: Compiled) -> None:
    assert tiny_concrete.artifact is not None
    inputs = dict(tiny_inputs())
    unet = load_simulation(tiny_concrete.artifact)
    got = unet(**inputs)
    names = program_of(tiny_concrete).plan.inputs
    want = program_of(tiny_concrete).run({name: np.asarray(inputs[name]) for name in names})
    np.testing.assert_allclose(got.numpy(), want[program_of(tiny_concrete).plan.outputs[0]], rtol=1e-5, atol=1e-5)
    assert unet.meter.bytes_up < 1000  # headers only
    assert unet.meter.bytes_down == 0
    unet.close()


@pytest.mark.fhe
def test_a_simulation_needs_the_servers_half(tiny_concrete: Compiled, tmp_path: Path) -> None:
    assert tiny_concrete.artifact is not None
    folder = tmp_path / "client-only"
    shutil.copytree(tiny_concrete.artifact, folder, ignore=shutil.ignore_patterns("server"))
    with pytest.raises(ProtocolError):
        load_simulation(folder)


@pytest.mark.fhe
@pytest.mark.parametrize(("p_error", "fewest", "most"), [(2.0**-10, 1, 60), (2.0**-40, 0, 0)])
def test_results_are_wrong_about_as_often_as_declared(p_error: float, fewest: int, most: int) -> None:
    """25,600 results: 25 of them wrong at most in the mean, as parameters are a little better than asked for."""
    rng = np.random.default_rng(0)
    geometry, weights = conv2d(rng.standard_normal((4, 4, 3, 3)) * 40, (8, 8), (1, 1), (1, 1), (1, 1), 1)
    kernel = np.clip(np.rint(weights), -127, 127).astype(np.int8)
    limits = limits_for(geometry, kernel)
    circuit = SimulatedCircuit(linear_circuit(geometry, kernel, limits, p_error).mlir, p_error)
    pictures, _ = quantise_windows(rng.standard_normal((100, 4, 8, 8)), geometry, limits)
    wrong = np.count_nonzero(circuit(pictures) != convolved(pictures, geometry, kernel))
    assert fewest <= wrong <= most
