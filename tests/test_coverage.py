"""What is told of coverage: counts by folder, from a report of coverage.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tables.coverage import coverage_table
from release.coverage import QUICK, folder_of, main, summary


def counted(statements: int, run: int, branches: int, taken: int) -> dict[str, object]:
    """A file of a report."""
    numbers = {"num_statements": statements, "covered_lines": run, "num_branches": branches, "covered_branches": taken}
    return {"summary": numbers}


REPORT = {
    "files": {
        "hecompile/version.py": counted(2, 2, 0, 0),
        "hecompile/ir/graph.py": counted(100, 90, 20, 15),
        "hecompile/ir/ops.py": counted(100, 50, 0, 0),
        "hecompile/backends/bfv/clear/backend.py": counted(10, 5, 4, 1),
        "hecompile/backends/base.py": counted(10, 10, 0, 0),
        "passes/split.py": counted(8, 8, 2, 2),
        "passes/__init__.py": counted(0, 0, 0, 0),
    }
}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("hecompile/version.py", "hecompile"),
        ("hecompile/ir/graph.py", "hecompile/ir"),
        ("hecompile/frontend/onnx/places.py", "hecompile/frontend"),
        ("hecompile/backends/base.py", "hecompile/backends"),
        ("hecompile/backends/bfv/clear/backend.py", "hecompile/backends/bfv"),
        ("runtime/serving/app.py", "runtime"),
    ],
)
def test_a_file_is_counted_in_its_folder(name: str, folder: str) -> None:
    assert folder_of(name) == folder


def test_counts_add_up() -> None:
    result = summary(REPORT, QUICK, "abc1234")
    assert result["total"] == {"statements": 230, "statements_run": 165, "branches": 26, "branches_run": 18}
    assert result["folders"]["hecompile/ir"] == {"statements": 200, "statements_run": 140, "branches": 20, "branches_run": 15}
    assert sum(counts["statements"] for counts in result["folders"].values()) == result["total"]["statements"]


def test_a_report_in_which_nothing_ran_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing of the library ran"):
        summary({"files": {"passes/split.py": counted(8, 0, 2, 0)}}, QUICK, None)


def test_the_table_has_shares_in_percent(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    main([str(tmp_path / "report.json"), "--tests", "some tests", "-o", str(tmp_path / "coverage.json")])
    table = coverage_table(json.loads((tmp_path / "coverage.json").read_text()))
    assert table.startswith("Measured with some tests at commit ")
    assert "| all of the library | 230 | 71.7% | 69.2% |" in table
    assert "| `hecompile` | 2 | 100.0% |  |" in table
    assert "| `hecompile/ir` | 200 | 70.0% | 75.0% |" in table
