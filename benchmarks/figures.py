"""Writes measured figures into the documents, from the JSON of the benchmarks: `python benchmarks/figures.py`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.tables import TABLES

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/approximation.md",
    "docs/backends.md",
    "docs/ckks.md",
    "docs/concrete.md",
    "docs/core.md",
    "docs/costs.md",
    "docs/deployment.md",
    "docs/he-diffusion.md",
    "docs/min-distortion.md",
    "docs/peers.md",
    "docs/planning.md",
    "docs/stable-diffusion.md",
    "docs/scale.md",
)
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.S)


def fill(text: str) -> str:
    """The document with every block written anew."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        result, table = TABLES[name]
        figures = json.loads((ROOT / "benchmarks" / "results" / f"{result}.json").read_text())
        return f"{match[1]}{table(figures)}{match[3]}"

    return BLOCK.sub(block, text)


def main() -> None:
    """Fill all documents."""
    if "--smoke" in sys.argv:
        stale = [name for name in DOCUMENTS if fill((ROOT / name).read_text()) != (ROOT / name).read_text()]
        sys.stdout.write(json.dumps({"benchmark": "figures", "smoke": True, "stale": stale}) + "\n")
        sys.exit(1 if stale else 0)
    for name in DOCUMENTS:
        (ROOT / name).write_text(fill((ROOT / name).read_text()))


if __name__ == "__main__":
    main()
