"""A server that dies and comes back within a run changes nothing of the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

import hecompile
from hecompile.ir.linear import Array
from hecompile.models import digits as model
from hecompile.models.digits.pipeline import ClassConditionalPipeline
from hecompile.models.digits.schedulers import make_scheduler
from hecompile.runtime.client import EncryptedUNet
from tests.faults.restarting import RestartingServer

STEPS, RESTARTS = 2, 3


def draw(unet: EncryptedUNet) -> Array:
    """One digit from the same noise each time, (1, 8, 8, 1)."""
    import torch

    pipeline = ClassConditionalPipeline(unet, make_scheduler("ddim", dict(model.SCHEDULER)))
    pipeline.set_progress_bar_config(disable=True)
    picture: Array = pipeline([7], STEPS, [torch.Generator().manual_seed(0)], output_type="np").images
    return picture


@pytest.mark.promise("retries")
@pytest.mark.fhe
def test_a_server_killed_and_restarted_within_a_run_gives_the_same_picture(digits: Path) -> None:
    with RestartingServer(digits) as server:
        unet = hecompile.load(digits, server.url)
        undisturbed = draw(unet)
        requests, request_s = unet.meter.requests, unet.meter.wait_s / unet.meter.requests
        unet.meter.observers.append(server.observe)
        server.disturb(requests, RESTARTS, request_s, seed=1)
        disturbed = draw(unet)
        kills = server.kills  # before anything else happens: all were within the run
        server.settle()
        assert unet.meter.requests == 2 * requests
        unet.close()
    assert kills == RESTARTS
    assert disturbed.tobytes() == undisturbed.tobytes()
