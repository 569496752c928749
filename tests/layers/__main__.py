"""`python -m tests.layers [TREE ...]`: the floors, what breaks their law here, and the figures of these trees side by side."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.layers.figures import figures
from tests.layers.floors import drawing, floors, unlawful
from tests.layers.imports import imports

HERE = Path(__file__).parents[2]


def main() -> None:
    print(drawing(floors()), end="\n\n")
    print("imports that break the law:", *(unlawful(imports(HERE), floors()) or ["none"]), sep="\n  ", end="\n\n")
    trees = [*(Path(name).resolve() for name in sys.argv[1:]), HERE]
    columns = [figures(tree) for tree in trees]
    print("|".join(["", "", *(tree.name for tree in trees), ""]), "|".join(["", "---", *["---:"] * len(trees), ""]), sep="\n")
    for name in columns[-1]:
        print("|", " | ".join([name, *(f"{column[name]:,}" for column in columns)]), "|")


if __name__ == "__main__":
    main()
