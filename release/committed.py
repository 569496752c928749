"""What may be committed: no unfinished merge, no large file, and text that ends with one newline.

Run as `python -m release.committed` for every file that git knows, or with names of files, as pre-commit does. It ends with 1 if a
file is not as it should be, with a line for each fault.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from release.environments import ROOT

__all__ = ["MOST_BYTES", "faults", "main", "tracked"]

MOST_BYTES = 512 * 1024
LARGE = ("models/*.safetensors",)  # trained weights
WRITTEN = ("tests/golden/artifacts/*", "models/*/tokenizer.json")  # by programs, byte for byte
MARKER = re.compile(rb"^(<{7}|>{7}|\|{7})( |$)", re.M)


def tracked(root: Path) -> list[str]:
    """Names of all files below `root` that git holds or would add, without links. Raises `CalledProcessError` outside of git."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(asked, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted({name for name in names if name and (root / name).is_file() and not (root / name).is_symlink()})


def faults(root: Path, names: Iterable[str]) -> list[str]:
    """One line for each thing that is wrong with these files, whose names are relative to `root`."""
    wrong = []
    for name in names:
        data = (root / name).read_bytes()
        if len(data) > MOST_BYTES and not _is_one_of(name, LARGE):
            wrong.append(f"{name}: {len(data):,} bytes, more than {MOST_BYTES:,}")
        if b"\0" in data or _is_one_of(name, WRITTEN):
            continue  # no text, or not written by hand
        wrong += [f"{name}:{line}: a conflict of a merge is left" for line in _marked_lines(data)]
        if data and not data.endswith(b"\n"):
            wrong.append(f"{name}: the last line does not end")
        if data.endswith(b"\n\n") or data == b"\n":
            wrong.append(f"{name}: empty lines at the end")
    return wrong


def _marked_lines(data: bytes) -> list[int]:
    """Numbers of the lines that git left where it could not merge."""
    return [data.count(b"\n", 0, match.start()) + 1 for match in MARKER.finditer(data)]


def _is_one_of(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def main(arguments: Sequence[str]) -> int:
    """Judge the named files, or all that git knows; the exit status."""
    wrong = faults(ROOT, arguments or tracked(ROOT))
    sys.stderr.writelines(f"{text}\n" for text in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
