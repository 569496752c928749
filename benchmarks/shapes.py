"""A caption drawn in four steps with guidance: plaintext, and encrypted through a server in a second process.

Times and bytes are of one caption; quality is of 200 held-out captions, judged by the exact reader.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import hecompile
from benchmarks.harness import arguments, cpu_seconds, finish, machine, median_of
from hecompile.ir.linear import Array
from hecompile.ir.regions import Program
from hecompile.models.shapes import GUIDANCE, STEPS, load_pipeline
from hecompile.models.shapes.card import held_out, sampled
from hecompile.models.shapes.reader import shares

SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]


def drawn_through_a_server(folder: Path, runs: int, scenes: list[Any]) -> tuple[dict[str, Any], list[Array]]:
    """Figures of one caption through a server in a second process, and the pictures of all scenes."""
    server = subprocess.Popen([*SERVE, str(folder), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        unet = hecompile.load(folder, json.loads(server.stdout.readline())["url"])
        pipeline, meter = load_pipeline(unet=unet), unet.meter
        sampled(pipeline, scenes[:1])
        before = (cpu_seconds(server.pid), meter.requests, meter.bytes_up, meter.bytes_down)
        encrypted = median_of(runs, lambda: sampled(pipeline, scenes[:1]), warm_up=0)
        after = (cpu_seconds(server.pid), meter.requests, meter.bytes_up, meter.bytes_down)
        server_cpu_s, requests, up, down = ((now - then) / runs for now, then in zip(after, before, strict=True))
        pictures = sampled(pipeline, scenes)
    finally:
        server.terminate()
        server.wait()
    figures = {
        "encrypted_s": encrypted["median_s"],
        "encrypted_runs": encrypted,
        "client_cpu_s": encrypted["cpu_s"],
        "server_cpu_s": server_cpu_s,
        "requests": requests,
        "bytes_up": up,
        "bytes_down": down,
    }
    return figures, pictures


def measure(folder: Path, runs: int, few: int, captions: int) -> dict[str, Any]:
    """All figures; `few` captions are drawn encrypted."""
    compiled, simulated = (
        hecompile.compile("shapes", folder / "bfv"),
        hecompile.compile("shapes", folder / "clear", backend="clear"),
    )
    assert compiled.artifact is not None
    scenes, plain, clear = held_out(captions), load_pipeline(), load_pipeline(unet=simulated.load())
    plaintext = median_of(runs, lambda: sampled(plain, scenes[:1]))
    figures, encrypted = drawn_through_a_server(compiled.artifact, runs, scenes[:few])
    of_clear, of_float = sampled(clear, scenes), sampled(plain, scenes)
    error = np.mean((np.stack(of_clear).astype(np.float64) - np.stack(of_float)) ** 2)
    assert isinstance(compiled.program, Program)
    return {
        "steps": STEPS,
        "guidance": GUIDANCE,
        "plaintext_s": plaintext["median_s"],
        "plaintext_runs": plaintext,
        **figures,
        "offload_ratio": figures["client_cpu_s"] / plaintext["cpu_s"],
        "captions": captions,
        "captions_encrypted": few,
        "bit_equal_to_clear": bool(np.array_equal(np.stack(encrypted), np.stack(sampled(clear, scenes[:few])))),
        "psnr_db": float(10 * np.log10(255**2 / error)),
        "float": shares(scenes, of_float),
        "clear": shares(scenes, of_clear),
        "rounds_per_step": compiled.program.plan.rounds,
        "server_key_bytes": 0,
        "security_bits": json.loads((compiled.artifact / "manifest.json").read_text())["security_bits"],
    }


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), *((1, 2, 4) if options.smoke else (options.runs, 20, 200)))
    finish({"benchmark": "shapes", "smoke": options.smoke, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
