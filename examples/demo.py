"""Compile the digits model, serve it in a second process, draw ten digits through it, and report.

`make demo` runs this. Writes out/digits.png (plaintext row over encrypted row) and out/report.html.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image
from rich.console import Console

import hecompile
from hecompile.artifact import read_manifest
from hecompile.models import digits
from hecompile.models.digits.pipeline import ClassConditionalPipeline
from hecompile.report.html import run_report
from hecompile.sampling.pictures import picture_row

OUT, STEPS = Path("out"), 10
COMMAND = [sys.executable, "-c", "from hecompile.cli import main; main()"]


def draw(unet: torch.nn.Module) -> np.ndarray:
    """Ten digits, one per class, each with its own seed: (10, 8, 8, 1) in [0, 1]."""
    pipeline = ClassConditionalPipeline(unet, DDIMScheduler(**digits.SCHEDULER))
    generators = [torch.Generator().manual_seed(label) for label in range(digits.CLASSES)]
    return pipeline(range(digits.CLASSES), STEPS, generators, output_type="np").images


def main() -> None:
    """Compile, serve, draw, report."""
    console, artifact = Console(), OUT / "digits.he"
    OUT.mkdir(exist_ok=True)
    console.rule("compile")
    compiled = hecompile.compile("digits", artifact, observer=lambda record: console.print(f"{record.name:<18} {record.summary}"))
    server = subprocess.Popen([*COMMAND, "serve", str(artifact), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        url = json.loads(server.stdout.readline())["url"]  # type: ignore[union-attr]
        console.rule(f"ten digits through {url}, a second process that sees ciphertexts only")
        unet = hecompile.load(artifact, url)
        started = time.perf_counter()
        encrypted = draw(unet)
        wall_s = time.perf_counter() - started
        unet.close()
    finally:
        server.terminate()
        server.wait()
    plain = draw(digits.load())
    rows = [np.asarray(picture_row(images)) for images in (plain, encrypted)]
    picture = Image.fromarray(np.concatenate(rows))
    picture.save(OUT / "digits.png")
    meter, error = unet.meter, float(((plain - encrypted) ** 2).mean())
    figures = {
        "ten digits, ten steps": f"{wall_s:.1f} s",
        "client CPU": f"{meter.client_s:.1f} s",
        "requests": meter.requests,
        "bytes up": f"{meter.bytes_up:,}",
        "bytes down": f"{meter.bytes_down:,}",
        "PSNR against plaintext": f"{10 * np.log10(1 / error):.1f} dB",
        "keys at the server": "0 bytes",
    }
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    caption = "Ten digits: drawn in the clear (top) and through the server that sees ciphertexts only (bottom)"
    report = run_report(artifact, read_manifest(artifact), figures, [(caption, buffer.getvalue())])
    (OUT / "report.html").write_text(report, encoding="utf-8")
    console.rule(f"{compiled.program.plan.rounds} rounds a step")
    for key, value in figures.items():
        console.print(f"{key:<24} {value}")
    console.print(f"see {OUT / 'digits.png'} and {OUT / 'report.html'}")


if __name__ == "__main__":
    main()
