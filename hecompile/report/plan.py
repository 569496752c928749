"""Predictions as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from hecompile.cost.plan import Prediction

__all__ = ["print_prediction"]


def print_prediction(source: str, prediction: Prediction) -> None:
    """Region by region, then the totals."""
    table = Table(title=f"{source}: predicted, nothing was encrypted")
    for column in ("region", "layers", "server s", "client s", "up MB", "down MB", "peak MiB"):
        table.add_column(column, justify="right")
    for each in prediction.regions:
        cost = each.cost
        numbers = (cost.server_s, cost.client_s, cost.up_bytes / 1e6, cost.down_bytes / 1e6, cost.peak_mib)
        table.add_row(each.region, str(each.layers), *(f"{number:.3f}" for number in numbers))
    console = Console(highlight=False)
    console.print(table)
    for key, value in prediction.document().items():
        if key != "regions":
            console.print(f"{key:<20} {value:,.4g}" if isinstance(value, float) else f"{key:<20} {value}")
    if prediction.worst_case_weights:
        console.print("parameters are those of the largest weights there can be; the real ones cost no more")
