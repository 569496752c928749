"""The pass that writes the artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hecompile.artifact import Input, Manifest
from hecompile.artifact_files import FORMAT, MANIFEST, file_digest
from hecompile.artifact_modules import MODULES, modules_document
from hecompile.artifact_writing import checksums, to_json, write_folder, write_half, write_server
from hecompile.backends.registry import backend, backend_of
from hecompile.errors import InternalError
from hecompile.ir.graph import named_shape
from hecompile.ir.regions import Program
from hecompile.machine import Machine, load_machine
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
    modules         ->  modules.json
    """

    options: CompileOptions
    target: Path
    check: Callable[[Path, Program], None] | None = None  # is called with the folder, report aside, before it is moved to `target`

    def run(self, program: Program) -> Program:
        def fill(folder: Path) -> None:
            manifest = self._fill(folder, program)
            _write_manifest(folder, manifest)
            if self.check is not None:
                self.check(folder, program)
            _write_manifest(folder, self._report(folder, manifest, program))

        write_folder(self.target, fill)
        return program

    def _fill(self, folder: Path, program: Program) -> Manifest:
        """Write both halves and the modules, and return the manifest of these files."""
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
        if program.modules:
            (folder / MODULES).write_bytes(to_json(modules_document(program.modules)))
        return replace(manifest, files=checksums(folder))

    def _report(self, folder: Path, manifest: Manifest, program: Program) -> Manifest:
        """Write the report, and return the manifest with it."""
        from hecompile.report.artifact import artifact_page

        profile = self.options.machine
        machine = Machine() if profile is None else load_machine(Path(profile))
        path = folder / "report.html"
        path.write_text(artifact_page(folder, manifest, machine, program.approximation), encoding="utf-8")
        return replace(manifest, files={**manifest.files, path.name: file_digest(path)})

    def summary(self, before: Program, after: Program) -> str:
        size = sum(path.stat().st_size for path in self.target.rglob("*") if path.is_file())
        return f"{self.target}: {size / 2**20:.2f} MiB"


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_bytes(to_json(asdict(manifest)))
