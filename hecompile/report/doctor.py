"""What `hecompile doctor` finds on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from hecompile.errors import MissingExtraError
from hecompile.report.installed import BASE, packages, versions

__all__ = ["examine", "told"]

_USERS = ("ckks", "arrays", "client", "compile", "models", "concrete")  # extras that are not the developer's
_LIBRARIES = {"ckks": ("seal-python", "tenseal"), "concrete": ("concrete-python",)}  # that backends need beside the base
_FEATURES = ("avx2", "fma", "avx512f", "avx512vbmi", "avx512_vpopcntdq", "avx512_vnni", "avx512ifma", "amx_int8")


def _features() -> list[str]:
    """CPU features that decide which integer product is exact and fast."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.is_file() else set()
    return [name for name in _FEATURES if name in flags]


def _readiness(backend: str, libraries: tuple[str, ...]) -> str:
    """Whether a server or client of this backend can run here, and what it needs if not."""
    ready = None not in versions(libraries).values()
    return "ready" if ready else str(MissingExtraError(f"backend '{backend}'", backend))


def examine() -> dict[str, object]:
    """Versions, features, the self-test's verdicts, threads; `ok` if a server can run here."""
    named = packages()
    base = versions(named[BASE])
    missing = sorted(name for name, version in base.items() if version is None)
    findings: dict[str, object] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "cpu_features": _features(),
        "versions": base,
        "extras": {extra: versions(named[extra]) for extra in _USERS},
        "backends": {"bfv": "ready"} | {name: _readiness(name, libraries) for name, libraries in _LIBRARIES.items()},
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


def told(findings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the findings as pairs of a name and a plain text, for printing in a terminal."""
    for key, value in findings.items():
        name = key.replace("_", " ")
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            for part, inner in value.items():
                yield f"{name} {part}", _text(inner)
        elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
            for inner in value:
                yield name, _text(inner)
        else:
            yield name, _text(value)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "absent" if value is None else str(value)
