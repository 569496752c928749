"""Draw two captions through a server that sees neither them nor the pictures, and count how many held-out captions come out right.

`make demo-text` runs this. Writes out/captions.png: for each caption the plaintext pipeline's picture, the encrypted one, and what
the server saw of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

import hecompile
from hecompile.artifact import read_manifest
from hecompile.models.shapes import GUIDANCE, STEPS, load_pipeline
from hecompile.models.shapes.card import held_out, sampled
from hecompile.models.shapes.reader import shares
from hecompile.sampling.wiretap import Wiretap, words_picture

OUT, ZOOM, RUNS = Path("out"), 8, 5
COMMAND = [sys.executable, "-c", "from hecompile.cli import main; main()"]
CAPTIONS = (
    "a small red circle above a large blue square on a yellow background",
    "a large green triangle left of a small white cross on a purple background",
)


def drawn(pipeline: Any, caption: str) -> npt.NDArray[np.uint8]:
    """The caption's picture (32, 32, 3), always from the same noise."""
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "generator": torch.Generator().manual_seed(0)}
    images: npt.NDArray[np.float32] = pipeline(caption, output_type="np", **settings).images
    return (images[0] * 255).round().astype(np.uint8)


def sheet(rows: Sequence[tuple[str, Sequence[npt.NDArray[np.uint8]]]]) -> Image.Image:
    """Pictures side by side, a row for each caption, under headings."""
    side, gap, head = 32 * ZOOM, 12, 28
    page = Image.new("RGB", (3 * side + 4 * gap, head + len(rows) * (side + head)), "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(("plaintext pipeline", "through the server", "what the server saw")):
        draw.text((gap + column * (side + gap), 8), title, fill="black")
    for row, (caption, pictures) in enumerate(rows):
        top = head + row * (side + head)
        for column, picture in enumerate(pictures):
            enlarged = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
            page.paste(enlarged, (gap + column * (side + gap), top))
        draw.text((gap, top + side + 6), caption, fill="black")
    return page


def main() -> None:
    """Compile, serve, draw, compare, count."""
    console, artifact = Console(), OUT / "shapes.he"
    OUT.mkdir(exist_ok=True)
    console.rule("compile the zoo's text-to-image model, encrypted and as a simulation")
    hecompile.compile("shapes", artifact)
    simulated = hecompile.compile("shapes", OUT / "shapes-clear.he", backend="clear")
    plain, clear = load_pipeline(), load_pipeline(unet=simulated.load())
    server = subprocess.Popen([*COMMAND, "serve", str(artifact), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        wire = Wiretap(json.loads(server.stdout.readline())["url"])  # type: ignore[union-attr]
        console.rule(f"two captions through {wire.url}, a second process that sees ciphertexts only")
        with hecompile.load(artifact, wire) as unet:
            pipeline, rows, equal = load_pipeline(unet=unet), [], True
            for caption in CAPTIONS:
                encrypted = drawn(pipeline, caption)
                rows.append((caption, (drawn(plain, caption), encrypted, words_picture(wire.request, (32, 32)))))
                equal = equal and np.array_equal(encrypted, drawn(clear, caption))
            before, seconds = (unet.meter.bytes_up, unet.meter.bytes_down), []
            for _ in range(RUNS):
                started = time.perf_counter()
                drawn(pipeline, CAPTIONS[0])
                seconds.append(time.perf_counter() - started)
            up, down = ((now - then) / RUNS for now, then in zip((unet.meter.bytes_up, unet.meter.bytes_down), before, strict=True))
    finally:
        server.terminate()
        server.wait()
    sheet(rows).save(OUT / "captions.png")
    console.rule("200 captions that training never saw")
    scenes = held_out()
    right = {name: shares(scenes, sampled(pipe, scenes))["all"] for name, pipe in (("float32", plain), ("clear", clear))}
    table = Table(show_header=False)
    for name, text in {
        "one caption, 4 steps with guidance": f"{median(seconds):.2f} s (median of {RUNS})",
        "bytes for it, up and down": f"{up / 1e6:.1f} MB and {down / 1e6:.1f} MB",
        "rounds a step": str(read_manifest(artifact).plan.rounds),
        "keys at the server": "0 bytes",
        "encrypted equals its simulation": "bit for bit" if equal else "NO",
        "wholly right, float32 and simulated": f"{right['float32']:.1%} and {right['clear']:.1%} of {len(scenes)}",
        "pictures": str(OUT / "captions.png"),
    }.items():
        table.add_row(name, text)
    console.print(table)
    if not equal:
        sys.exit("the encrypted pictures are not those of the simulation")


if __name__ == "__main__":
    main()
