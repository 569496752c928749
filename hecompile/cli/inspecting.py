"""The commands that tell what a model or an artifact costs: `hecompile inspect`, `plan` and `measure-machine`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hecompile.cli.console import Json, print_json, say
from hecompile.outputs import judge_file

__all__ = ["inspect", "measure_machine", "plan"]

SLOW_S = 5.0  # of a call: then one is measured instead of five


def inspect(
    artifact: Annotated[Path, typer.Argument(help="folder of an artifact")],
    measured: Annotated[bool, typer.Option("--measured", help="run it here, and put predictions beside what was measured")] = False,
    machine: Annotated[Path | None, typer.Option(help="measured: profile written by measure-machine")] = None,
    batch: Annotated[int, typer.Option(help="measured: batch of the call", min=1)] = 1,
    as_json: Json = False,
) -> None:
    """Show inputs, regions, parameters, proofs, bytes and rounds; or what a call costs, predicted and measured."""
    from hecompile.artifact import read_manifest

    if measured:
        _inspect_measured(artifact, machine, batch, as_json)
        return
    from hecompile.report.inspection import inspection, print_inspection

    manifest = read_manifest(artifact)
    if as_json:
        print_json(inspection(artifact, manifest))
    else:
        print_inspection(artifact, manifest)


def _inspect_measured(artifact: Path, profile: Path | None, batch: int, as_json: bool) -> None:
    """Run an artifact and compare."""
    from hecompile.machine import Machine, load_machine
    from hecompile.measure.artifact import compare, measure_artifact, predict_artifact
    from hecompile.report.plan import print_comparison

    predicted = predict_artifact(artifact, load_machine(profile) if profile else Machine(), batch)
    slow = predicted.total.server_s > SLOW_S
    found = compare(predicted, measure_artifact(artifact, batch, runs=1 if slow else 5))
    if as_json:
        print_json({"artifact": str(artifact), "batch": batch, **found})
    else:
        print_comparison(str(artifact), found)


def plan(
    source: Annotated[str, typer.Argument(help="what `compile` takes, or the name of a shape such as sd15-shaped")],
    machine: Annotated[Path | None, typer.Option(help="profile written by measure-machine")] = None,
    rtt_ms: Annotated[float, typer.Option(help="round trip of the network", min=0)] = 0.0,
    bandwidth_mbps: Annotated[float, typer.Option(help="bandwidth of the network")] = 1000.0,
    batch: Annotated[int, typer.Option(min=1, max=256)] = 1,
    memory_mib: Annotated[float | None, typer.Option(help="memory of the server; default: what is free here")] = None,
    pareto: Annotated[Path | None, typer.Option(help="also write the fronts of plans to this .json and .png")] = None,
    client_weights_mib: Annotated[float, typer.Option(help="pareto: most int8 weights that the client holds")] = 0.0,
    client_seconds: Annotated[float | None, typer.Option(help="pareto: most CPU seconds of the client per call")] = None,
    most_rounds: Annotated[int | None, typer.Option(help="pareto: most requests per call")] = None,
    pin: Annotated[list[str] | None, typer.Option(help="pareto: layer=side by name or pattern")] = None,
    calibration: Annotated[Path | None, typer.Option(help="pareto: recorded calls; default: the model's own sampler")] = None,
    client_cache_mib: Annotated[
        float | None,
        typer.Option(help="most MiB of replies that the client keeps for a run; 0: nothing; default: as `compile`", min=0),
    ] = None,
    run_calls: Annotated[
        int | None, typer.Option(help="calls of the model in a run; default: as `compile`", min=2, max=1000)
    ] = None,
    tile: Annotated[str | None, typer.Option(help="pareto: layers show tiles of rows x columns, where there are several")] = None,
    as_json: Json = False,
) -> None:
    """Predict seconds, bytes, rounds and memory of a model, before anything is encrypted; with --pareto the fronts of plans."""
    from hecompile.planner.pareto import fronts, write
    from hecompile.planner.problem import Budgets
    from hecompile.planner.proposals import pins_of
    from hecompile.predict import machine_of, partitioned, predict_source, problem_of_source, run_of
    from hecompile.report.plan import print_fronts, print_prediction
    from hecompile.sparsity.selection import tile_size

    if pareto is not None:
        for suffix in (".json", ".png"):
            judge_file(pareto.with_suffix(suffix))
    chosen = machine_of(machine, rtt_ms, bandwidth_mbps)
    graph = partitioned(source)
    document = {"source": source, "batch": batch}
    run = run_of(client_cache_mib, run_calls)
    prediction = predict_source(graph, chosen, batch, memory_mib, run)
    document |= prediction.document()
    if not as_json:
        print_prediction(source, prediction)
    if pareto is not None:
        budgets = Budgets(client_seconds, most_rounds, client_weights_mib)
        problem = problem_of_source(graph, chosen, calibration, tile_size(tile) if tile else None, run)
        found = fronts(problem, budgets, pins_of(pin or []))
        files = [str(path) for path in write(found, pareto)]
        document |= {"pareto": files, "fronts": {front.axis: [asdict(point) for point in front.points] for front in found}}
        if not as_json:
            print_fronts(found, files)
    if as_json:
        print_json(document)


def measure_machine(
    output: Annotated[Path, typer.Option("--output", "-o", help="profile to write")] = Path("machine.json"),
    as_json: Json = False,
) -> None:
    """Measure this machine's primitives once, for predictions."""
    from hecompile.machine import save_machine
    from hecompile.measure.machine import measure_machine as measure

    judge_file(output)
    found = measure()
    save_machine(found, output)
    if as_json:
        print_json({"output": str(output), **found.prices()})
    else:
        for key, value in found.prices().items():
            say(f"{key:<22} {value:.3f}")
