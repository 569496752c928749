"""The table of how much of the library the tests run."""

from __future__ import annotations

from typing import Any

__all__ = ["coverage_table"]


def coverage_table(result: dict[str, Any]) -> str:
    """One row for the whole library and one for each folder: shares of statements and branches that ran."""
    rows = [("all of the library", result["total"]), *((f"`{name}`", counts) for name, counts in result["folders"].items())]
    lines = [f"Measured with {result['tests']} at commit {result['commit']}:", ""]
    lines += ["| | statements | of them run | branches taken |", "|---|---|---|---|"]
    for name, counts in rows:
        statements = _share(counts["statements_run"], counts["statements"])
        branches = _share(counts["branches_run"], counts["branches"])
        lines.append(f"| {name} | {counts['statements']:,} | {statements} | {branches} |")
    return "\n".join(lines) + "\n"


def _share(part: int, whole: int) -> str:
    """A share in percent; empty where there is nothing to share."""
    return f"{100 * part / whole:.1f}%" if whole else ""
