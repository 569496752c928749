"""Writes what `test_golden_artifacts` reads: an artifact of today's format, a call of it, and what was sent. Once per format:

    python -m tests.golden_artifacts

It refuses to replace files: a new format gets files of its own. Of an older format only `format-N` is kept, which is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import hecompile
from hecompile.artifact_files import FORMAT, MANIFEST
from hecompile.artifact_writing import to_json
from hecompile.buffers import Buffer
from hecompile.compiler import compile_model
from hecompile.options import CompileOptions
from hecompile.runtime.service import Service, load_service
from hecompile.runtime.transports.base import LocalTransport
from hecompile.runtime.wire import FORMAT as WIRE

FOLDER = Path(__file__).parent / "golden" / "artifacts"


class Small(torch.nn.Module):
    """A network with two layers and an activation between them: two requests and a region at the client."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(1, 2, 3, padding=1)
        self.last = torch.nn.Conv2d(2, 1, 1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.last(torch.relu(self.first(sample)) * timestep)
        return hidden


class Recorder(LocalTransport):
    """A local transport that keeps every request and reply."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.requests, self.replies = dict[str, bytes](), dict[str, bytes]()  # by region and number of the call

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        super().send(digest, region, body, reply)
        call = f"{region}.{sum(name.startswith(f'{region}.') for name in self.requests) + 1}"
        self.requests[call], self.replies[call] = b"".join(body), bytes(reply)


def inputs() -> dict[str, torch.Tensor]:
    """The tensors of a call with a batch of two."""
    return {"sample": torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)), "timestep": torch.tensor(0.5)}


def write(folder: Path) -> None:
    """Write two artifacts of the same network, and two calls of each. Raises `FileExistsError` if files of this format exist."""
    _write(folder, "", client_cache_mib=0.0)
    _write(folder, "-run")  # one seed serves the requests of a run


def calls(artifact: Path, transport: Recorder) -> list[torch.Tensor]:
    """The results of two calls within one run."""
    model = hecompile.load(artifact, transport)
    with model.run():
        return [model(**inputs()) for _ in range(2)]


def wire_folder(folder: Path, kind: str) -> Path:
    """Where the requests and replies of an artifact of today's format lie."""
    return folder / f"format-{FORMAT}-wire-{WIRE}{kind}"


def _write(folder: Path, kind: str, **options: float) -> None:
    artifact, wire = folder / f"format-{FORMAT}{kind}", wire_folder(folder, kind)
    for path in (artifact, wire):
        path.mkdir(parents=True)
    _compile(artifact, CompileOptions(max_batch=2, **options))  # type: ignore[arg-type]
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
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"]["report.html"]  # two megabytes of charts, which no loader reads
    (folder / "report.html").unlink()
    (folder / MANIFEST).write_bytes(to_json(manifest))


if __name__ == "__main__":
    write(FOLDER)
