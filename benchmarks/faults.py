"""A run of ten steps whose server is killed (SIGKILL) and started again ten times at random moments: digits under `bfv`.

`equal` is whether the picture is the undisturbed one bit for bit. Moments are drawn anew: `seed` repeats them.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

import hecompile
from benchmarks.harness import arguments, finish, machine
from hecompile.compiler import compile_model
from hecompile.ir.linear import Array
from hecompile.models import digits
from hecompile.models.digits.pipeline import ClassConditionalPipeline
from hecompile.models.digits.schedulers import make_scheduler
from tests.faults.restarting import RestartingServer


def draw(unet: torch.nn.Module, steps: int) -> Array:
    """One digit from the same noise each time, (1, 8, 8, 1)."""
    pipeline = ClassConditionalPipeline(unet, make_scheduler("ddim", dict(digits.SCHEDULER)))
    pipeline.set_progress_bar_config(disable=True)
    picture: Array = pipeline([7], steps, [torch.Generator().manual_seed(0)], output_type="np").images
    return picture


def main() -> None:
    options = arguments(__doc__)
    steps, restarts = (2, 2) if options.smoke else (10, 10)
    seed = secrets.randbits(32)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "digits"
        compile_model("digits", folder)
        with RestartingServer(folder) as server:
            unet = hecompile.load(folder, server.url)
            started = time.perf_counter()
            undisturbed = draw(unet, steps)
            undisturbed_s = time.perf_counter() - started
            requests, request_s = unet.meter.requests, unet.meter.wait_s / unet.meter.requests
            unet.meter.observers.append(server.observe)
            server.disturb(requests, restarts, request_s, seed)
            started = time.perf_counter()
            disturbed = draw(unet, steps)
            seconds, kills = time.perf_counter() - started, server.kills
            server.settle()
            unet.close()
    figures = {
        "steps": steps, "requests": requests, "restarts": kills, "wanted": restarts, "seed": seed,
        "equal": disturbed.tobytes() == undisturbed.tobytes(), "seconds": seconds, "undisturbed_s": undisturbed_s,
    }  # fmt: skip
    finish(figures | machine(), options.json)
    if not figures["equal"] or kills != restarts:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
