"""Sampling of digits with activations at the server (`ckks`), beside `bfv` in the same run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import hecompile
from benchmarks.boundaries import boundaries, watched
from benchmarks.digits import SERVE, draw
from benchmarks.harness import cpu_seconds, median_of
from hecompile.compiler import compile_model
from hecompile.ir.linear import Array
from hecompile.models import digits
from hecompile.models.digits.classifier import recognised_share
from hecompile.options import CompileOptions
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.transports import HttpTransport

__all__ = ["measure_chains"]


@contextmanager
def _served(folder: Path) -> Iterator[tuple[Any, int, dict[str, Any]]]:
    """The model through a server in a second process, that process, and witnesses of the regions with polynomials."""
    server = subprocess.Popen([*SERVE, str(folder), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        bundle, witnesses = watched(load_bundle(folder))
        unet = EncryptedUNet(bundle, HttpTransport(json.loads(server.stdout.readline())["url"]))
        yield unet, server.pid, witnesses
        unet.close()
    finally:
        server.terminate()
        server.wait()


def _one_digit(unet: Any, pid: int, steps: int) -> tuple[dict[str, Any], Array]:
    """Times, traffic and rounds of one digit; keys are made and sent before."""
    draw(unet, [7], 1)
    meter = unet.meter
    meter.out_of_range.clear()  # a single step is no run that anything was fitted to
    before = (cpu_seconds(pid), meter.requests, meter.bytes_up, meter.bytes_down, meter.calls)
    pictures: list[Array] = []
    run = median_of(1, lambda: pictures.append(draw(unet, [7], steps)), warm_up=0)
    after = (cpu_seconds(pid), meter.requests, meter.bytes_up, meter.bytes_down, meter.calls)
    server_s, requests, up, down, calls = (now - then for now, then in zip(after, before, strict=True))
    figures = {
        "encrypted_s": run["median_s"], "client_cpu_s": run["cpu_s"], "server_cpu_s": server_s, "rounds_per_step": requests / calls,
        "bytes_up_per_step": up / calls, "bytes_down_per_step": down / calls, "key_bytes": meter.key_bytes, "key_s": meter.key_s,
        "out_of_range": dict(meter.out_of_range),
    }  # fmt: skip
    return figures, pictures[0]


def _regions(folder: Path) -> list[dict[str, Any]]:
    """Layers, polynomials and rings of the regions that hold polynomials."""
    regions = []
    for path in sorted((folder / "server").glob("call_*_ckks.json")):
        document = json.loads(path.read_text())
        polynomials = document["text"].count("he.polynomial")
        ring = document["text"].splitlines()[0]
        regions.append({"region": path.stem, "layers": document["layers"] - polynomials, "polynomials": polynomials, "ring": ring})
    return regions


def measure_chains(folder: Path, steps: int, ten_steps: int, samples: int) -> dict[str, Any]:
    """All figures of `ckks`, and those of `bfv` with its prefix."""
    started = time.perf_counter()
    for name in ("ckks", "ckks_clear", "bfv"):
        compile_model("digits", folder / name, options=CompileOptions(backend=name))
    compile_s = time.perf_counter() - started
    plain, clear = digits.load(), hecompile.load(folder / "ckks_clear", policy="simulation")
    plaintext = median_of(5, lambda: draw(plain, [7], steps))
    figures: dict[str, dict[str, Any]] = {}
    for name in ("bfv", "ckks"):
        with _served(folder / name) as (unet, pid, witnesses):
            figures[name], picture = _one_digit(unet, pid, steps)
            figures[name]["offload_ratio"] = figures[name]["client_cpu_s"] / plaintext["cpu_s"]
    seen = boundaries(folder / "ckks", witnesses, steps)
    labels, many = list(range(10)), [place % 10 for place in range(samples)]
    with torch.no_grad():
        reference, simulated = draw(plain, labels, ten_steps), draw(clear, labels, ten_steps)
    error = simulated.astype(np.float64) - reference
    return {
        "steps": steps,
        "compile_s": compile_s,
        "plaintext_s": plaintext["median_s"],
        **figures["ckks"],
        **{f"bfv_{name}": value for name, value in figures["bfv"].items()},
        "largest_difference_to_clear": float(np.abs(picture - draw(clear, [7], steps)).max()),
        "psnr_db": float(10 * np.log10(1 / np.mean(error**2))),
        "encrypted_psnr_db": float(10 * np.log10(1 / np.mean((picture.astype(np.float64) - draw(plain, [7], steps)) ** 2))),
        "recognised_float": recognised_share(draw(plain, many, ten_steps), many),
        "recognised_clear": recognised_share(draw(clear, many, ten_steps), many),
        "samples": samples,
        "regions": _regions(folder / "ckks"),
        "worst_error_over_bound": max(boundary.worst for boundary in seen),
        "boundaries": [asdict(boundary) for boundary in seen],  # of the encrypted digit: every region at every step
        "security_bits": json.loads((folder / "ckks" / "manifest.json").read_text())["security_bits"],
    }
