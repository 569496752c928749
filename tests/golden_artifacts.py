"""Writes what `test_golden_artifacts` reads: an artifact of today's format, a call of it, and what travelled. Run it once a format:

    python -m tests.golden_artifacts

Nothing that lies there is written over: a new format gets files of its own, and those of the last one are from then on refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import hecompile
from hecompile.artifact_files import FORMAT
from hecompile.buffers import Buffer
from hecompile.compiler import compile_model
from hecompile.options import CompileOptions
from hecompile.runtime.service import Service, load_service
from hecompile.runtime.transports.base import LocalTransport
from hecompile.runtime.wire import FORMAT as WIRE

FOLDER = Path(__file__).parent / "golden" / "artifacts"


class Small(torch.nn.Module):
    """Two layers and an activation between them: two requests and a client's region."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(1, 2, 3, padding=1)
        self.last = torch.nn.Conv2d(2, 1, 1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.last(torch.relu(self.first(sample)) * timestep)
        return hidden


class Recorder(LocalTransport):
    """Keeps what travels, by region."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.requests, self.replies = dict[str, bytes](), dict[str, bytes]()

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        super().send(digest, region, body, reply)
        self.requests[region], self.replies[region] = b"".join(body), bytes(reply)


def inputs() -> dict[str, torch.Tensor]:
    """A batch of two."""
    return {"sample": torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)), "timestep": torch.tensor(0.5)}


def write(folder: Path) -> None:
    """Raises `FileExistsError` if there is something of this format."""
    wire = folder / f"wire-{WIRE}"
    for path in (folder / f"format-{FORMAT}", wire):
        path.mkdir(parents=True)
    _compile("bfv", folder / f"format-{FORMAT}")
    call = dict(inputs())
    with TemporaryDirectory() as clear:
        _compile("clear", Path(clear) / "artifact")
        call["result"] = hecompile.load(Path(clear) / "artifact", policy="simulation")(**inputs())
    lines = [f'"{name}": {json.dumps(value.double().tolist())}' for name, value in call.items()]
    (folder / f"format-{FORMAT}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    recorder = Recorder(load_service(folder / f"format-{FORMAT}"))
    hecompile.load(folder / f"format-{FORMAT}", recorder)(**inputs())
    for region in recorder.requests:
        (wire / f"{region}.request").write_bytes(recorder.requests[region])
        (wire / f"{region}.reply").write_bytes(recorder.replies[region])


def _compile(backend: str, folder: Path) -> None:
    compile_model(Small().eval(), folder, options=CompileOptions(backend=backend, max_batch=2), example_inputs=inputs())


if __name__ == "__main__":
    write(FOLDER)
