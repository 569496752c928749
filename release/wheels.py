"""A manylinux wheel of the working tree for one interpreter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from release.environments import ROOT

__all__ = ["build_wheel", "libc", "needs"]

BUILDERS = ("scikit-build-core", "nanobind")


def build_wheel(python: Path, tool_folder: Path, dist: Path) -> Path:
    """Compile a wheel, and let auditwheel give it the oldest manylinux tag that it keeps. Replaces one of the same name.

    Raises:
        CalledProcessError: if it does not compile, or links what manylinux does not allow.
    """
    with tempfile.TemporaryDirectory(prefix="hecompile-wheel-") as name:
        work = Path(name)
        subprocess.run([python, "-m", "venv", work / "venv"], check=True)
        pip = [str(work / "venv" / "bin" / "pip"), "-qq", "--disable-pip-version-check"]
        builders = [*BUILDERS, *(tool for tool in ("cmake", "ninja") if shutil.which(tool) is None)]
        subprocess.run([*pip, "install", "-c", str(ROOT / "constraints.txt"), *builders], check=True)
        path = f"{work / 'venv' / 'bin'}:{os.environ['PATH']}"
        subprocess.run(
            [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(work / "raw"), str(ROOT)],
            check=True, env=os.environ | {"PATH": path},
        )  # fmt: skip
        (raw,) = (work / "raw").glob("*.whl")
        subprocess.run(
            [str(tool_folder / "bin" / "auditwheel"), "repair", "-w", str(work / "repaired"), str(raw)],
            check=True, env=os.environ | {"PATH": f"{tool_folder / 'bin'}:{os.environ['PATH']}"}, capture_output=True,
        )  # fmt: skip
        (repaired,) = (work / "repaired").glob("*.whl")
        dist.mkdir(exist_ok=True)
        return Path(shutil.copy2(repaired, dist / repaired.name))


def needs(wheel: Path, tool_folder: Path) -> str:
    """What auditwheel says of the system that a wheel needs, in one line."""
    command = [str(tool_folder / "bin" / "auditwheel"), "show", str(wheel)]
    return re.sub(r"\s+", " ", subprocess.run(command, capture_output=True, text=True, check=True).stdout).strip()


def libc() -> str:
    """This machine's C library: whatever is compiled here may need its symbols."""
    return os.confstr("CS_GNU_LIBC_VERSION") or "no glibc"
