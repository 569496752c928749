"""Predictions, what was measured beside them, and fronts, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from hecompile.planner.bill import Bill
from hecompile.planner.pareto import AXES, Front
from hecompile.planner.plan import Prediction

__all__ = ["print_bills", "print_comparison", "print_fronts", "print_prediction"]


def print_prediction(source: str, prediction: Prediction) -> None:
    """Region by region, then the totals."""
    table = Table(title=f"{source}: predicted, nothing was encrypted")
    for column in ("region", "layers", "server s", "client s", "up MB", "down MB", "peak MiB", "zeros left out"):
        table.add_column(column, justify="right")
    for each in prediction.regions:
        cost = each.cost
        numbers = (cost.server_s, cost.client_s, cost.up_bytes / 1e6, cost.down_bytes / 1e6, cost.peak_mib)
        skipped = f"{each.skipped_macs / 1e6:,.3g} MMAC" if each.skipped_macs else ""
        table.add_row(each.region, str(each.layers), *(f"{number:.3f}" for number in numbers), skipped)
    console = Console(highlight=False)
    console.print(table)
    columns = {"first call": prediction.totals(prediction.total)}
    if prediction.later != prediction.total:
        columns["later calls of a run"] = prediction.totals(prediction.later)
    if prediction.worst_case is not None:
        columns["first, worst case"] = prediction.worst_case.totals(prediction.worst_case.total)
    table = Table(title="totals")
    for column in ("", *columns):
        table.add_column(column, justify="right")
    for key in columns["first call"]:
        table.add_row(key, *(f"{totals[key]:,.4g}" for totals in columns.values()))
    console.print(table)
    for key, value in prediction.document().items():
        if key not in ("regions", "later", "worst_case", *columns["first call"]):
            console.print(f"{key:<20} {value:,.4g}" if isinstance(value, float) else f"{key:<20} {value}")
    if prediction.worst_case is not None:
        console.print(
            "no weights: parameters are those of int8 weights of a bell's shape (deviation of 28 steps); in the worst case all "
            "weights are as large as can be, where a ring carries that"
        )


def print_bills(bills: Sequence[Bill]) -> None:
    """Who pays what, beside running the model alone: a column for each bill."""
    table = Table(title="who pays what")
    table.add_column("")
    for each in bills:
        table.add_column(each.what, justify="right", max_width=18)
    rows = {
        "client, CPU s": [each.client_s for each in bills],
        "alone, CPU s": [each.alone_s for each in bills],
        "client over alone": [each.offload_ratio for each in bills],
        "server, CPU s": [each.server_s for each in bills],
        "network, GB": [each.network_bytes / 1e9 for each in bills],
        "network, s": [each.network_s for each in bills],
        "start to end, s": [each.time_s for each in bills],
    }
    for what, amounts in rows.items():
        table.add_row(what, *(f"{amount:,.0f}" if amount >= 1000 else f"{amount:,.3g}" for amount in amounts))
    console = Console(highlight=False)
    console.print(table)
    console.print("HTTP is counted in; a step with guidance is one call with each sample twice; alone: in float32 at the client")


def print_comparison(name: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """What `compare` found: totals, then requests."""
    console = Console(highlight=False)
    table = Table(title=f"{name}: one call")
    for column in ("", "predicted", "measured", "measured / predicted"):
        table.add_column(column, justify="right")
    for row in found["total"]:
        table.add_row(row["what"], f"{row['predicted']:,.4g}", f"{row['measured']:,.4g}", f"{row['ratio']:.2f}")
    console.print(table)
    table = Table(title="by request: milliseconds predicted, measured")
    for column in ("region", "server", "", "client", ""):
        table.add_column(column, justify="right")
    for row in found["regions"]:
        keys = ("server_s_predicted", "server_s_measured", "client_s_predicted", "client_s_measured")
        table.add_row(row["region"], *(f"{row[key] * 1e3:.2f}" for key in keys))
    console.print(table)


def print_fronts(found: Sequence[Front], files: Sequence[str]) -> None:
    """Every front, fastest last."""
    console = Console(highlight=False)
    for front in found:
        table = Table(title=f"latency against {front.axis}: {AXES[front.axis]}")
        for column in (front.axis, "latency s", "client s", "rounds", "layers at the server", "fully encrypted"):
            table.add_column(column, justify="right")
        for point in front.points:
            totals, shares = point.totals, point.encrypted.values()
            numbers = (
                f"{getattr(totals, front.axis):.4g}",
                f"{totals.latency_s:.4g}",
                f"{totals.client_s:.4g}",
                str(totals.rounds),
            )
            table.add_row(*numbers, str(len(shares)), str(sum(share == 1 for share in shares)))
        console.print(table)
    console.print("what is shown in clear has no cryptographic guarantee, and needs --policy min-distortion")
    console.print("written: " + ", ".join(files))
