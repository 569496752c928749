"""What reports of runs have in common: the machine they ran on, and the measurement of an artifact in the words of a report."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from hecompile.report.contents import Origin, Run
from hecompile.report.costs import Costs
from hecompile.report.timeline import measured_timeline
from hecompile.timing import Span
from hecompile.wording import byte_text, seconds_text

__all__ = ["machine_text", "made_here", "measured_run"]

ONE_PROCESS = (
    "Measured with both halves in one process and no network between them, so that the server's part is known by itself. Through "
    "a server in a second process the same step took {wall}."
)
COMPARED: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "client_process_s": ("client, CPU with HTTP", seconds_text),
    "server_process_s": ("server, CPU with HTTP", seconds_text),
    "client_s": ("client, its computing alone", seconds_text),
    "server_s": ("server, its computing alone", seconds_text),
    "wall_s": ("start to end", seconds_text),
    "bytes_up": ("up", byte_text),
    "bytes_down": ("down", byte_text),
    "peak_mib": ("server, memory", lambda mib: byte_text(mib * 2**20)),
}


def machine_text() -> str:
    """This machine in words: its processor, and how many cores this process may use."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = f"{count} core{'s' if count != 1 else ''}"
    return f"{model}, {cores}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def made_here(command: str) -> Origin:
    """The origin of a report that this command makes here and now."""
    return Origin(command, datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"), machine_text())


def measured_run(
    compared: Sequence[Mapping[str, float | str]], spans: Sequence[Span], requests: int, batch: int, alone_s: float
) -> Run:
    """One step of an artifact, measured and beside its prediction.

    Args:
        compared: totals with their keys `what`, `predicted` and `measured`, named as in `COMPARED`.
        spans: of one step, both halves in one process.
        batch: how many samples the step had.
        alone_s: CPU seconds of the same step without encryption, predicted.
    """
    measured = {str(row["what"]): float(row["measured"]) for row in compared}
    up, down = int(measured["bytes_up"]), int(measured["bytes_down"])
    what = "the first step of a run" if batch == 1 else f"the first step of a run with {batch} samples"
    costs = Costs(
        what, True, measured["client_process_s"], measured["server_process_s"], up, down, requests, measured["wall_s"],
        alone_s=alone_s,
    )  # fmt: skip
    timeline = measured_timeline(spans, ONE_PROCESS.format(wall=seconds_text(measured["wall_s"])))
    table = [
        (words, text(float(row["predicted"])), text(float(row["measured"])))
        for name, (words, text) in COMPARED.items()
        for row in compared
        if row["what"] == name
    ]
    return Run(costs, timeline=timeline, compared=table)
