"""How much of the library the quick tests run, from the report of pytest-cov: `make coverage`.

Run as `python -m release.coverage REPORT`. It writes benchmarks/results/coverage.json, from which `benchmarks/figures.py` makes the
table in CONTRIBUTING.md. Code that a test runs in another process, such as a server, is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from release.environments import ROOT

__all__ = ["QUICK", "Counts", "Result", "folder_of", "main", "summary"]

RESULT = ROOT / "benchmarks" / "results" / "coverage.json"
QUICK = "the quick suite"


@dataclass(frozen=True)
class Counts:
    """Statements and branches of some files, and how many of them ran."""

    statements: int = 0
    statements_run: int = 0
    branches: int = 0
    branches_run: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.statements + other.statements,
            self.statements_run + other.statements_run,
            self.branches + other.branches,
            self.branches_run + other.branches_run,
        )


class Result(TypedDict):
    """What is kept: which tests ran, at which commit, and the counts of all files and of each folder."""

    tests: str
    commit: str | None
    total: dict[str, int]
    folders: dict[str, dict[str, int]]


def folder_of(name: str) -> str:
    """The folder that a file is counted in, such as `passes`, `hecompile/ir`, `hecompile/backends/bfv`, or `hecompile` itself."""
    parts = Path(name).parts[:-1]
    return "/".join(parts[: 3 if parts[:2] == ("hecompile", "backends") else 2 if parts[0] == "hecompile" else 1])


def summary(report: Mapping[str, Any], tests: str, commit: str | None) -> Result:
    """The result of a report of coverage.py in JSON. Raises `ValueError` if the report has no file of the library."""
    folders: dict[str, Counts] = {}
    for name, told in report["files"].items():
        counted = told["summary"]
        counts = Counts(
            counted["num_statements"], counted["covered_lines"], counted["num_branches"], counted["covered_branches"]
        )  # fmt: skip
        folders[folder_of(name)] = folders.get(folder_of(name), Counts()) + counts
    total = sum(folders.values(), Counts())
    if not total.statements_run:
        raise ValueError("the report says that nothing of the library ran")
    by_folder = {name: asdict(counts) for name, counts in sorted(folders.items()) if counts.statements}
    return {"tests": tests, "commit": commit, "total": asdict(total), "folders": by_folder}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the result. Raises `ValueError` for a report without anything of the library."""
    parser = argparse.ArgumentParser(prog="python -m release.coverage", description=__doc__)
    parser.add_argument("report", type=Path, help="the JSON report of coverage.py")
    parser.add_argument("--tests", default=QUICK, help="which tests ran")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    asked = parser.parse_args(arguments)
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    result = summary(json.loads(asked.report.read_text(encoding="utf-8")), asked.tests, git.stdout.strip() or None)
    asked.output.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
