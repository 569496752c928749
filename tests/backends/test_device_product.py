"""The product of `bfv` on a device: the same bits as the core's. On the processor by the same code, on a GPU where there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hecompile.backends.bfv import device_product
from hecompile.backends.bfv.messages import LATER
from hecompile.backends.bfv.program import region_program
from hecompile.backends.bfv.server import BfvServer
from hecompile.backends.registry import backend
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.ir.regions import CallRegion
from hecompile.options import CompileOptions
from hecompile.runtime.service import load_service
from tests.artifacts import compile_once
from tests.backends.test_revealed import revealing
from tests.payloads import encrypt_whole, sizes
from tests.programs import call_regions, program_of

DEVICES = [
    pytest.param("cpu", id="by the processor"),
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"), id="by a GPU"),
]


class Wide(nn.Module):
    """Layers in both forms of the core's product, a strided one, and tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(48, 40, 3, padding=1)
        self.down = nn.Conv2d(40, 64, 3, stride=2, padding=1)
        self.few = nn.Conv2d(64, 3, 1)
        self.tokens = nn.Linear(64, 96)

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        small = self.down(self.first(sample).relu()).relu()
        return self.few(small), self.tokens(small.flatten(2).transpose(1, 2))


def wide() -> Compiled:
    return compile_once(Wide, CompileOptions(max_batch=2), {"sample": torch.zeros(2, 48, 16, 16)})


def requests(compiled: Compiled, region: CallRegion, batch: int) -> bytes:
    assert region.lowered is not None
    rng, values = np.random.default_rng(batch), []
    for name in region.inputs:
        shape = program_of(compiled).plan.value(name).shape
        values.append(rng.standard_normal([batch if dim == "B" else int(dim) for dim in shape]).astype(np.float32))
    return encrypt_whole(backend("bfv").load_client(region.lowered.client), values, batch)[0]


def servers(region: CallRegion, device: str) -> tuple[BfvServer, BfvServer]:
    """By the core, and by the device."""
    assert region.lowered is not None
    one, other = (backend("bfv").load_server(region.lowered.server) for _ in range(2))
    assert isinstance(one, BfvServer)
    assert isinstance(other, BfvServer)
    other.use_device(device)
    return one, other


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["plain", "wide", "channel", "tile"])
def test_a_device_gives_the_cores_bits(kind: str, device: str, tiny: Compiled) -> None:
    compiled = {"plain": lambda: tiny, "wide": wide}.get(kind, lambda: revealing("bfv", kind))()
    answered = 0
    for region in call_regions(compiled).values():
        core, other = servers(region, device)
        for batch in range(1, compiled.options.max_batch + 1):
            payload = requests(compiled, region, batch)
            assert other.evaluate(payload, batch) == core.evaluate(payload, batch)
            answered += 1
    assert answered >= 4


@pytest.mark.parametrize("device", DEVICES)
def test_a_later_request_of_a_run_has_the_same_bits(device: str, tiny: Compiled) -> None:
    region = next(iter(call_regions(tiny).values()))
    assert region.lowered is not None
    core, other = servers(region, device)
    payload, start, kept = requests(tiny, region, 2), 1, bytes([LATER])
    for layer in region_program(region.lowered.server).body.layers:
        first = sizes(layer, 2)
        kept += payload[start : start + first.up_words] + payload[start + first.up_words + first.up_seeds : start + first.up]
        start += first.up
    assert len(core.evaluate(kept, 2)) < len(core.evaluate(payload, 2))
    assert other.evaluate(kept, 2) == core.evaluate(kept, 2)


def test_columns_in_pieces_and_sums_in_parts_give_the_same_bits(tiny: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_product, "COLUMN_BYTES", 40_000)
    monkeypatch.setattr(device_product, "MOST_SUMMED", 19)
    region = next(iter(call_regions(tiny).values()))
    core, other = servers(region, "cpu")
    payload = requests(tiny, region, 3)
    assert other.evaluate(payload, 3) == core.evaluate(payload, 3)


@pytest.mark.parametrize("word", [0, 1, 127, 128, 129, 255, 256, 2**49, 2**50 - 1, 2**50])
def test_digits_are_balanced_and_make_the_word(word: int) -> None:
    digits = device_product._digits(torch.tensor([word]), 50)
    assert digits.dtype == torch.int8
    assert sum(int(digit) << (8 * limb) for limb, digit in enumerate(digits)) == word


def test_words_that_are_not_below_q_are_refused_on_a_device(tiny: Compiled) -> None:
    region = next(iter(call_regions(tiny).values()))
    other = servers(region, "cpu")[1]
    with pytest.raises(ProtocolError, match="not below q"):
        other.evaluate(b"\0" + b"\xff" * (other.request_bytes(1) - 1), 1)


def test_another_scheme_has_no_device(tiny_clear: Compiled) -> None:
    for region in call_regions(tiny_clear).values():
        assert region.lowered is not None
        with pytest.raises(ProtocolError, match="only the scheme bfv"):
            backend("clear").load_server(region.lowered.server).use_device("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_machine_without_a_gpu_says_so(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    with pytest.raises(ProtocolError, match="finds no CUDA device"):
        load_service(tiny.artifact, "cuda")


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x", "", "meta"])
def test_other_devices_are_refused(name: str, tiny: Compiled) -> None:
    assert tiny.artifact is not None
    with pytest.raises(ProtocolError, match="cuda"):
        load_service(tiny.artifact, name)


QUIET = """
import sys
from pathlib import Path

from hecompile.runtime.service import load_service

load_service(Path(sys.argv[1]))
print("torch" in sys.modules, "hecompile.backends.bfv.device_product" in sys.modules)
"""


def test_torch_is_loaded_with_a_device_only(tiny: Compiled) -> None:
    assert isinstance(tiny.artifact, Path)
    process = subprocess.run(
        [sys.executable, "-c", QUIET, str(tiny.artifact)], capture_output=True, text=True, timeout=100, check=True
    )
    assert process.stdout.split() == ["False", "False"]


def test_serve_says_which_devices_there_are(tiny: Compiled) -> None:
    command = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve", str(tiny.artifact), "--device", "gpu"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert process.returncode == 2
    assert process.stderr == "error: --device gpu: the devices are cpu, cuda, and cuda:1 and so on\n"
