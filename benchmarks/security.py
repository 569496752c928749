"""Bits of security by the lattice estimator: makes and checks the rows of `docs/security-parameters.json`.

Needs the estimator and parts of Sage (1.5 GB), which are no dependency: docs/security-parameters.md says how to install them.
`--estimator FOLDER` estimates every row anew and tells which differ; with `--missing` it writes those that have no value yet, null.
Without the estimator only the committed rows are compared with the table that the compiler uses, as in `make smoke`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import multiprocessing
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.tables.security import Lwe, read_table, write_table
from hecompile.security.table import BITS_128

SAGE = ("categories", "modules", "gsl", "flint", "pari", "plot", "symbolics")  # packages passagemath-*
Key = tuple[int, str]  # a row's place, the attack and cost model


def load_estimator(folder: Path) -> Any:
    """The estimator's package in a folder, with Sage's names from its parts where Sage is not installed as a whole."""
    try:
        importlib.import_module("sage.all")
    except ImportError:
        whole = types.ModuleType("sage.all")
        for part in SAGE:
            vars(whole).update(vars(importlib.import_module(f"sage.all__sagemath_{part}")))
        sys.modules["sage.all"] = whole
    sys.path.insert(0, str(folder))
    return importlib.import_module("estimator")


def bits_of(estimator: Any, lwe: Lwe, model: str) -> float:
    """log2 of the operations of one attack under one cost model, to a tenth."""
    reduction = importlib.import_module("estimator.reduction")
    attacks = {
        "usvp": estimator.LWE.primal_usvp,
        "bdd": estimator.LWE.primal_bdd,
        "dual hybrid": importlib.import_module("estimator.lwe_dual").matzov,
    }
    costs = {name: getattr(reduction.RC, name) for name in ("MATZOV", "BDGL16", "ADPS16", "LaaMosPol14")}
    costs["ADPS16 quantum"] = reduction.ADPS16(mode="quantum")
    attack = next(name for name in attacks if model.startswith(name))
    least, most = {"ternary": (-1, 1), "binary": (0, 1)}[lwe.secret]
    problem = estimator.LWE.Parameters(
        n=lwe.dimension,
        q=2**lwe.log2_q,
        Xs=estimator.ND.Uniform(least, most, lwe.dimension),
        Xe=estimator.ND.DiscreteGaussian(2.0**lwe.log2_sigma),
    )
    operations = attacks[attack](problem, red_cost_model=costs[model.removeprefix(f"{attack} ")])["rop"]
    return round(float(math.log2(operations)), 1)


def finished(tasks: Mapping[Key, Callable[[], float]], limit_s: float, jobs: int) -> Iterator[tuple[Key, float | None]]:
    """Each task's result as it ends, `jobs` at once in processes of their own; None if one takes longer than the limit.

    Sage does not stand processes that are forked by threads, so one thread starts and watches them all.
    """
    context, waiting = multiprocessing.get_context("fork"), list(tasks.items())
    running: dict[Connection, tuple[Key, BaseProcess, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            key, task = waiting.pop(0)
            receive, send = context.Pipe(duplex=False)
            process = context.Process(target=lambda send=send, task=task: send.send(task()))
            process.start()
            send.close()
            running[receive] = (key, process, time.monotonic() + limit_s)
        ready = wait(list(running), timeout=1.0)
        for receive, (key, worker, deadline) in list(running.items()):
            if receive in ready or time.monotonic() > deadline:
                del running[receive]
                yield key, receive.recv() if receive in ready else None
                worker.kill()
                worker.join()


def estimate(folder: Path, missing: bool, limit_s: float, jobs: int) -> list[str]:
    """Estimate rows; with `missing` those without a value, which are written. What differs from the committed rows, in words."""
    estimator, table = load_estimator(folder), read_table()
    commit = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    if commit != table.commit:
        raise SystemExit(f"the rows are of {table.estimator} {table.commit}, this is {commit}: estimate all rows with one commit")
    rows, differ = list(table.rows), []
    tasks: dict[Key, Callable[[], float]] = {
        (place, model): partial(bits_of, estimator, row.lwe, model)
        for place, row in enumerate(rows)
        for model, bits in row.bits.items()
        if bits is None or not missing
    }
    for (place, model), bits in finished(tasks, limit_s, jobs):
        sys.stderr.write(f"{rows[place].lwe} {model}: {bits}\n")
        if missing:
            rows[place] = replace(rows[place], bits={**rows[place].bits, model: bits})
            write_table(replace(table, rows=tuple(rows)))
        elif bits is not None and bits != rows[place].bits[model]:
            differ.append(f"{rows[place].lwe} {model}: {bits}, committed {rows[place].bits[model]}")
    return differ


def compared(limits: Mapping[int, int]) -> dict[str, float]:
    """Return for every ring of the compiler's table the least bits of security that the committed row claims."""
    rows = {(row.lwe.dimension, row.lwe.log2_q): row.claimed_bits for row in read_table().rows if row.use == "ring"}
    return {f"{dimension}/{q_bits}": rows[dimension, q_bits] for dimension, q_bits in limits.items()}


def main() -> None:
    """Compare, or estimate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="compare the committed rows with the compiler's table")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    parser.add_argument("--estimator", type=Path, help="a clone of the lattice estimator")
    parser.add_argument("--missing", action="store_true", help="estimate and write rows without a value only")
    parser.add_argument("--limit-s", type=float, default=600.0, help="of one estimate")
    parser.add_argument("--jobs", type=int, default=2, help="estimates at once")
    given = parser.parse_args()
    figures: dict[str, Any] = {"benchmark": "security", "smoke": given.smoke, "claimed_bits": compared(BITS_128)}
    figures["estimator"] = "not run, give --estimator" if given.estimator is None else str(read_table().commit)
    if given.estimator is not None:
        figures["differ"] = estimate(given.estimator, given.missing, given.limit_s, given.jobs)
    if not given.json:
        for key, value in figures.items():
            sys.stdout.write(f"{key:<16} {value}\n")
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.exit(1 if figures.get("differ") or min(figures["claimed_bits"].values()) < 128 else 0)


if __name__ == "__main__":
    main()
