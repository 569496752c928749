"""The commands that tell what an artifact holds and what a machine can do: `hecompile inspect` and `measure-machine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hecompile.cli.console import Json, print_json, say
from hecompile.outputs import judge_file

__all__ = ["inspect", "measure_machine"]

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
