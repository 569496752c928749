"""Our lowering to Concrete against Concrete ML called directly, on the same layers: a conv, a conv with SiLU, a stack.

Both sides start from float32 values and end with them: quantise, encrypt, evaluate, decrypt, through bytes, in this process,
with the same bits, error probability, compressed inputs, and keys made before. Runs alternate. Concrete ML takes the width of a
result from what it saw in calibration, ours is proved for every picture and wider for it: both are printed, and the PSNR of
both results against the conv in float32. Loops of one circuit run on all cores on both sides. `served` is ours with the worker
process between the halves. `stack` is two convs with a skip, which Concrete ML requantises by table lookups and ours runs as
one circuit. `chain` is a region of conv, SiLU, conv: predicted and measured.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

import hecompile
from benchmarks.harness import arguments, finish, machine
from hecompile.backends.concrete import server
from hecompile.backends.concrete.library import configuration, specs_text
from hecompile.backends.concrete.linear.program import linear_program
from hecompile.backends.concrete.lookups import server as lookup_server
from hecompile.backends.concrete.lookups.admission import predicted_cost
from hecompile.backends.concrete.lookups.backend import LookupBackend
from hecompile.backends.concrete.lookups.lowering import Widths, export, lower_region
from hecompile.backends.concrete.lookups.regions import Names
from hecompile.backends.concrete.lookups.regions import halves as circuit_halves
from hecompile.backends.concrete.measure import with_lookups
from hecompile.backends.concrete.specs import parse_specs
from hecompile.backends.concrete.stacks.program import stack_program
from hecompile.backends.concrete.worker import Worker
from hecompile.backends.concrete.workers import Done, Job
from hecompile.backends.region_client import Secrets
from hecompile.backends.region_server import Session
from hecompile.compiler import compile_model
from hecompile.ir.halves import Half
from hecompile.ir.linear import Array
from hecompile.ir.regions import Program
from hecompile.machine import Machine
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


class Chain(Stack):
    """A region for table lookups: a layer, its activation, a layer."""

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return self.second(torch.nn.functional.silu(self.conv(sample)))


class Inline:
    """What worker processes do, in this process."""

    def __init__(self) -> None:
        self._worker, self._known = Worker(), set[str]()

    def run(self, jobs: Sequence[Job], limit_s: float) -> list[Done]:
        answers = []
        for job in jobs:
            circuit = job.circuit
            if circuit.name not in self._known:
                self._worker.load(circuit.name, circuit.mlir, circuit.p_error, circuit.keys)
            if job.session and job.session not in self._known:
                self._worker.keys(job.session, job.keys)
            self._known |= {circuit.name, job.session}
            answers.append(Done(**self._worker.run(circuit.name, job.session, list(job.ciphertexts))))
        return answers


class Graph(torch.nn.Module):
    """A module as the lowering sees a region: a tuple comes out."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.inner(sample),)


def region_graph(net: torch.nn.Module) -> Any:
    """The module that `export` gets, which takes any module although it says that it wants a graph."""
    return Graph(net)


@contextmanager
def inline() -> Iterator[None]:
    """Servers evaluate in this process."""
    one, modules = Inline(), (server, lookup_server)
    kept = [vars(module)["workers"] for module in modules]
    for module in modules:
        vars(module)["workers"] = lambda: one
    try:
        yield
    finally:
        for module, workers in zip(modules, kept, strict=True):
            vars(module)["workers"] = workers


