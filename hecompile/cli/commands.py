"""The commands, one function each. `compile-model` is `hecompile compile` by its own name."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from hecompile.cli.artifacts import sample, serve
from hecompile.cli.console import Json, print_json, say
from hecompile.cli.flags import given_flags, with_option_flags
from hecompile.cli.interruptions import CANNOT_WRITE, STOPPED, drop_unwritable_output, own_exit_status, signals_as_exits
from hecompile.errors import HecompileError, InternalError
from hecompile.options import CompileOptions, panels
from hecompile.outputs import judge_file
from hecompile.panels import built
from hecompile.sampler_artifact import SamplerOptions

__all__ = ["compile_model", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

SLOW_S = 5.0  # of a call: then one is measured instead of five


@app.command("compile")
@partial(with_option_flags, panels=panels())
def compile_command(
    source: Annotated[str, typer.Argument(help="a diffusers folder, an .onnx file or the name of a zoo model")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the artifact")],
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Compile a UNet into an artifact with a client half and a server half."""
    from hecompile.compiler import compile_model as run

    options = CompileOptions(**given_flags(flags))
    show = None if as_json else lambda record: say(f"{record.name:<22} {record.seconds:6.2f} s  {record.summary}")
    compiled = run(source, output, options=options, observer=show)
    if as_json:
        print_json({"artifact": str(output), "passes": [asdict(record) for record in compiled.passes]})


@app.command("compile-sampler")
@partial(with_option_flags, panels={SamplerOptions: "Options"})
def compile_sampler_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the artifact")],
    shape: Annotated[str, typer.Option(help="of a latent, as CxHxW")] = "4x64x64",
    calibration: Annotated[Path | None, typer.Option(help="recorded calls of the UNet, for static masks (safetensors)")] = None,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Compile a sampler's step for the policy he-diffusion: the UNet stays at the client."""
    from hecompile.policies import WATERMARK
    from hecompile.sampler_artifact import compile_sampler, parse_shape

    calls = []
    if calibration is not None:
        from hecompile.calibration import load_calibration

        calls = list(load_calibration(calibration))
    manifest = compile_sampler(output, parse_shape(shape), calls, built(SamplerOptions, given_flags(flags)))
    if as_json:
        print_json({"artifact": str(output), "policy": manifest.policy, "reveals": manifest.reveals, **manifest.config})
        return
    for reveal in manifest.reveals:
        say(f"{WATERMARK}: {reveal}")
    say(f"{output}: {'reveals the above' if manifest.reveals else 'reveals nothing'}")


@app.command()
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


@app.command()
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
    tile: Annotated[str | None, typer.Option(help="pareto: layers show tiles of rows x columns, where there are several")] = None,
    as_json: Json = False,
) -> None:
    """Predict seconds, bytes, rounds and memory of a model, before anything is encrypted; with --pareto the fronts of plans."""
    from hecompile.planner.pareto import fronts, write
    from hecompile.planner.problem import Budgets
    from hecompile.planner.proposals import pins_of
    from hecompile.predict import machine_of, partitioned, predict_source, problem_of_source
    from hecompile.report.plan import print_fronts, print_prediction
    from hecompile.sparsity.selection import tile_size

    if pareto is not None:
        for suffix in (".json", ".png"):
            judge_file(pareto.with_suffix(suffix))
    chosen = machine_of(machine, rtt_ms, bandwidth_mbps)
    graph = partitioned(source)
    document = {"source": source, "batch": batch}
    prediction = predict_source(graph, chosen, batch, memory_mib)
    document |= prediction.document()
    if not as_json:
        print_prediction(source, prediction)
    if pareto is not None:
        budgets = Budgets(client_seconds, most_rounds, client_weights_mib)
        problem = problem_of_source(graph, chosen, calibration, tile_size(tile) if tile else None)
        found = fronts(problem, budgets, pins_of(pin or []))
        files = [str(path) for path in write(found, pareto)]
        document |= {"pareto": files, "fronts": {front.axis: [asdict(point) for point in front.points] for front in found}}
        if not as_json:
            print_fronts(found, files)
    if as_json:
        print_json(document)


@app.command("measure-machine")
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
        print_json({"output": str(output), **asdict(found)})
    else:
        for key, value in asdict(found).items():
            say(f"{key:<22} {value:.3f}")


app.command()(serve)
app.command()(sample)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show versions, CPU features, the self-test of the integer product, and what is missing."""
    from hecompile.report.doctor import examine

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        for key, value in findings.items():
            say(f"{key:<22} {json.dumps(value) if isinstance(value, dict | list) else value}")
    if not findings["ok"]:
        raise typer.Exit(1)


def _run(command: Callable[[], object]) -> None:
    """Errors that a user can mend are one sentence and exit status 2; a signal ends a command with 128 and its number."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        with signals_as_exits():
            _reported(command)
            sys.stdout.flush()
    except OSError as error:
        drop_unwritable_output()
        if isinstance(error, BrokenPipeError):  # whoever read the output has seen enough
            raise SystemExit(1) from None
        if error.errno not in CANNOT_WRITE:
            raise
        sys.stderr.write(f"error: cannot write: {error.strerror}\n")
        raise SystemExit(2) from None
    except (KeyboardInterrupt, SystemExit) as end:
        code = end.code if isinstance(end, SystemExit) else 130
        if isinstance(code, int) and code in STOPPED:
            sys.stderr.write(f"stopped by {STOPPED[code]}\n")
        raise SystemExit(code) from None


def _reported(command: Callable[[], object]) -> None:
    """Run a command; print an error that a user can mend."""
    try:
        command()
    except InternalError:
        raise
    except HecompileError as error:
        sys.stderr.write(f"{error}\n" if str(error).find("error: ") >= 0 else f"error: {error}\n")
        raise SystemExit(2) from None


def main() -> None:
    """The `hecompile` command."""
    with own_exit_status():
        _run(app)


def compile_model() -> None:
    """The `compile-model` command."""
    sys.argv.insert(1, "compile")
    with own_exit_status():
        _run(app)
