"""The command that predicts what a model costs without encrypting anything: `hecompile plan`."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hecompile.cli.console import Json, print_json
from hecompile.cli.flags import completing, given_flags, with_option_flags
from hecompile.errors import CompileError, Diagnostic
from hecompile.machine import GOALS
from hecompile.models import zoo
from hecompile.options import CompileOptions
from hecompile.options.plan import PlanOptions
from hecompile.outputs import check_file

if TYPE_CHECKING:
    from hecompile.ir.graph import ModelGraph
    from hecompile.machine import Machine
    from hecompile.planner.pareto import Front
    from hecompile.planner.problem import Run

__all__ = ["plan"]


@partial(with_option_flags, panels={PlanOptions: PlanOptions.title})
def plan(
    source: Annotated[
        str,
        typer.Argument(
            help="what `compile` accepts, or a published model's shape without weights: sd15-shaped", autocompletion=completing(zoo)
        ),
    ],
    machine: Annotated[Path | None, typer.Option(help="profile written by measure-machine")] = None,
    rtt_ms: Annotated[float, typer.Option(help="round-trip time of the network, in ms", min=0)] = 0.0,
    bandwidth_mbps: Annotated[float, typer.Option(help="bandwidth of the network, in Mbit/s")] = 1000.0,
    batch: Annotated[int, typer.Option(help="pictures per call of the model", min=1, max=256)] = 1,
    steps: Annotated[int, typer.Option(help="sampler steps per picture, for the bill of a picture", min=1, max=10000)] = 25,
    guidance: Annotated[bool, typer.Option(help="whether guidance is used, which puts every sample into a call twice")] = True,
    memory_mib: Annotated[
        float | None, typer.Option(help="memory of the server, in MiB; default: what is free on this machine")
    ] = None,
    client_cache_mib: Annotated[
        float | None,
        typer.Option(help="most MiB of replies that the client keeps during a run; 0: none; default: as for `compile`", min=0),
    ] = None,
    run_calls: Annotated[
        int | None, typer.Option(help="calls of the model per run; default: as for `compile`", min=2, max=1000)
    ] = None,
    pareto: Annotated[
        Path | None, typer.Option(help="also write the best plans for a range of budgets to this .json and .png")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="pareto: recorded calls of the model; default: calls of its own sampler")
    ] = None,
    tile: Annotated[str | None, typer.Option(help="pareto: layers show tiles of rows x columns, where there are several")] = None,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Predict seconds, bytes, rounds and memory of a model without encrypting anything, and what a picture costs client and server;
    for the best plan with --partition optimised. With --pareto, find the best plans for a range of budgets."""
    from hecompile.planner.bill import FEW_STEPS, Picture, bills_of
    from hecompile.planner.verdict import verdict_of
    from hecompile.predict import machine_of, optimised, partitioned, predict_source, run_of
    from hecompile.report.plan import print_bills, print_fronts, print_prediction, print_verdict

    given = given_flags(flags)
    options = CompileOptions(**({} if pareto is None else {"partition": "optimised"}) | given)
    if pareto is None and (calibration, tile) != (None, None):
        name = "--tile" if calibration is None else "--calibration"
        raise CompileError(Diagnostic(f"{name} has no effect without --pareto", help=f"add --pareto FILE, or leave {name} out"))
    if pareto is not None:
        if options.goal != GOALS[0]:
            raise CompileError(
                Diagnostic(
                    f"--pareto finds the fastest plans and cannot be combined with --goal {options.goal}",
                    help="leave one of them out",
                )
            )
        for suffix in (".json", ".png"):
            check_file(pareto.with_suffix(suffix))
    speeds, run = machine_of(machine, rtt_ms, bandwidth_mbps, options.goal), run_of(client_cache_mib, run_calls)
    graph = partitioned(source)
    planned = optimised(graph, speeds, options, run) if "partition" in given else graph
    prediction = predict_source(planned, speeds, batch, memory_mib, run)
    pictures = [Picture(steps, guidance, batch), Picture(FEW_STEPS, False, batch)]
    bills = bills_of(planned, speeds, run, pictures, prediction if batch == 1 else None)
    document = {"source": source, "batch": batch, **prediction.document(), "bills": [bill.document() for bill in bills]}
    document["verdict"] = verdict_of(prediction)
    if not as_json:
        print_prediction(source, prediction)
        print_bills(bills)
    if pareto is not None:
        best, files = _fronts(graph, speeds, options, run, pareto, calibration, tile)
        document |= {"pareto": files, "fronts": {front.axis: [asdict(point) for point in front.points] for front in best}}
        if not as_json:
            print_fronts(best, files)
    if as_json:
        print_json(document)
    else:
        print_verdict(prediction)


def _fronts(
    graph: ModelGraph, machine: Machine, options: CompileOptions, run: Run, path: Path, calibration: Path | None, tile: str | None
) -> tuple[tuple[Front, ...], list[str]]:
    """Return the best plans for a range of budgets, and the files that they were written to. Unless a budget says otherwise, the
    client holds no weights."""
    from hecompile.planner.pareto import fronts, write
    from hecompile.planner.problem import Budgets
    from hecompile.planner.proposals import budgets_of, pins_of
    from hecompile.predict import problem_of_source
    from hecompile.sparsity.selection import tile_size

    budgets = budgets_of(options.panel(PlanOptions)) or Budgets()
    if budgets.client_weights_mib is None:
        budgets = replace(budgets, client_weights_mib=0.0)
    problem = problem_of_source(graph, machine, calibration, tile_size(tile) if tile else None, run)
    best = fronts(problem, budgets, pins_of(options.pin))
    return best, [str(file) for file in write(best, path)]
