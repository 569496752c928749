"""Wheels of this working tree in dist/, each tried where no compiler is, with its log and its SBOM: `make wheel`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from release.environments import ROOT, interpreter, tools
from release.trial import Artifacts, compile_artifacts, timed, try_wheel
from release.wheels import build_wheel, libc, needs

DIST, WORK = ROOT / "dist", ROOT / "build" / "release"


def main() -> int:
    """The exit status: 1 if an interpreter is missing and that was not asked for."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("--python", nargs="+", default=["3.11", "3.12", "3.13"], help="versions of Python")
    parser.add_argument("--skip-missing", action="store_true", help="end with 0 although an interpreter is missing")
    parser.add_argument("--with-torch", nargs="*", default=[], help="versions whose client also samples with torch and diffusers")
    asked = parser.parse_args()
    interpreters = {version: interpreter(version) for version in asked.python}
    missing = [version for version, python in interpreters.items() if python is None]
    for version in missing:
        say(f"python{version} is missing, neither on PATH nor in pyenv: no wheel for it")
    tool_folder = tools(WORK / "tools", Path(sys.executable))
    with tempfile.TemporaryDirectory(prefix="hecompile-release-") as name:
        artifacts = compile_artifacts(Path(name))
        for version, python in interpreters.items():
            if python is not None:
                _release(version, python, artifacts, Path(name) / version, tool_folder, version in asked.with_torch)
    return 1 if missing and not asked.skip_missing else 0


def _release(version: str, python: Path, artifacts: Artifacts, work: Path, tool_folder: Path, with_torch: bool) -> None:
    """One wheel, its log and its SBOM."""
    lines = list[str]()

    def note(text: str) -> None:
        lines.append(text)
        say(f"{version}: {text}")

    started = time.perf_counter()
    wheel = build_wheel(python, tool_folder, DIST)
    note(f"{wheel.name}: {wheel.stat().st_size / 2**20:.2f} MiB, compiled in {time.perf_counter() - started:.0f} s with {libc()}")
    note(needs(wheel, tool_folder))
    work.mkdir()
    sbom = DIST / f"{wheel.stem}.cdx.json"
    try:
        timed(note, "all trials", lambda: try_wheel(wheel, python, artifacts, work, tool_folder, sbom, with_torch, note))
    finally:
        (DIST / f"{wheel.stem}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
