"""What `hecompile doctor` finds on this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict
from pathlib import Path

__all__ = ["examine"]

_BASE = (
    "numpy",
    "cryptography",
    "onnxruntime",
    "onnx",
    "tenseal",
    "seal-python",
    "zstandard",
    "fastapi",
    "uvicorn",
    "msgpack",
    "safetensors",
    "pydantic",
)
_EXTRAS = {
    "client": ("torch", "diffusers", "pillow"),
    "compile": ("jinja2", "matplotlib", "ortools", "scipy"),
    "models": ("scikit-learn",),
    "concrete": ("concrete-python", "concrete-ml"),
}
_FEATURES = ("avx2", "fma", "avx512f", "avx512vbmi", "avx512_vpopcntdq", "avx512_vnni", "avx512ifma")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _features() -> list[str]:
    """CPU features that decide which integer product is exact and fast."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.is_file() else set()
    return [name for name in _FEATURES if name in flags]


def examine() -> dict[str, object]:
    """Versions, features, the self-test's verdicts, threads; `ok` if a server can run here."""
    versions = {name: _version(name) for name in _BASE}
    missing = sorted(name for name, version in versions.items() if version is None)
    findings: dict[str, object] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "cpu_features": _features(),
        "versions": versions,
        "extras": {extra: {name: _version(name) for name in names} for extra, names in _EXTRAS.items()},
        "missing": missing,
    }
    if missing:
        return findings | {"ok": False, "advice": f"pip install hecompile: {', '.join(missing)} not installed"}
    from threadpoolctl import threadpool_info

    from hecompile import _core
    from hecompile.backends.bfv.kernels import UnsafeMachineError, proved_kernel
    from hecompile.backends.bfv.speeds import kernel_reports

    findings["threadpools"] = [{key: pool[key] for key in ("internal_api", "num_threads")} for pool in threadpool_info()]
    findings |= {"compiler": _core.compiler, "core_threads": _core.threads()}
    findings["kernels"] = [asdict(report) for report in kernel_reports()]
    try:
        return findings | {"kernel": proved_kernel(), "ok": True}
    except UnsafeMachineError as error:
        return findings | {"kernel": None, "ok": False, "advice": str(error)}
