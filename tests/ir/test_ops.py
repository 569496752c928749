"""Every row of the op table: it has an ONNX spelling, and that computes what torch computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hecompile.calibration import timestep_bin
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, InputSpec
from hecompile.ir.ops import OPS, table_markdown
from hecompile.ir.verify import verify_graph
from hecompile.onnx_export import EMITTERS, to_onnx

X = InputSpec("x", ("x",), (Batch(), 4, 6, 6), "float32")
Y = InputSpec("y", ("y",), (Batch(), 4, 6, 6), "float32")
INDEX = InputSpec("x", ("x",), (Batch(),), "int64")
WHOLE = InputSpec("x", ("x",), (Batch(), 3), "int64")
T = InputSpec("timestep", ("timestep",), (), "float32")
TRUTH = tuple(InputSpec(name, (name,), (Batch(), 5), "bool") for name in "xy")
GENERATOR = torch.Generator().manual_seed(0)


def weight(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


Case = tuple[str, tuple[InputSpec, ...], tuple[Any, ...], dict[str, Any]]
XY, ARG_X, ARG_Y = (X, Y), "x", "y"
CASES: list[Case] = [
    ("conv2d.default", (X,), (ARG_X, weight(6, 2, 3, 3), weight(6), [2, 1], [1, 0], [1, 2], 2), {}),
    ("linear.default", (X,), (ARG_X, weight(5, 6), weight(5)), {}),
    ("linear.default", (X,), (ARG_X, weight(5, 6), None), {}),
    ("conv_transpose2d.input", (X,), (ARG_X, weight(4, 3, 4, 4), weight(6), [2, 3], [1, 1], [1, 0], 2, [1, 1]), {}),
    ("matmul.default", XY, (ARG_X, ARG_Y), {}),
    ("scaled_dot_product_attention.default", XY, (ARG_X, ARG_Y, ARG_X, None, 0.0, False), {"scale": 0.3}),
    ("scaled_dot_product_attention.default", XY, (ARG_X, ARG_Y, ARG_X, weight(6, 6) > -1, 0.0, False), {"scale": 0.3}),
    ("scaled_dot_product_attention.default", XY, (ARG_X, ARG_Y, ARG_X, weight(6, 6), 0.0, False), {"scale": 0.3}),
    *((f"{name}.Tensor", XY, (ARG_X, ARG_Y), {}) for name in ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge")),
    *((f"{name}.Tensor", (X,), (ARG_X, 1.5), {}) for name in ("add", "sub", "mul", "div")),
    *((f"{name}.Tensor", (X,), (ARG_X, torch.tensor(1.5)), {}) for name in ("fmod", "remainder")),
    *((f"{name}.Tensor", (WHOLE,), (ARG_X, weight(3)), {}) for name in ("add", "mul", "div", "lt")),
    ("fmod.Tensor", XY, (ARG_X, ARG_Y), {}),
    ("remainder.Tensor", XY, (ARG_X, ARG_Y), {}),
    ("remainder.Tensor", (WHOLE,), (ARG_X, torch.tensor(-3)), {}),
    *(("remainder.Tensor", (X,), ("tenths", torch.tensor(step)), {}) for step in (0.1, -0.1)),  # nothing is left, or nearly all
    ("maximum.default", XY, (ARG_X, ARG_Y), {}),
    ("minimum.default", XY, (ARG_X, ARG_Y), {}),
    ("where.self", XY, (weight(6) > 0, ARG_X, ARG_Y), {}),
    ("where.self", (X,), (weight(6) > 0, ARG_X, torch.tensor(2)), {}),
    ("logical_and.default", TRUTH, (ARG_X, ARG_Y), {}),
    ("logical_or.default", TRUTH, (ARG_X, ARG_Y), {}),
    ("logical_not.default", TRUTH[:1], (ARG_X,), {}),
    ("pow.Tensor_Tensor", (X,), (ARG_X, torch.tensor(3.0)), {}),
    *((f"{name}.default", (X,), (ARG_X,), {}) for name in (
        "neg", "abs", "exp", "reciprocal", "sin", "cos", "tanh", "erf", "floor", "ceil", "round", "sign", "sigmoid", "silu", "relu",
        "mish", "hardswish", "hardsigmoid",
    )),
    *((f"{name}.default", (X,), ("positive",), {}) for name in ("log", "sqrt")),
    ("round.default", (X,), ("halves",), {}),
    ("gelu.default", (X,), (ARG_X,), {"approximate": "none"}),
    ("gelu.default", (X,), (ARG_X,), {"approximate": "tanh"}),
    ("leaky_relu.default", (X,), (ARG_X,), {}),
    ("leaky_relu.default", (X,), (ARG_X, 0.2), {}),
    ("elu.default", (X,), (ARG_X,), {}),
    ("elu.default", (X,), (ARG_X, 1.6732632, 1.0507009), {}),  # selu
    ("softplus.default", (X,), (ARG_X,), {}),
    ("softplus.default", (X,), (ARG_X, 2.0, 20.0), {}),
    ("clamp.default", (X,), (ARG_X, -0.5, 0.5), {}),
    ("clamp.default", (X,), (ARG_X, None, 0.5), {}),
    ("clamp.default", (X,), (ARG_X, -0.5), {}),
    ("group_norm.default", (X,), (ARG_X, 2, weight(4), weight(4), 1e-5), {}),
    ("group_norm.default", (X,), (ARG_X, 4, None, None, 1e-5), {}),
    ("layer_norm.default", (X,), (ARG_X, [6], weight(6), weight(6), 1e-5), {}),
    ("layer_norm.default", (X,), (ARG_X, [6, 6], None, None, 1e-5), {}),
    ("hecompile.reveal.default", (X,), (ARG_X, weight(4) > 0, weight(4), 8), {}),
    ("softmax.int", (X,), (ARG_X, 1), {}),
    *((name, (X,), (ARG_X, [1, 3], keep), {}) for keep in (True, False) for name in (
        "mean.dim", "sum.dim_IntList", "amax.default", "amin.default",
    )),
    ("sum.dim_IntList", TRUTH[:1], (ARG_X, [1], False), {}),
    ("avg_pool2d.default", (X,), (ARG_X, [2, 3]), {}),
    ("avg_pool2d.default", (X,), (ARG_X, [3, 3], [2, 2], [1, 1], False, False), {}),
    ("max_pool2d.default", (X,), (ARG_X, [2, 2]), {}),
    ("max_pool2d.default", (X,), (ARG_X, [3, 3], [2, 2], [1, 1], [1, 1]), {}),
    ("reshape.default", (X,), (ARG_X, [-1, 2, 72]), {}),
    ("permute.default", (X,), (ARG_X, [0, 2, 3, 1]), {}),
    ("expand.default", (InputSpec("x", ("x",), (Batch(), 1, 6), "float32"),), (ARG_X, [-1, 5, -1]), {}),
    ("expand_as.default", (X,), (weight(1, 4, 1, 1), ARG_X), {}),
    ("cat.default", XY, ([ARG_X, ARG_Y, ARG_X], 1), {}),
    ("slice.Tensor", (X,), (ARG_X, 2, 1, 5, 2), {}),
    ("index_select.default", (X,), (ARG_X, 1, torch.tensor([2, 0, 3, 3])), {}),
    ("constant_pad_nd.default", (X,), (ARG_X, [1, 2, 0, 3], 0.5), {}),
    ("constant_pad_nd.default", (WHOLE,), (ARG_X, [1, 2], 7), {}),
    ("reflection_pad2d.default", (X,), (ARG_X, [1, 2, 0, 3]), {}),
    ("replication_pad2d.default", (X,), (ARG_X, [1, 2, 0, 3]), {}),
    ("upsample_nearest2d.vec", (X,), (ARG_X, None, [2.0, 3.0]), {}),
    ("upsample_bilinear2d.vec", (X,), (ARG_X, None, False, [2.0, 1.5]), {}),
    ("upsample_bilinear2d.vec", (X,), (ARG_X, None, True, [2.0, 0.5]), {}),
    ("upsample_bilinear2d.vec", (X,), (ARG_X, None, False, [7 / 6, 1.3]), {}),
    ("embedding.default", (INDEX,), (weight(5, 3), ARG_X), {}),
    ("hecompile.polynomial.default", (X, T), (ARG_X, "timestep", -1 - weight(7).abs(), 1 + weight(7).abs(), weight(7, 6)), {}),
    ("hecompile.polynomial.default", (X, T), (ARG_X, "timestep", -weight(1).abs(), weight(1).abs() + 1, weight(1, 2).double()), {}),
    ("to.dtype", (X,), (ARG_X, torch.int64), {}),
    ("to.dtype", (X,), (ARG_X, torch.float64), {}),
    ("to.dtype", (WHOLE,), (ARG_X, torch.float32), {}),
]  # fmt: skip


def full(name: str) -> str:
    return name if name.startswith("hecompile.") else f"aten.{name}"


def values(spec: InputSpec, batch: int, kind: object) -> torch.Tensor:
    shape = tuple(batch if isinstance(dim, Batch) else dim for dim in spec.shape)
    if spec.dtype == "bool":
        return torch.randint(0, 2, shape, generator=GENERATOR).bool()
    if spec.dtype == "int64":
        return torch.randint(0, 5, shape, generator=GENERATOR)
    x = torch.randn(shape, generator=GENERATOR)
    return {"positive": x.abs() + 0.1, "halves": (2 * x).round() / 2, "tenths": (10 * x).round() / 10}.get(str(kind), x)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_its_onnx_computes_what_torch_computes(case: Case) -> None:
    name, specs, args, kwargs = case
    builder = Builder()
    nodes = {spec.name: builder.input(spec) for spec in specs}
    nodes |= dict.fromkeys(("positive", "halves", "tenths"), nodes["x"])

    def resolve(argument: Any) -> Any:
        if isinstance(argument, torch.Tensor):
            return builder.constant(argument)
        if isinstance(argument, list):
            return [resolve(item) for item in argument]
        return nodes[argument] if isinstance(argument, str) else argument

    graph = builder.finish([builder.emit(full(name), *(resolve(argument) for argument in args), **kwargs)], "op", {})
    verify_graph(graph)
    data = to_onnx(graph.graph_module, "op")
    assert data == to_onnx(graph.graph_module, "op")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        inputs = {spec.name: values(spec, batch, args[0] if isinstance(args[0], str) else None) for spec in specs}
        expected = graph(*inputs.values())[0].numpy()
        result = session.run(None, {key: value.numpy() for key, value in inputs.items()})[0]
        assert result.dtype == expected.dtype
        assert result.shape == expected.shape
        scale = max(1.0, float(np.abs(expected.astype(np.float64)).max()))
        assert np.abs(result.astype(np.float64) - expected.astype(np.float64)).max() <= 4e-6 * scale


@pytest.mark.parametrize(("name", "fused"), [("silu.default", "QuickGelu"), ("gelu.default", "Gelu")])
def test_onnx_runtime_makes_one_operator_of_it(name: str, fused: str, tmp_path: Path) -> None:
    builder = Builder()
    graph = builder.finish([builder.emit(full(name), builder.input(X))], "op", {})
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(to_onnx(graph.graph_module, "op"), options, providers=["CPUExecutionProvider"])
    assert [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node] == [fused]


def test_every_row_is_exercised() -> None:
    assert {full(name) for name, *_ in CASES} == set(OPS)


def test_every_row_has_an_emitter_and_every_emitter_a_row() -> None:
    assert set(OPS) == set(EMITTERS)


@pytest.mark.parametrize("name", OPS)
def test_a_row_names_the_arguments_of_torch(name: str) -> None:
    target: Any = torch.ops
    for part in name.split("."):
        target = getattr(target, part)
    op = OPS[name]
    keywords = {argument.name for argument in target._schema.arguments if argument.kwarg_only}
    assert {word[:-1] for word in op.parameters if word.endswith("=")} <= keywords
    assert len([word for word in op.parameters if not word.endswith("=")]) <= len(target._schema.arguments)


def test_the_documented_table_is_the_table() -> None:
    path = Path(__file__).parents[2] / "docs" / "ops.md"
    assert path.read_text(encoding="utf-8") == table_markdown()


@pytest.mark.parametrize("t", [0.0, 142.85, 142.86, 999.0, 1000.0, -3.0, 285.7142944335937, 428.5714111328125])
def test_a_polynomial_takes_the_row_of_its_timestep(t: float) -> None:
    bins = 7
    builder = Builder()
    x, time = builder.input(X), builder.input(T)
    coefficients = torch.stack([torch.arange(bins).double(), torch.zeros(bins).double()], dim=1)
    tables = [builder.constant(table) for table in (-torch.ones(bins), torch.ones(bins), coefficients)]
    graph = builder.finish([builder.emit("hecompile.polynomial.default", x, time, *tables)], "op", {})
    inputs = {"x": np.zeros((1, 4, 6, 6), np.float32), "timestep": np.asarray(t, np.float32)}
    session = onnxruntime.InferenceSession(to_onnx(graph.graph_module, "op"), providers=["CPUExecutionProvider"])
    expected = timestep_bin(float(inputs["timestep"]), bins)
    assert (session.run(None, inputs)[0] == expected).all()
    assert (graph(*(torch.from_numpy(value) for value in inputs.values()))[0] == expected).all()


@pytest.mark.parametrize("degree", [1, 2, 9])
def test_a_polynomial_is_numpys(degree: int) -> None:
    rng = np.random.default_rng(0)
    row, x = rng.standard_normal(degree + 1), rng.uniform(-2, 5, 50)
    tables = (torch.tensor([-2.0]), torch.tensor([5.0]), torch.from_numpy(row[None]))
    result = torch.ops.hecompile.polynomial(torch.from_numpy(x), torch.tensor(3.0), *tables)
    np.testing.assert_allclose(result.numpy(), np.polynomial.Chebyshev(row, [-2, 5])(x), atol=1e-12)
