"""Concrete is installed by a recipe against its own pins: these tests run circuits, encrypted, so that a broken install shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hecompile.ir.linear import Array


@pytest.mark.fhe
def test_concrete_python_runs_a_linear_circuit() -> None:
    from concrete import fhe

    weights = np.array([[1, -2, 3], [0, 4, -1]])

    @fhe.compiler({"x": "encrypted"})  # type: ignore[untyped-decorator, unused-ignore]
    def layer(x: Array) -> Array:
        return weights @ x

    rng = np.random.default_rng(0)
    circuit = layer.compile([rng.integers(0, 16, 3) for _ in range(20)])
    x = np.array([15, 0, 7])
    np.testing.assert_array_equal(circuit.encrypt_run_decrypt(x), weights @ x)


@pytest.mark.slow
@pytest.mark.fhe
def test_concrete_ml_runs_an_exported_model(tmp_path: Path) -> None:
    """By the way that works beside a new torch: our own export, then `compile_onnx_model`."""
    import onnx
    import torch
    from concrete.ml.torch.compile import compile_onnx_model

    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 3)
    torch.onnx.export(layer, (torch.zeros(1, 4),), tmp_path / "layer.onnx", dynamo=False, opset_version=14)
    data = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    module = compile_onnx_model(onnx.load(tmp_path / "layer.onnx"), data, n_bits=6)
    encrypted = module.forward(data[:2], fhe="execute")
    np.testing.assert_array_equal(encrypted, module.forward(data[:2], fhe="simulate"))
    with torch.no_grad():
        assert np.abs(encrypted - layer(torch.from_numpy(data[:2])).numpy()).max() < 0.2
