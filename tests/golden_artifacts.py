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
        self.requests, self.replies = dict[str, bytes](), dict[str, bytes]()  # by region and the number of the call

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        super().send(digest, region, body, reply)
        call = f"{region}.{sum(each.startswith(f'{region}.') for each in self.requests) + 1}"
        self.requests[call], self.replies[call] = b"".join(body), bytes(reply)


def inputs() -> dict[str, torch.Tensor]:
    """A batch of two."""
    return {"sample": torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)), "timestep": torch.tensor(0.5)}


def write(folder: Path) -> None:
    """Two artifacts of one network, and two calls of each. Raises `FileExistsError` if there is something of this format."""
    _write(folder, "", client_cache_mib=0.0)
    _write(folder, "-run")  # a seed serves the requests of a run


def calls(artifact: Path, transport: Recorder) -> list[torch.Tensor]:
    """The results of two calls of a run."""
    model = hecompile.load(artifact, transport)
    with model.run():
        return [model(**inputs()) for _ in range(2)]


def _write(folder: Path, kind: str, **chosen: float) -> None:
    artifact, wire = folder / f"format-{FORMAT}{kind}", folder / f"wire-{WIRE}{kind}"
    for path in (artifact, wire):
        path.mkdir(parents=True)
    _compile(artifact, CompileOptions(max_batch=2, **chosen))  # type: ignore[arg-type]
    call = dict(inputs())
    with TemporaryDirectory() as clear:
        _compile(Path(clear) / "artifact", CompileOptions(backend="clear", max_batch=2))
        call["result"] = hecompile.load(Path(clear) / "artifact", policy="simulation")(**inputs())
    lines = [f'"{name}": {json.dumps(value.double().tolist())}' for name, value in call.items()]
    (folder / f"format-{FORMAT}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    recorder = Recorder(load_service(artifact))
    calls(artifact, recorder)
    for call_of in recorder.requests:
        (wire / f"{call_of}.request").write_bytes(recorder.requests[call_of])
        (wire / f"{call_of}.reply").write_bytes(recorder.replies[call_of])


def _compile(folder: Path, options: CompileOptions) -> None:
    compile_model(Small().eval(), folder, options=options, example_inputs=inputs())


if __name__ == "__main__":
    write(FOLDER)
