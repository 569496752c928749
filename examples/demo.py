"""Compile the digits model, serve it in a second process, draw ten digits through it, and report.

`make demo` runs this. Writes out/digits.png (plaintext row over encrypted row) and out/report.html, a page with pictures, costs
and charts of the run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDIMScheduler
from PIL import Image
from rich.console import Console

import hecompile
from hecompile.artifact import read_manifest
from hecompile.measure.server import process_seconds_of, server_process
from hecompile.models import digits
from hecompile.models.digits.pipeline import ClassConditionalPipeline
from hecompile.report.artifact import run_page
from hecompile.report.contents import Picture, Run
from hecompile.report.costs import Costs
from hecompile.report.runs import made_here
from hecompile.report.timeline import measured_timeline
from hecompile.sampling.pictures import encoded, picture_row
from hecompile.sampling.wiretap import Wiretap, words_picture
from hecompile.wording import byte_text, seconds_text

OUT, STEPS, RUNS = Path("out"), 10, 3
Images = npt.NDArray[np.float32]
SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve", "--port", "0", "--json"]
HEADLINE = "A server drew ten digits, and saw ciphertexts only"
LEAD = (
    "The client encrypted, the server, a second process, computed layers on the ciphertexts, and the client decrypted the answers: "
    "{requests} requests in ten steps. Norms and activations ran at the client, between the requests."
)
TIMELINE = (
    "Measured at the client, in the last of the ten steps, with all ten digits in one call. How much of a request is the server's "
    "computing and how much is sending is not measured there, so both stand in one bar."
)


def draw(unet: torch.nn.Module, labels: range = range(digits.CLASSES), steps: int = STEPS) -> Images:
    """One digit a label, each with its own seed: (digits, 8, 8, 1) in [0, 1]."""
    pipeline = ClassConditionalPipeline(unet, DDIMScheduler(**digits.SCHEDULER))
    generators = [torch.Generator().manual_seed(label) for label in labels]
    images: Images = pipeline(labels, steps, generators, output_type="np").images
    return images


def timed(task: Callable[[], Images]) -> tuple[Images, float, float]:
    """What the task returned, its wall seconds and the CPU seconds of this process: medians of several runs."""
    spent = []
    for _ in range(RUNS):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        result = task()
        spent.append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
    wall_s, cpu_s = (median(column) for column in zip(*spent, strict=True))
    return result, wall_s, cpu_s


def seen_by_the_server(request: bytes) -> Images:
    """The end of a request as ten pictures (10, 8, 8, 3) in [0, 1]."""
    words = words_picture(request, (digits.CLASSES * 8, 8))
    return words.reshape(digits.CLASSES, 8, 8, 3) / 255


def pictured(plain: Images, encrypted: Images, request: bytes) -> tuple[Picture, ...]:
    """What each side saw, for the report; writes the first two of them to out/digits.png."""
    rows = (picture_row(plain), picture_row(encrypted), picture_row(seen_by_the_server(request)))
    Image.fromarray(np.concatenate([np.asarray(row) for row in rows[:2]])).save(OUT / "digits.png")
    titles = (
        ("In the clear.", "Ten digits, drawn by the model alone.", "client"),
        ("Encrypted.", "The same ten, from the same noise, through the server.", "client"),
        ("What the server saw.", "The last bytes of its last request, as colours.", "server"),
    )
    return tuple(
        Picture(title, caption, encoded(row, ".png"), side) for row, (title, caption, side) in zip(rows, titles, strict=True)
    )


def main() -> None:
    """Compile, serve, draw, report."""
    console, artifact = Console(), OUT / "digits.he"
    OUT.mkdir(exist_ok=True)
    console.rule("compile")
    hecompile.compile("digits", artifact, observer=lambda record: console.print(f"{record.name:<18} {record.summary}"))
    manifest = read_manifest(artifact)
    torch.set_num_threads(1)  # the sooner way for so small a model, also at the client
    model = digits.load()
    draw(model, range(1), 1)  # what a first call takes longer is counted nowhere
    plain, plain_wall_s, plain_s = timed(lambda: draw(model))
    with server_process([*SERVE, str(artifact)]) as (server, line):
        wire = Wiretap(json.loads(line)["url"])
        console.rule(f"ten digits through {wire.url}, a second process that sees ciphertexts only")
        with hecompile.load(artifact, wire) as unet:
            draw(unet, range(1), 1)
            before, before_s = replace(unet.meter), process_seconds_of(server)
            encrypted, wall_s, client_s = timed(lambda: draw(unet))
            server_s, meter = (process_seconds_of(server) - before_s) / RUNS, unet.meter
    up, down = (meter.bytes_up - before.bytes_up) // RUNS, (meter.bytes_down - before.bytes_down) // RUNS
    requests = (meter.requests - before.requests) // RUNS
    costs = Costs("ten digits in ten steps", True, client_s, server_s, up, down, requests, wall_s, None, plain_s, True)
    pictures = pictured(plain, encrypted, wire.request)
    error = float(((plain - encrypted) ** 2).mean())
    figures = {
        "encrypted against plain": f"PSNR {10 * np.log10(1 / error):.1f} dB; encrypted layers compute with integers",
        "how it was measured": f"medians of {RUNS} runs, server and bytes their mean, one thread of torch",
        "the model alone": f"{seconds_text(plain_wall_s)} from start to end",
        "requests a step": f"{manifest.plan.rounds} in a row",
        "keys at the server": "0 bytes",
    }
    run = Run(
        costs, HEADLINE, LEAD.format(requests=requests), pictures, measured_timeline(meter.spans, TIMELINE), figures
    )  # fmt: skip
    page = run_page(artifact, manifest, run, made_here("make demo"))
    (OUT / "report.html").write_text(page, encoding="utf-8")
    console.rule(f"{manifest.plan.rounds} rounds a step")
    told = {
        "ten digits, ten steps": seconds_text(wall_s),
        "client CPU, server CPU": f"{seconds_text(client_s)}, {seconds_text(server_s)}",
        "the same in the clear": f"{seconds_text(plain_s)} CPU",
        "up, down": f"{byte_text(up)}, {byte_text(down)} in {requests} requests",
        **figures,
    }
    for key, value in told.items():
        console.print(f"{key:<24} {value}")
    console.print(f"see {OUT / 'digits.png'} and {OUT / 'report.html'}")


if __name__ == "__main__":
    main()
