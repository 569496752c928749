"""Ten-step sampling of digits: plaintext, simulated and encrypted through a server in a second process.

Times are of one digit; quality is of ten digits (PSNR) and of 200 (recognised share).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

import hecompile
from benchmarks.harness import arguments, cpu_seconds, finish, machine, median_of
from hecompile.compiler import compile_model
from hecompile.ir.linear import Array
from hecompile.models import digits
from hecompile.models.digits.classifier import recognised_share
from hecompile.models.digits.pipeline import ClassConditionalPipeline
from hecompile.models.digits.schedulers import make_scheduler
from hecompile.options import CompileOptions

SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]


def draw(unet: torch.nn.Module, labels: list[int], steps: int) -> Array:
    """Images (B, 8, 8, 1) in [0, 1], each label with its own seed."""
    pipeline = ClassConditionalPipeline(unet, make_scheduler("ddim", dict(digits.SCHEDULER)))
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(place) for place in range(len(labels))]
    images: Array = pipeline(labels, steps, generators, output_type="np").images
    return images


def sampled(folder: Path, labels: list[int], steps: int, runs: int) -> tuple[dict[str, Any], Array, Array, float]:
    """A digit through a server in a second process: figures, the picture, the pictures of all labels and their seconds."""
    server = subprocess.Popen([*SERVE, str(folder), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        unet = hecompile.load(folder, json.loads(server.stdout.readline())["url"])
        picture, meter = draw(unet, [7], steps), unet.meter
        before = (cpu_seconds(server.pid), meter.requests, meter.bytes_up, meter.bytes_down, meter.calls)
        encrypted = median_of(runs, lambda: draw(unet, [7], steps), warm_up=0)
        calls = meter.calls - before[4]
        server_cpu_s = (cpu_seconds(server.pid) - before[0]) / runs
        after = (meter.requests, meter.bytes_up, meter.bytes_down)
        rounds, up, down = ((now - then) / calls for now, then in zip(after, before[1:4], strict=True))
        started = time.perf_counter()
        all_pictures = draw(unet, labels, steps)
        all_s = time.perf_counter() - started
    finally:
        server.terminate()
        server.wait()
    figures = {
        "encrypted_s": encrypted["median_s"],
        "encrypted_runs": encrypted,
        "client_cpu_s": encrypted["cpu_s"],
        "server_cpu_s": server_cpu_s,
        "rounds_per_step": rounds,
        "bytes_up_per_step": up,
        "bytes_down_per_step": down,
    }
    return figures, picture, all_pictures, all_s


def measure(folder: Path, steps: int, runs: int, samples: int) -> dict[str, Any]:
    """All figures."""
    encrypted_folder, fresh_folder, clear_folder = folder / "bfv", folder / "fresh", folder / "clear"
    compile_model("digits", encrypted_folder)
    compile_model("digits", fresh_folder, options=CompileOptions(client_cache_mib=0))
    compile_model("digits", clear_folder, options=CompileOptions(backend="clear"))
    plain, clear = digits.load(), hecompile.load(clear_folder, policy="simulation")
    labels = list(range(10))
    plaintext = median_of(runs, lambda: draw(plain, [7], steps))
    encrypted, picture, ten, ten_s = sampled(encrypted_folder, labels, steps, runs)
    fresh, fresh_picture, _, _ = sampled(fresh_folder, labels, steps, runs)
    simulated = median_of(runs, lambda: draw(clear, [7], steps))
    many = [place % 10 for place in range(samples)]
    reference = draw(plain, labels, steps)
    report = json.loads((encrypted_folder / "manifest.json").read_text())
    return {
        "steps": steps,
        "plaintext_s": plaintext["median_s"],
        "encrypted_s": encrypted["encrypted_s"],
        "clear_s": simulated["median_s"],
        "encrypted_runs": encrypted["encrypted_runs"],
        "plaintext_runs": plaintext,
        "ten_digits_encrypted_s": ten_s,
        "psnr_db": float(10 * np.log10(1 / np.mean((ten.astype(np.float64) - reference) ** 2))),
        "bit_equal_to_clear": bool(np.array_equal(ten, draw(clear, labels, steps))),
        "recognised_float": recognised_share(draw(plain, many, steps), many),
        "recognised_clear": recognised_share(draw(clear, many, steps), many),
        "samples": samples,
        "client_cpu_s": encrypted["client_cpu_s"],
        "server_cpu_s": encrypted["server_cpu_s"],
        "offload_ratio": encrypted["client_cpu_s"] / plaintext["cpu_s"],
        "rounds_per_step": encrypted["rounds_per_step"],
        "bytes_up_per_step": encrypted["bytes_up_per_step"],
        "bytes_down_per_step": encrypted["bytes_down_per_step"],
        "fresh_seeds": {**fresh, "offload_ratio": fresh["client_cpu_s"] / plaintext["cpu_s"]},
        "same_picture_with_fresh_seeds": bool(np.array_equal(picture, fresh_picture)),
        "server_key_bytes": 0,
        "security_bits": report["security_bits"],
        "parameters": sorted(ring_names(encrypted_folder)),
    }


def ring_names(folder: Path) -> set[str]:
    """Every ring in use."""
    names = set()
    for path in (folder / "server").glob("call_*.json"):
        for layer in json.loads(path.read_text())["layers"]:
            names.add("N{dimension} q{q_bits} t{t_bits}".format(**layer["parameters"]))
    return names


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, ("bfv", "ckks"))
    if options.backend == "ckks":
        from benchmarks.digits_chains import measure_chains

        with tempfile.TemporaryDirectory() as folder:
            figures = measure_chains(Path(folder), *((1, 2, 10) if options.smoke else (10, 10, 200)))
        finish({"benchmark": "digits", "backend": "ckks", "smoke": options.smoke, **figures, "machine": machine()}, options.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        size = (2, 1, 10) if options.smoke else (10, options.runs, 200)
        figures = measure(Path(folder), *size)
    finish({"benchmark": "digits", "smoke": options.smoke, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