def alternate(runs: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Median, least and most seconds of both, run in turns after one warm run each."""
    taken: tuple[list[float], list[float]] = ([], [])
    ours(), theirs()
    for _ in range(runs):
        for into, task in zip(taken, (ours, theirs), strict=True):
            started = time.perf_counter()
            task()
            into.append(time.perf_counter() - started)
    first, second = (
        {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds), "n": runs} for seconds in taken
    )
    return first, second


def direct(net: torch.nn.Module, values: Array, n_bits: int, lookups: bool) -> tuple[Callable[[], Any], int]:
    """Concrete ML's own compilation with keys made, run as its deployment does: through bytes. And the bits of its result."""
    from concrete.fhe import Value
    from concrete.ml.torch.compile import compile_onnx_model

    rounding = {"n_bits": WIDTHS.lookup_bits, "method": "exact"} if lookups else None
    module = compile_onnx_model(
        export(region_graph(net), values[:1]), values, n_bits=n_bits, rounding_threshold_bits=rounding, p_error=P_ERROR,
        configuration=configuration(None),
    )  # fmt: skip
    circuit = module.fhe_circuit
    circuit.keygen()
    keys = circuit.keys.evaluation

    def run() -> Any:
        request = circuit.encrypt(module.quantize_input(values[:1])).serialize()
        reply = circuit.server.run(Value.deserialize(request), evaluation_keys=keys).serialize()
        return module.dequantize_output(circuit.decrypt(Value.deserialize(reply)))

    return run, parse_specs(specs_text(circuit.client.specs)).output_width


def linear_pair(net: torch.nn.Module, values: Array, folder: Path) -> tuple[Callable[[], Any], Half]:
    """A model of one region under `concrete`, through its client and server. And the client's half."""
    example = {"sample": torch.from_numpy(values[:2])}
    compiled = compile_model(net, folder, options=CompileOptions(backend="concrete", max_batch=1), example_inputs=example)
    assert isinstance(compiled.program, Program)
    (half,) = [region.lowered.client for region in compiled.program.calls.values() if region.lowered]
    unet = hecompile.load(folder)
    return lambda: unet(torch.from_numpy(values[:1])), half


def lookup_pair(name: str, net: torch.nn.Module, values: Array) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A region through the client and server of `concrete_lookups`; what was predicted and measured of its first run, whose
    result equals the region in the clear or there is an error."""
    reference = net(torch.from_numpy(values)).detach().numpy()
    compiled = lower_region(export(region_graph(net), values[:1]), values, reference, WIDTHS, P_ERROR)
    prediction = predicted_cost(compiled, with_lookups(Machine()))
    halves = circuit_halves(compiled, values, Names(name, ("sample",), (name,)), 1)
    client, server = LookupBackend().load_client(halves.client), LookupBackend().load_server(halves.server)
    secrets = Secrets()
    keys = {name: server.load_key(name, memoryview(key)) for name, key in client.evaluation_keys(secrets).items()}
    session = Session("0" * 32, keys)

    def run() -> Any:
        payload, pending = client.encrypt([values[:1]], 1, secrets)
        return client.decrypt(server.evaluate(b"".join(payload), 1, session), pending)

    figures = told(name, halves.client)
    figures |= {f"{name}_predicted_cpu_s": prediction.seconds, f"{name}_measured_cpu_s": halves.measured_s}
    return run, figures | {f"{name}_measured_over_predicted": halves.measured_s / prediction.seconds}


def told(name: str, half: Half) -> dict[str, Any]:
    """What an artifact says of its lookups."""
    names = ("lookups", "complexity", "key_bytes", "widths", "distortion_db")
    return {f"{name}_{field}": half.program[field] for field in names}


def chain(channels: int, side: int) -> dict[str, Any]:
    """A region of several layers, and the seconds that its client waits for it."""
    values = np.random.default_rng(0).standard_normal((20, channels, side, side)).astype(np.float32)
    with torch.no_grad():
        run, figures = lookup_pair("chain", Chain(channels).eval(), values)
    started = time.perf_counter()
    run()
    return figures | {"chain_size": [channels, side], "chain_wall_s": time.perf_counter() - started}


def measure(sizes: tuple[int, int, int], act_channels: int, runs: int, act_runs: int) -> dict[str, Any]:
    """All figures but those of the chain."""
    channels, side, act_side = sizes
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((20, channels, side, side)).astype(np.float32)
    narrow = rng.standard_normal((20, act_channels, act_side, act_side)).astype(np.float32)
    figures: dict[str, Any] = {"conv_size": [channels, side], "act_size": [act_channels, act_side]}
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        figures |= measure_conv(Conv(channels).eval(), wide, Path(folder) / "conv", runs)
        activated, facts = lookup_pair("act", Act(act_channels).eval(), narrow)
        theirs, _ = direct(Act(act_channels).eval(), narrow, WIDTHS.bits, True)
        with inline():
            figures |= compared("act", "ours", *alternate(act_runs, activated, theirs)) | facts
        linear, half = linear_pair(Stack(act_channels).eval(), narrow, Path(folder) / "stack")
        theirs, _ = direct(Stack(act_channels).eval(), narrow, WIDTHS.bits, True)
        with inline():
            figures |= compared("stack", "ours", *alternate(act_runs, linear, theirs))
    body = stack_program(half).body
    return figures | {
        "stack_layers": body.layers, "stack_width": body.circuit.output_width, "stack_db": body.distortion_db,
    }  # fmt: skip


def measure_conv(conv: torch.nn.Module, values: Array, folder: Path, runs: int) -> dict[str, Any]:
    """One layer, in this process and served."""
    (ours, half), (theirs, width) = linear_pair(conv, values, folder), direct(conv, values, 8, False)
    exact = conv(torch.from_numpy(values[:1])).numpy()
    with inline():
        figures = {"conv_ours_db": psnr_db(ours().numpy(), exact), "conv_direct_db": psnr_db(theirs(), exact)}
        alone = compared("conv", "ours", *alternate(runs, ours, theirs))
    figures |= {"conv_ours_width": linear_program(half).body.layers[0].circuit.output_width, "conv_direct_width": width}
    return figures | compared("conv", "served", *alternate(runs, ours, theirs)) | alone


def psnr_db(got: Array, exact: Array) -> float:
    """Against the range of the exact values."""
    return float(20 * np.log10(np.ptp(exact) / np.sqrt(np.mean((got - exact) ** 2))))


def compared(name: str, mine: str, ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Both sides of a comparison."""
    return {
        f"{name}_{mine}_s": ours["median_s"],
        f"{name}_{mine}_runs": ours,
        f"{name}_direct_s": theirs["median_s"],
        f"{name}_direct_runs": theirs,
        f"{name}{'' if mine == 'ours' else '_' + mine}_ratio": ours["median_s"] / theirs["median_s"],
    }


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    figures = measure((4, 4, 2), 1, 1, 1) if options.smoke else measure((16, 8, 4), 2, max(15, options.runs), 7)
    if not options.smoke:
        with inline():
            figures |= chain(8, 8)
    finish({"benchmark": "concrete", "smoke": options.smoke, "p_error": P_ERROR, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
