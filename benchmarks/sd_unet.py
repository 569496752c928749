"""A whole UNet of Stable Diffusion 1.5's shape, strictly private: latent 1x4x64x64, prompt 1x77x768, client and server as two
processes on this machine.

Weights are random with a seed. The model is compiled twice: with `--client-cache-mib` as given (the answers that the client keeps
for a run's later calls) and with none; `first` and `later` calls are of the former, `fresh` of the latter. The same model runs
alone in float32 in the same minutes, with torch's default threads. Ratios are of CPU seconds of whole processes. PSNR has the
float32 result's own range as its peak. `--link 1000mbit/5ms` runs it once more, the server in a network namespace behind such a
link.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from benchmarks.harness import arguments, finish, machine
from benchmarks.whole.link import Link, NoLinkError, linked
from hecompile.artifact import read_manifest
from hecompile.machine import Machine, load_machine, save_machine
from hecompile.measure.artifact import predict_artifact

ROOT = Path(__file__).parent.parent
HECOMPILE = [sys.executable, "-c", "from hecompile.cli import main; main()"]
COMPILE, SERVE = [*HECOMPILE, "compile"], [*HECOMPILE, "serve"]
FORWARD = [sys.executable, "-m", "benchmarks.whole.forward"]
LATER = 3  # calls of a run after its first


def compiled(source: Path, folder: Path, *options: str) -> dict[str, float | None]:
    """Compile as a user does: wall seconds, and the most memory. What is there from an earlier run is used again."""
    if folder.exists():
        return {"compile_s": None, "compile_peak_mib": None}
    started = time.perf_counter()
    process = subprocess.Popen([*COMPILE, str(source), "-o", str(folder), *options, "--json"], stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"compiling ended with status {status}")
    return {"compile_s": time.perf_counter() - started, "compile_peak_mib": used.ru_maxrss / 1024}


def same_plan(artifact: Path) -> list[str]:
    """Options that put the layers of a model where they are in an artifact of it."""
    regions = [json.loads(path.read_text()) for path in sorted((artifact / "client").glob("*.json"))]
    names = [part["output"] for region in regions for layer in region["layers"] for part in layer["parts"]]
    pins = ["*=client", *(f"{name}=server" for name in names)]
    return ["--partition", "optimised", *(word for pin in pins for word in ("--pin", pin))]


@contextmanager
def server(folder: Path, prefix: Sequence[str] = ()) -> Iterator[tuple[int, str]]:
    """The server's process id and its URL."""
    command = [*prefix, *SERVE, str(folder), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield process.pid, json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def forwards(source: Path, output: Path, *options: str) -> list[dict[str, Any]]:
    """Calls in a process of their own."""
    command = [*FORWARD, str(source), str(output), *options]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def results(output: Path) -> list[np.ndarray[Any, Any]]:
    with np.load(output) as arrays:
        return [arrays[f"arr_{place}"] for place in range(len(arrays.files))]


def through_server(
    folder: Path, output: Path, runs: int, smoke: Sequence[str], batch: int = 1, later: int = LATER
) -> dict[str, Any]:
    """The first call of several runs, each with a client of its own, and their later ones."""
    first, rest = list[dict[str, Any]](), list[dict[str, Any]]()
    with server(folder) as (pid, url):
        for _ in range(runs):
            options = ("--kind", "client", "--url", url, "--server", str(pid), "--batch", str(batch), "--calls", str(1 + later))
            rows = forwards(folder, output, *options, *smoke)
            first.append(rows[0])
            rest += rows[1:]
    return {"first": medians(first), "later": medians(rest) if rest else None, "calls": len(first) + len(rest)}


def medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The median of every figure, the largest of the peaks of memory, and the least and largest wall seconds."""
    figures = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    figures |= {key: max(row[key] for row in rows) for key in rows[0] if key.endswith("_mib")}
    return figures | {"wall_min_s": min(row["wall_s"] for row in rows), "wall_max_s": max(row["wall_s"] for row in rows)}


def psnr_db(result: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    error = float(np.mean(np.square(result.astype(np.float64) - expected)))
    return float(10 * np.log10((float(expected.max()) - float(expected.min())) ** 2 / error))


def shared_wall_s(totals: dict[str, float]) -> float:
    """Predicted seconds where both sides share their CPU seconds, except those of HTTP, out over all cores."""
    cores = os.cpu_count() or 1
    return totals["latency_s"] - (totals["client_s"] + totals["server_s"]) * (1 - 1 / cores)


def over_link(folder: Path, output: Path, text: str, profile: Machine, smoke: Sequence[str]) -> dict[str, Any]:
    """A first call and later ones over a link, beside the prediction; the reason where this machine has no such link."""
    link = Link.parse(text)
    try:
        with (
            linked(link) as namespace,
            server(folder, namespace.prefix) as (_, url),
            namespace.relay(int(url.rpartition(":")[2])) as far,
        ):
            rows = forwards(folder, output, "--kind", "client", "--url", far, "--calls", str(1 + LATER), *smoke)
    except NoLinkError as error:
        return {"link": text, "reason": str(error)}
    predicted = predict_artifact(folder, profile)
    predicted = replace(predicted, machine=replace(profile, rtt_ms=link.rtt_ms, bandwidth_mbps=float(link.mbps)))
    return {
        "link": text,
        "wall_s": rows[0]["wall_s"],
        "wall_later_s": statistics.median(row["wall_s"] for row in rows[1:]),
        "predicted_wall_s": shared_wall_s(predicted.totals(predicted.total)),
        "predicted_wall_later_s": shared_wall_s(predicted.totals(predicted.later)),
        "delayed_by": "a relay of half a round trip each way",
    }


def predictions(folder: Path, profile: Machine, calls: dict[str, Any]) -> dict[str, Any]:
    """What the cost model says of the artifact, and measured over predicted."""
    prediction, rows = predict_artifact(folder, profile), dict[str, Any]()
    for name, cost in (("first", prediction.total), ("later", prediction.later)):
        totals, measured = prediction.totals(cost), calls[name]
        pairs = {
            "client_cpu_s": (totals["client_s"] + totals["client_http_s"], measured["client_cpu_s"]),
            "server_cpu_s": (totals["server_s"] + totals["server_http_s"], measured["server_cpu_s"]),
            "bytes": (totals["bytes_up"] + totals["bytes_down"], measured["bytes_up"] + measured["bytes_down"]),
        }
        rows[name] = {
            key: {"predicted": before, "measured": after, "ratio": after / before} for key, (before, after) in pairs.items()
        }
    peak = calls["first"]["server_peak_mib"]
    return rows | {"server_peak_mib": {"predicted": prediction.peak_mib, "measured": peak, "ratio": peak / prediction.peak_mib}}


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    smoke = ("--smoke",) if options.smoke else ()
    source = folder / "model"
    profile = load_machine(options.machine) if options.machine else Machine()
    save_machine(replace(profile, bandwidth_mbps=options.bandwidth_mbps), folder / "compiled_for.json")
    optimised, every = options.client_weights_mib is not None, ["--max-batch", "2", "--machine", str(folder / "compiled_for.json")]
    plan = list[str]()
    if optimised:
        plan += ["--partition", "optimised", "--goal", options.goal, "--client-weights-mib", str(options.client_weights_mib)]
        plan += ["--most-mb-first", str(options.most_mb_first), "--most-mb-later", str(options.most_mb_later)]
    if not source.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.whole.model", str(source), *smoke], check=True, cwd=ROOT)
    cache = ("--client-cache-mib", str(options.client_cache_mib), "--run-calls", str(options.run_calls))
    figures: dict[str, Any] = compiled(source, folder / "kept", *every, *plan, *cache)
    if optimised:
        plan = same_plan(folder / "kept")  # no other is equal bit for bit
    compiled(source, folder / "fresh", *every, *plan, "--client-cache-mib", "0")
    compiled(source, folder / "clear", *every, *plan, "--backend", "clear")
    alone = [forwards(source, folder / "float32.npz", "--kind", "float32", "--calls", "2", *smoke)]
    kept = through_server(folder / "kept", folder / "kept.npz", options.runs, smoke)
    alone.append(forwards(source, folder / "float32.npz", "--kind", "float32", "--calls", "2", *smoke))
    fresh = through_server(folder / "fresh", folder / "fresh.npz", 1, smoke, later=0)
    pair = through_server(folder / "kept", folder / "pair.npz", 1, smoke, batch=2, later=1)
    alone.append(forwards(source, folder / "float32.npz", "--kind", "float32", "--calls", "2", *smoke))
    forwards(folder / "clear", folder / "clear.npz", "--kind", "clear", "--calls", "1", *smoke)
    plaintext = medians([row for rows in alone for row in rows])
    first, later = kept["first"], kept["later"]
    clear, float32 = results(folder / "clear.npz")[0], results(folder / "float32.npz")[0]
    both = [results(folder / f"{name}.npz")[0] for name in ("kept", "fresh")]
    figures |= {
        "wall_s": first["wall_s"],
        "wall_later_s": later["wall_s"],
        "client_cpu_s": first["client_cpu_s"],
        "client_cpu_later_s": later["client_cpu_s"],
        "server_cpu_s": first["server_cpu_s"],
        "server_cpu_later_s": later["server_cpu_s"],
        "plaintext_cpu_s": plaintext["client_cpu_s"],
        "plaintext_wall_s": plaintext["wall_s"],
        "offload_ratio": first["client_cpu_s"] / plaintext["client_cpu_s"],
        "offload_ratio_later": later["client_cpu_s"] / plaintext["client_cpu_s"],
        "bytes_first": first["bytes_up"] + first["bytes_down"],
        "bytes_later": later["bytes_up"] + later["bytes_down"],
        "client_peak_mib": fresh["first"]["client_peak_mib"],
        "client_peak_kept_mib": max(first["client_peak_mib"], later["client_peak_mib"]),
        "server_peak_mib": max(mode["first"]["server_peak_mib"] for mode in (kept, fresh)),
        "bit_equal_to_clear": all(result.tobytes() == clear.tobytes() for result in both),
        "psnr_db": psnr_db(both[0], float32),
        "rounds": read_manifest(folder / "kept").plan.rounds,
        "requests": first["requests"],
        "batch_of_two": pair["first"]["wall_s"] / first["wall_s"],
        "batch_of_two_later": pair["later"]["wall_s"] / later["wall_s"],
        "client_cpu": {"first": first, "later": later, "fresh": fresh["first"], "pair": pair},
        "prediction": predictions(folder / "kept", profile, kept),
        "profile": "measured" if options.machine else "default",
        "runs": options.runs,
        "security_bits": read_manifest(folder / "kept").security_bits,
    }
    if options.link:
        figures["over_link"] = over_link(folder / "kept", folder / "link.npz", options.link, profile, smoke)
    return figures


def main() -> None:
    """Measure and print."""

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--client-cache-mib", type=float, default=1400)
        parser.add_argument("--run-calls", type=int, default=25)
        parser.add_argument(
            "--client-weights-mib", type=float, help="of an optimised plan; by default every layer goes to the server"
        )
        parser.add_argument("--most-mb-first", type=float, default=1600, help="of an optimised plan")
        parser.add_argument("--most-mb-later", type=float, default=900, help="of an optimised plan")
        parser.add_argument("--goal", default="client-cpu", help="of an optimised plan")
        parser.add_argument("--machine", type=Path, help="profile of measure-machine; by default the usual prices")
        parser.add_argument("--bandwidth-mbps", type=float, default=500, help="that parameters and plans are chosen for")
        parser.add_argument("--link", help="as 1000mbit/5ms")
        parser.add_argument("--folder", type=Path, help="where the model and artifacts are kept; by default a temporary one")
        parser.set_defaults(runs=2)

    options = arguments(__doc__, more=more)
    options.runs = 1 if options.smoke else options.runs
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(options.folder or Path(scratch), options)
    optimised = options.client_weights_mib is not None
    settings = {
        "client_cache_mib": options.client_cache_mib,
        "run_calls": options.run_calls,
        "client_weights_mib": options.client_weights_mib,
        "most_mb_first": options.most_mb_first if optimised else None,
        "most_mb_later": options.most_mb_later if optimised else None,
        "bandwidth_mbps": options.bandwidth_mbps,
    }
    finish({"benchmark": "sd_unet", "smoke": options.smoke, **figures, "options": settings, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
