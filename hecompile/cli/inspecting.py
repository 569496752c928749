"""The commands that tell what an artifact holds and what a machine can do: `hecompile inspect` and `measure-machine`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hecompile.cli.console import Json, print_json, say
from hecompile.errors import needing
from hecompile.outputs import check_file, write_file

if TYPE_CHECKING:
    from hecompile.report.contents import Origin

__all__ = ["inspect", "measure_machine"]

SLOW_S = 5.0  # of a call: then one is measured instead of five


def inspect(
    artifact: Annotated[Path, typer.Argument(help="folder of an artifact")],
    measured: Annotated[bool, typer.Option("--measured", help="run it here, and put predictions beside what was measured")] = False,
    machine: Annotated[Path | None, typer.Option(help="measured: profile written by measure-machine")] = None,
    batch: Annotated[int, typer.Option(help="measured: batch of the call", min=1)] = 1,
    html: Annotated[Path | None, typer.Option(help="write all of it as a report, one file for a browser")] = None,
    as_json: Json = False,
) -> None:
    """Show inputs, regions, parameters, proofs, bytes and rounds; or what a call costs, predicted and measured."""
    from hecompile.artifact import read_manifest

    if html is not None:
        check_file(html)
    if measured:
        _inspect_measured(artifact, machine, batch, html, as_json)
        return
    from hecompile.report.inspection import inspection, print_inspection

    manifest = read_manifest(artifact)
    if html is not None:
        from hecompile.report.artifact import artifact_page

        _write_report(html, lambda: artifact_page(artifact, manifest, origin=_origin(artifact, html)), as_json)
    elif as_json:
        print_json(inspection(artifact, manifest))
    else:
        print_inspection(artifact, manifest)


def _inspect_measured(artifact: Path, profile: Path | None, batch: int, html: Path | None, as_json: bool) -> None:
    """Run an artifact, compare, and print both or write the report."""
    from hecompile.artifact import read_manifest
    from hecompile.machine import Machine, load_machine
    from hecompile.measure.artifact import compare, measure_artifact, predict_artifact
    from hecompile.report.plan import print_comparison

    predicted = predict_artifact(artifact, load_machine(profile) if profile else Machine(), batch)
    slow = predicted.total.server_s > SLOW_S
    measured = measure_artifact(artifact, batch, runs=1 if slow else 5)
    compared = compare(predicted, measured)
    if html is not None:
        from hecompile.report.artifact import run_page
        from hecompile.report.runs import measured_run

        manifest = read_manifest(artifact)
        run = measured_run(compared["total"], measured.spans, len(predicted.regions), batch, predicted.plaintext_s)
        flags = ["--measured", *(["--machine", str(profile)] if profile else []), *(["--batch", str(batch)] if batch > 1 else [])]
        _write_report(html, lambda: run_page(artifact, manifest, run, _origin(artifact, html, *flags)), as_json)
    elif as_json:
        print_json({"artifact": str(artifact), "batch": batch, **compared})
    else:
        print_comparison(str(artifact), compared)


def _origin(artifact: Path, html: Path, *flags: str) -> Origin:
    from hecompile.report.runs import made_here

    return made_here(shlex.join(["hecompile", "inspect", str(artifact), *flags, "--html", str(html)]))


def _write_report(path: Path, page: Callable[[], str], as_json: bool) -> None:
    with needing("an HTML report", "compile"):
        text = page()
    write_file(path, text.encode())
    if as_json:
        print_json({"output": str(path)})
    else:
        say(f"written: {path}")


def measure_machine(
    output: Annotated[Path, typer.Option("--output", "-o", help="profile to write")] = Path("machine.json"),
    as_json: Json = False,
) -> None:
    """Measure this machine's primitives once, for predictions."""
    from hecompile.machine import save_machine
    from hecompile.measure.machine import measure_machine as measure

    check_file(output)
    machine = measure()
    save_machine(machine, output)
    if as_json:
        print_json({"output": str(output), **machine.prices()})
    else:
        for key, value in machine.prices().items():
            say(f"{key:<22} {value:.3f}")
