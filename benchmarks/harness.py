"""What every benchmark shares: arguments, medians, the machine, and one JSON object as the last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["arguments", "cpu_seconds", "finish", "machine", "median_of"]


def arguments(
    doc: str | None, backends: Sequence[str] = (), more: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """`--smoke` for a quick run of the same code, `--json` for the object alone, `--runs` for the number of medians; `--backend`
    where there are several, the first by default. `more` adds a benchmark's own."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--smoke", action="store_true", help="the same code on less, in seconds: its figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    parser.add_argument("--runs", type=int, default=5)
    if backends:
        parser.add_argument("--backend", choices=backends, default=backends[0])
    if more is not None:
        more(parser)
    return parser.parse_args()


def median_of(runs: int, task: Callable[[], Any], warm_up: int = 1) -> dict[str, Any]:
    """Wall and CPU seconds of `task`: median, least and most."""
    for _ in range(warm_up):
        task()
    wall, cpu = [], []
    for _ in range(runs):
        started, used = time.perf_counter(), time.process_time()
        task()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return {"median_s": statistics.median(wall), "min_s": min(wall), "max_s": max(wall), "cpu_s": statistics.median(cpu), "n": runs}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    """CPU, threads, versions, the commit."""
    from threadpoolctl import threadpool_info

    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "threadpools": [f"{pool['internal_api']}:{pool['num_threads']}" for pool in threadpool_info()],
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),
        "commit": git.stdout.strip() or None,
    }


def finish(figures: dict[str, Any], quiet: bool) -> None:
    """Print a table for people unless `quiet`, then the object."""
    if not quiet:
        for key, value in figures.items():
            sys.stdout.write(f"{key:<28} {value}\n")
    sys.stdout.write(json.dumps(figures) + "\n")
