"""The artifact on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hecompile.artifact import Input, Manifest
from hecompile.artifact_files import FORMAT, MANIFEST
from hecompile.artifact_writing import checksums, to_json, write_folder, write_half, write_server
from hecompile.backends.registry import backend, backend_of
from hecompile.errors import InternalError
from hecompile.ir.graph import named_shape
from hecompile.ir.regions import Program
from hecompile.onnx_export import to_onnx
from hecompile.options import CompileOptions
from hecompile.passes.base import Pass
from hecompile.progress import tell

__all__ = ["Write"]


@dataclass(frozen=True)
class Write(Pass[Program, Program]):
    """Write client half, server half, manifest and report, all or nothing.

    client regions  ->  client/client_03.onnx
    call regions    ->  client/call_03.{json,safetensors}, server/call_03.{json,safetensors}
    plan, policy    ->  manifest.json
    """

    options: CompileOptions
    target: Path
    check: Callable[[Path, Program], None] | None = None  # asked of the filled folder before it is put in its place

    def run(self, program: Program) -> Program:
        def fill(folder: Path) -> None:
            self._fill(folder, program)
            if self.check is not None:
                self.check(folder, program)

        write_folder(self.target, fill)
        return program

    def _fill(self, folder: Path, program: Program) -> None:
        client = folder / "client"
        client.mkdir()
        for name, region in program.clients.items():
            (client / f"{name}.onnx").write_bytes(to_onnx(region.graph_module, name))
        halves, reveals = {}, dict[str, None]()
        for number, (name, call) in enumerate(program.calls.items(), start=1):
            tell(self.name, number, len(program.calls))
            if call.lowered is None:
                raise InternalError(f"region '{name}' is written before it is lowered")
            write_half(client, name, call.lowered.client)
            halves[name] = call.lowered.server
            reveals.update(dict.fromkeys(backend_of(call.lowered.client).describe(call.lowered.client).reveals))
        options, encrypts = self.options, backend(self.options.backend).guarantee.encrypts
        digest = write_server(folder / "server", program.name, options.backend, encrypts, options.max_batch, halves)
        inputs = tuple(
            Input(spec.name, spec.keyword, named_shape(spec.shape), spec.dtype, spec.public, spec.per_run)
            for spec in program.inputs
        )
        manifest = Manifest(
            FORMAT, program.name, options.policy_name, options.backend, encrypts, options.security, options.max_batch,
            tuple(reveals), inputs, program.plan, digest, {}, dict(program.config), program.signature,
        )  # fmt: skip
        self._report(folder, manifest, program)
        document = asdict(manifest) | {"files": checksums(folder)}
        (folder / MANIFEST).write_bytes(to_json(document))

    def _report(self, folder: Path, manifest: Manifest, program: Program) -> None:
        from hecompile.report.html import compile_report

        (folder / "report.html").write_text(compile_report(folder, manifest, program.approximation), encoding="utf-8")

    def summary(self, before: Program, after: Program) -> str:
        size = sum(path.stat().st_size for path in self.target.rglob("*") if path.is_file())
        return f"{self.target}: {size / 2**20:.2f} MiB"
