"""Our lowering to Concrete against Concrete ML called directly, on the same layers: a conv, a conv with SiLU, a linear stack.

Both sides start from float32 values and end with them: quantise, encrypt, evaluate, decrypt, through bytes, with the same error
probability, compressed inputs, and keys made before. Ours goes through both halves and a worker process; theirs stays in this
process. Runs alternate. `stack` is two convs with a skip, which Concrete ML requantises by lookups and ours runs in two requests.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.pop(0)  # the folder of this file, which has the name of the library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

import hecompile
from benchmarks.harness import arguments, finish, machine
from hecompile.backends.base import Half, Secrets, Session
from hecompile.backends.concrete.circuits import configuration
from hecompile.backends.concrete.gate import predict
from hecompile.backends.concrete.lookup_backend import LookupBackend, Names
from hecompile.backends.concrete.lowering import Widths, export, lower_region
from hecompile.compiler import compile_model
from hecompile.cost.machine import Machine
from hecompile.cost.measure_concrete import with_lookups
from hecompile.options import CompileOptions

WIDTHS = Widths(4, 5)
P_ERROR = 2.0**-40


class Conv(torch.nn.Module):
    """One layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return self.conv(sample)


class Act(Conv):
    """A layer with its activation."""

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.silu(self.conv(sample))


class Stack(Conv):
    """Two layers and a skip, linear as a whole."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.second = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return self.second(self.conv(sample)) + sample


class Graph(torch.nn.Module):
    """A module as the lowering sees a region: a tuple comes out."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.inner(sample),)


def alternate(runs: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Median, least and most seconds of both, run in turns after one warm run each."""
    taken: tuple[list[float], list[float]] = ([], [])
    ours(), theirs()
    for _ in range(runs):
        for into, task in zip(taken, (ours, theirs), strict=True):
            started = time.perf_counter()
            task()
            into.append(time.perf_counter() - started)
    first, second = ({"median_s": statistics.median(each), "min_s": min(each), "max_s": max(each), "n": runs} for each in taken)
    return first, second


def direct(net: torch.nn.Module, values: np.ndarray, n_bits: int, lookups: bool) -> Callable[[], Any]:
    """Concrete ML's own compilation with keys made, run as its deployment does: through bytes."""
    from concrete.fhe import Value
    from concrete.ml.torch.compile import compile_onnx_model

    rounding = {"n_bits": WIDTHS.lookup_bits, "method": "exact"} if lookups else None
    module = compile_onnx_model(
        export(Graph(net), values[:1]), values, n_bits=n_bits, rounding_threshold_bits=rounding, p_error=P_ERROR,
        configuration=configuration(None, lookups=True),
    )  # fmt: skip
    circuit = module.fhe_circuit
    circuit.keygen()
    keys = circuit.keys.evaluation

    def run() -> Any:
        request = circuit.encrypt(module.quantize_input(values[:1])).serialize()
        reply = circuit.server.run(Value.deserialize(request), evaluation_keys=keys).serialize()
        return module.dequantize_output(circuit.decrypt(Value.deserialize(reply)))

    return run


def linear_pair(net: torch.nn.Module, values: np.ndarray, folder: Path) -> Callable[[], Any]:
    """A model under `concrete`, through its client and server."""
    example = {"sample": torch.from_numpy(values[:2])}
    compile_model(net, folder, options=CompileOptions(backend="concrete", max_batch=1), example_inputs=example)
    unet = hecompile.load(folder)
    return lambda: unet(torch.from_numpy(values[:1]))


def lookup_pair(net: torch.nn.Module, values: np.ndarray) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A conv with its activation, through the client and server of `concrete_lookups`; what was predicted and measured."""
    reference = net(torch.from_numpy(values)).detach().numpy()
    twin = lower_region(export(Graph(net), values[:1]), values, reference, WIDTHS, P_ERROR)
    prediction = predict(twin, with_lookups(Machine()))
    halves = LookupBackend().halves(twin, values, Names("act", ("sample",), ("act",)), 1)
    client, server = LookupBackend().load_client(halves.client), LookupBackend().load_server(halves.server)
    secrets = Secrets()
    keys = {name: server.load_key(name, memoryview(key)) for name, key in client.evaluation_keys(secrets).items()}
    session = Session("0" * 32, keys)

    def run() -> Any:
        payload, pending = client.encrypt([values[:1]], 1, secrets)
        return client.decrypt(server.evaluate(payload, 1, session), pending)

    return run, told(halves.client) | {"act_predicted_cpu_s": prediction.seconds, "act_measured_cpu_s": halves.measured_s}


def told(half: Half) -> dict[str, Any]:
    """What an artifact says of its lookups."""
    names = ("lookups", "complexity", "key_bytes", "widths", "distortion_db")
    return {f"act_{name}": half.program[name] for name in names}


def measure(sizes: tuple[int, int, int], act_channels: int, runs: int, act_runs: int) -> dict[str, Any]:
    """All figures."""
    channels, side, act_side = sizes
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((20, channels, side, side)).astype(np.float32)
    narrow = rng.standard_normal((20, act_channels, act_side, act_side)).astype(np.float32)
    found: dict[str, Any] = {"conv_size": [channels, side], "act_size": [act_channels, act_side]}
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        pairs: list[tuple[str, Callable[[], Any], Callable[[], Any], int]] = []
        conv, act, stack = Conv(channels).eval(), Act(act_channels).eval(), Stack(act_channels).eval()
        pairs.append(("conv", linear_pair(conv, wide, Path(folder) / "conv"), direct(conv, wide, 8, False), runs))
        ours, facts = lookup_pair(act, narrow)
        pairs.append(("act", ours, direct(act, narrow, WIDTHS.bits, True), act_runs))
        linear = linear_pair(stack, narrow, Path(folder) / "stack")
        pairs.append(("stack", linear, direct(stack, narrow, WIDTHS.bits, True), act_runs))
        for name, task, other, count in pairs:
            mine, theirs = alternate(count, task, other)
            found |= {f"{name}_ours_s": mine["median_s"], f"{name}_direct_s": theirs["median_s"]}
            found |= {f"{name}_ours_runs": mine, f"{name}_direct_runs": theirs}
    return found | facts


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    figures = measure((4, 4, 2), 1, 1, 1) if options.smoke else measure((16, 8, 4), 2, max(9, options.runs), 7)
    for name in ("conv", "act", "stack"):
        figures[f"{name}_ratio"] = figures[f"{name}_ours_s"] / figures[f"{name}_direct_s"]
    finish({"benchmark": "concrete", "smoke": options.smoke, "p_error": P_ERROR, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
