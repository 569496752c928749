"""Every shape of convolution and linear layer in Stable Diffusion 1.5, with a batch of two (guidance): CPU seconds of float32
torch, of the server and of the client, on one thread each, exact every time; then every kernel and two threads on a wide one."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

from benchmarks.harness import arguments, finish, machine, median_of
from hecompile import _core
from hecompile.backends.bfv.backend import BfvBackend
from hecompile.backends.bfv.choose import Choice, choose
from hecompile.backends.bfv.lowering import lower_layers
from hecompile.backends.bfv.rings import secrets_of
from hecompile.backends.bfv.stages import PackedLinearOp, ParameterizedLinearOp, encrypted_weights
from hecompile.ir import linear as forms
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.dequantizer import leading, quantize_picture
from hecompile.ir.linear import Array, Part
from hecompile.ir.linear_ops import FloatLinearOp
from hecompile.ir.quantization import quantize
from hecompile.ir.regions import CallRegion
from hecompile.machine import Machine
from hecompile.security.table import security_bits
from hecompile.timing import process_seconds

BATCH = 2
FEW_POSITIONS = 256  # of a sample: layers with fewer are told apart
WIDE = 320  # channels of a wide convolution


@dataclass(frozen=True)
class Shape:
    """Layers that read one value in one way: several linear layers have their outputs stacked."""

    kind: str  # conv, upsampled, linear
    channels: int
    outputs: tuple[int, ...]
    size: tuple[int, int]  # of the input; tokens by one
    kernel: int = 1
    stride: int = 1

    @property
    def wide(self) -> bool:
        return self.kind == "conv" and (self.kernel, self.stride) == (3, 1) and min(self.channels, *self.outputs) >= WIDE

    def __str__(self) -> str:
        outputs = "+".join(map(str, self.outputs)) if len(self.outputs) < 5 else f"{len(self.outputs)} of {sum(self.outputs)}"
        where = f"{self.size[0]} tokens" if self.kind == "linear" else f"{self.size[0]}x{self.size[1]}"
        return f"{self.kind} {self.channels}->{outputs} {self.kernel}x{self.kernel}/{self.stride} {where}"


@dataclass(frozen=True, eq=False)
class Layer:
    """A shape with random weights."""

    shape: Shape
    weights: list[torch.Tensor]
    value: torch.Tensor

    def float32(self) -> list[torch.Tensor]:
        """The layer's values as torch computes them: a tensor for each of the stacked layers, without bias."""
        shape, value = self.shape, self.value
        if shape.kind == "linear":
            return [torch.nn.functional.linear(value, weight) for weight in self.weights]
        if shape.kind == "upsampled":
            value = torch.nn.functional.interpolate(value, scale_factor=2.0, mode="nearest")
        return [
            torch.nn.functional.conv2d(value, weight, stride=shape.stride, padding=shape.kernel // 2) for weight in self.weights
        ]

    def linear_op(self) -> FloatLinearOp:
        shape, stacked = self.shape, torch.cat(self.weights).double().numpy()
        one, pad = (1, 1), (shape.kernel // 2,) * 2
        if shape.kind == "linear":
            geometry, weights = forms.linear(stacked, shape.size[0])
        elif shape.kind == "upsampled":
            geometry, weights = forms.upsampled_conv2d(stacked, shape.size, (2, 2), pad, one, 1)
        else:
            geometry, weights = forms.conv2d(stacked, shape.size, (shape.stride,) * 2, pad, one, 1)
        parts = tuple(Part(f"y{index}", count) for index, count in enumerate(shape.outputs))
        bias = np.random.default_rng(1).standard_normal(sum(shape.outputs)).astype(np.float32)
        return FloatLinearOp("x", geometry, parts, weights.copy, bias, ChannelSplit(geometry.channels))


def shapes() -> dict[Shape, int]:
    """The shapes of the layers of Stable Diffusion 1.5 that read secrets, with their number. Nothing is computed."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.upsampling import Upsample2D

    with torch.device("meta"):
        model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        values = (torch.empty(BATCH, 4, 64, 64), torch.empty(BATCH), torch.empty(BATCH, 77, 768))
    calls: list[tuple[torch.nn.Module, torch.Tensor]] = []
    upsampled = {id(module.conv): module for module in model.modules() if isinstance(module, Upsample2D)}
    for name, module in model.named_modules():
        public = "time_emb" in name  # the timestep alone
        if not public and (
            isinstance(module, torch.nn.Linear | Upsample2D) or (_convolves(module) and id(module) not in upsampled)
        ):
            module.register_forward_hook(lambda module, inputs, _: calls.append((module, inputs[0])))
    model(*values)
    readers: dict[tuple[object, ...], tuple[Shape, int]] = {}
    for module, value in calls:
        own = _shape(module, value)
        key = (id(value), own.kind, own.kernel, own.stride)
        shape = readers[key][0] if key in readers else None
        whole = Shape(own.kind, own.channels, (*(shape.outputs if shape else ()), *own.outputs), own.size, own.kernel, own.stride)
        readers[key] = (whole, 1)
    counts: dict[Shape, int] = {}
    for shape, _ in readers.values():
        counts[shape] = counts.get(shape, 0) + 1
    return counts


def _convolves(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Conv2d)


def _shape(module: torch.nn.Module, value: torch.Tensor) -> Shape:
    if isinstance(module, torch.nn.Linear):
        return Shape("linear", module.in_features, (module.out_features,), (value.shape[-2], 1))
    conv: Any = module if isinstance(module, torch.nn.Conv2d) else module.conv
    kind = "conv" if conv is module else "upsampled"
    size = (value.shape[2], value.shape[3])
    return Shape(kind, conv.in_channels, (conv.out_channels,), size, conv.kernel_size[0], conv.stride[0])


def layer(shape: Shape) -> Layer:
    """Weights and values are bell-shaped."""
    generator = torch.Generator().manual_seed(0)
    kernel = () if shape.kind == "linear" else (shape.kernel, shape.kernel)
    weights = [torch.randn(outputs, shape.channels, *kernel, generator=generator) for outputs in shape.outputs]
    size = (shape.size[0], shape.channels) if shape.kind == "linear" else (shape.channels, *shape.size)
    return Layer(shape, weights, torch.randn(BATCH, *size, generator=generator))


@dataclass(frozen=True, eq=False)
class Encrypted:
    """A layer as it is lowered, with both halves loaded."""

    choice: Choice
    packed: PackedLinearOp
    client: Any
    server: Any


def encrypted(linear_op: FloatLinearOp) -> Encrypted:
    bfv, machine_, quantized = BfvBackend(), Machine(), quantize(linear_op)
    weights = encrypted_weights(quantized)
    first = choose(weights, 1, machine_)
    if first is None:
        raise SystemExit(f"no parameters carry {linear_op.geometry}")
    choices = [choose(weights, batch, machine_, first.parameters) for batch in range(1, BATCH + 1)]
    packed = PackedLinearOp(ParameterizedLinearOp(quantized, first.parameters), 1, tuple(choice for choice in choices if choice))
    lowered = lower_layers(CallRegion("call_01", bfv.name, (packed,)), bfv.name, bfv.prime)
    return Encrypted(packed.choices[-1], packed, bfv.load_client(lowered.client), bfv.load_server(lowered.server))


def expected(packed: PackedLinearOp, value: Array) -> list[Array]:
    """The integer reference's values: sums in doubles, which are exact below 2^53, term by term."""
    quantized, geometry = packed.parameterized.quantized, packed.geometry
    integers, scales = quantize_picture(geometry.to_picture(value), packed.parameterized.parameters.limit)
    (low_y, high_y), (low_x, high_x) = geometry.reach
    rows, columns = geometry.grid
    after = max(0, rows + high_y - integers.shape[2]), max(0, columns + high_x - integers.shape[3])
    padded = np.pad(integers.astype(np.float64), ((0, 0), (0, 0), (max(0, -low_y), after[0]), (max(0, -low_x), after[1])))
    sums = np.zeros((len(integers), geometry.rows, rows * columns))
    for k, (dy, dx) in enumerate(geometry.taps):
        top, left = dy + max(0, -low_y), dx + max(0, -low_x)
        window = padded[:, :, top : top + rows, left : left + columns].reshape(len(integers), geometry.picture[0], -1)
        sums += quantized.weights[:, :, k].astype(np.float64) @ window
    grid = sums.reshape(len(integers), geometry.rows, rows, columns)
    return quantized.dequantizer.values(grid, scales, leading(value, geometry))


def measured(shape: Shape, count: int, runs: int) -> dict[str, Any]:
    """One shape: seconds of all sides, bytes, and whether every value is the integer reference's."""
    made = layer(shape)
    linear_op = made.linear_op()
    region, value, geometry = encrypted(linear_op), made.value.numpy(), linear_op.geometry
    parts, pending = region.client.encrypt([value], BATCH)
    payload = b"".join(parts)
    reply = region.server.evaluate(payload, BATCH)
    values = region.client.decrypt(reply, pending)
    exact = all(np.array_equal(got, want) for got, want in zip(values, expected(region.packed, value), strict=True))
    requests = [region.client.encrypt([value], BATCH) for _ in range(runs + 1)]  # each may be decrypted once

    def decrypt() -> None:
        region.client.decrypt(reply, requests.pop()[1])

    with torch.no_grad():
        float_s = process_seconds(made.float32, runs)
    encrypt_s, server_s = (
        process_seconds(lambda: region.client.encrypt([value], BATCH), runs),
        process_seconds(lambda: region.server.evaluate(payload, BATCH), runs),
    )
    decrypt_s = process_seconds(decrypt, runs)
    layout, parameters = region.choice.layout, region.choice.parameters
    return {
        "layer": str(shape),
        "count": count,
        "kind": shape.kind,
        "wide": shape.wide,
        "positions": math.prod(geometry.out_size),
        "float_s": float_s,
        "server_s": server_s,
        "encrypt_s": encrypt_s,
        "decrypt_s": decrypt_s,
        "client_s": encrypt_s + decrypt_s,
        "exact": exact,
        "up_bytes": len(payload),
        "down_bytes": len(reply),
        "dimension": parameters.dimension,
        "q_bits": parameters.q_bits,
        "t_bits": parameters.t_bits,
        "limit": parameters.limit,
        "proof": region.choice.proof,
        "blocks": layout.blocks,
        "packing": [layout.packing.images_per_poly, layout.packing.band_rows, layout.packing.p_in, layout.packing.p_out],
        "security_bits": round(security_bits(parameters.dimension, parameters.q_bits, secrets_of(layout.blocks, 1)), 1),
        "form": region.server.form(0, BATCH),
        "upload_coefficients": layout.blocks * layout.uploads * parameters.dimension,
        "answer_coefficients": layout.blocks * layout.answers * parameters.dimension,
        "macs": geometry.rows * layout.uploads * layout.packing.p_in * len(geometry.taps) * parameters.limbs
        * (parameters.dimension + layout.blocks * layout.packing.p_out * layout.channel_stride),
    }  # fmt: skip


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = _core.threads()
    _core.set_threads(count)
    try:
        yield
    finally:
        _core.set_threads(before)


def by_kernel(shape: Shape, runs: int) -> dict[str, dict[str, float]]:
    """Nanoseconds a coefficient, and GMAC/s of the server, with every kernel that this processor runs."""
    before, result = _core.kernel(), {}
    for name in _core.kernels():
        _core.use_kernel(name)
        figures = measured(shape, 1, runs)
        if not figures["exact"]:
            raise SystemExit(f"kernel {name} is not exact")
        result[name] = {
            "encrypt_ns": figures["encrypt_s"] / figures["upload_coefficients"] * 1e9,
            "decrypt_ns": figures["decrypt_s"] / figures["answer_coefficients"] * 1e9,
            "gmac_per_s": figures["macs"] / figures["server_s"] / 1e9,
            "server_over_float": figures["server_s"] / figures["float_s"],
        }
    _core.use_kernel(before)
    return result


def speed_up(shape: Shape, runs: int) -> dict[str, float]:
    """Wall seconds with one thread over those with two, of the server and of the client's encryption and decryption."""
    made = layer(shape)
    region, value = encrypted(made.linear_op()), made.value.numpy()
    payload = b"".join(region.client.encrypt([value], BATCH)[0])
    reply = region.server.evaluate(payload, BATCH)

    def client() -> None:
        region.client.decrypt(reply, region.client.encrypt([value], BATCH)[1])

    seconds: dict[str, list[float]] = {"server": [], "client": []}
    for count in (1, 2):
        with threads(count):
            seconds["server"].append(median_of(runs, lambda: region.server.evaluate(payload, BATCH))["median_s"])
            seconds["client"].append(median_of(runs, client)["median_s"])
    return {side: one / two for side, (one, two) in seconds.items()}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all layers together: sums weigh a shape by how often it is there."""

    def total(name: str) -> float:
        return float(sum(row[name] * row["count"] for row in rows))

    ratios = [row["server_s"] / row["float_s"] for row in rows]
    many = [ratio for row, ratio in zip(rows, ratios, strict=True) if row["positions"] >= FEW_POSITIONS]
    few = [ratio for row, ratio in zip(rows, ratios, strict=True) if row["positions"] < FEW_POSITIONS]
    wide = [row["client_s"] / row["float_s"] for row in rows if row["wide"]]
    limbs = [row["macs"] / row["server_s"] / 1e9 for row in rows if row["form"] == "limbs"]
    return {
        "layers": sum(row["count"] for row in rows),
        "exact": all(row["exact"] for row in rows),
        "client_over_float": total("client_s") / total("float_s"),
        "client_over_float_wide_worst": max(wide, default=0.0),
        "server_over_float": total("server_s") / total("float_s"),
        "server_over_float_geomean": math.exp(statistics.fmean(math.log(ratio) for ratio in ratios)),
        "server_over_float_worst": max(many, default=0.0),
        "server_over_float_worst_small": max(few, default=0.0),
        "float_total_s": total("float_s"),
        "client_total_s": total("client_s"),
        "server_total_s": total("server_s"),
        "up_total_bytes": total("up_bytes"),
        "down_total_bytes": total("down_bytes"),
        "gmac_per_s": max(limbs, default=0.0),
        "least_security_bits": min(row["security_bits"] for row in rows),
    }


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    counts, runs = shapes(), 1 if options.smoke else options.runs
    wide = Shape("conv", 320, (320,), (64, 64), 3)
    if options.smoke:
        wide = Shape("conv", 32, (32,), (16, 16), 3)
        counts = {wide: 1, Shape("linear", 32, (32, 32), (16, 1)): 1}
    rows = []
    with threads(1):
        for shape, count in counts.items():
            rows.append(measured(shape, count, runs))
            if not options.json:
                row = rows[-1]
                ratios = [row[side] / row["float_s"] for side in ("client_s", "server_s")]
                sys.stdout.write(
                    f"{row['count']:3} {row['layer']:44} float {row['float_s'] * 1e3:8.1f} ms, client {ratios[0]:5.2f}, "
                )
                sys.stdout.write(
                    f"server {ratios[1]:6.2f}, {row['form']}, q {row['q_bits']}, X {row['limit']}, exact {row['exact']}\n"
                )
                sys.stdout.flush()
        kernels = by_kernel(wide, runs)
    best = kernels[_core.kernel()]
    figures = {
        "batch": BATCH,
        "threads": 1,
        "kernel": _core.kernel(),
        "runs": runs,
        **summary(rows),
        "encrypt_ns": best["encrypt_ns"],
        "decrypt_ns": best["decrypt_ns"],
        "kernels": kernels,
        "two_threads": speed_up(wide, runs),
        "shapes": rows,
    }
    finish(figures | machine(), options.json)


if __name__ == "__main__":
    main()
