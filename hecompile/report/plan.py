"""Predictions, what was measured beside them, and fronts, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from hecompile.planner.bill import Bill
from hecompile.planner.pareto import AXES, Front
from hecompile.planner.plan import Prediction
from hecompile.planner.verdict import verdict_of
from hecompile.report.modules import folded, grouped
from hecompile.report.terminal import GAP, plain_table, terminal
from hecompile.wording import byte_text, seconds_text

__all__ = ["print_bills", "print_comparison", "print_fronts", "print_prediction", "print_verdict"]

WIDE, NARROWEST = 100, 24  # columns of a terminal that has room for everything; least columns of a path


def ratio_text(ratio: float) -> str:
    """How many times, with two digits or more."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


TOTALS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("server_s", "server computes", seconds_text),
    ("server_http_s", "server, for HTTP", seconds_text),
    ("client_s", "client computes", seconds_text),
    ("client_http_s", "client, for HTTP", seconds_text),
    ("offload_ratio", "client over alone", ratio_text),
    ("bytes_up", "up", byte_text),
    ("bytes_down", "down", byte_text),
    ("latency_s", "start to end", seconds_text),
)


def print_prediction(source: str, prediction: Prediction) -> None:
    """A row for each request, named by the user's own modules, then the totals."""
    console = terminal()
    console.print(_requests(source, prediction, console.width))
    console.print(_totals(prediction))
    for line in _remarks(prediction):
        console.print(line)


def _requests(source: str, prediction: Prediction, width: int) -> Table:
    """Every request of a call, its layers folded at dots where the terminal is narrow."""
    columns = {
        "server": [seconds_text(region.cost.server_s) for region in prediction.regions],
        "client": [seconds_text(region.cost.client_s) for region in prediction.regions],
        "up": [byte_text(region.cost.up_bytes) for region in prediction.regions],
        "down": [byte_text(region.cost.down_bytes) for region in prediction.regions],
    }
    if width >= WIDE:
        columns["memory"] = [byte_text(region.cost.peak_mib * 2**20) for region in prediction.regions]
    if any(region.skipped_macs for region in prediction.regions):
        columns["zeros left out"] = [f"{region.skipped_macs / 1e6:,.3g} MMAC" for region in prediction.regions]
    taken = sum(GAP + max(len(text) for text in (name, *texts)) for name, texts in columns.items())
    table = plain_table(f"{source}: predicted, nothing was encrypted", ("layers of each request", *columns))
    for place, region in enumerate(prediction.regions):
        layers = folded(grouped(region.modules) or region.region, max(width - taken - 1, NARROWEST))
        table.add_row(layers, *(texts[place] for texts in columns.values()))
    return table


def _totals(prediction: Prediction) -> Table:
    """What a call costs, and every later one of a run."""
    costs = {"first call of a run": (prediction, prediction.total), "every later call": (prediction, prediction.later)}
    if prediction.later == prediction.total:
        costs = {"a call": (prediction, prediction.total)}
    if prediction.worst_case is not None:
        costs["first, worst case"] = (prediction.worst_case, prediction.worst_case.total)
    table = plain_table("totals", ("", *costs))
    totals = [owner.totals(cost) for owner, cost in costs.values()]
    for name, what, text in TOTALS:
        table.add_row(what, *(text(total[name]) for total in totals))
    return table


def _remarks(prediction: Prediction) -> Iterator[str]:
    """What is the same for every call, a line each."""
    yield f"running it alone, in float32 at the client: {seconds_text(prediction.plaintext_s)} a call"
    yield f"requests in a row: {prediction.total.rounds}; layers between them at the client: {seconds_text(prediction.local_s)}"
    memory, weights = byte_text(prediction.peak_mib * 2**20), byte_text(prediction.weight_mib * 2**20)
    yield f"server: {memory} of memory, {weights} of weights on disk"
    if prediction.cache_mib:
        yield f"client keeps of a run's first call: {byte_text(prediction.cache_mib * 2**20)}"
    if prediction.skipped_share:
        yield f"zeros left out: {prediction.skipped_share:.1%} of the multiply-adds"
    if prediction.worst_case is not None:
        yield (
            "no weights: parameters are those of normally distributed int8 weights (standard deviation 28); in the worst case all "
            "weights are as large as can be, where a ring is large enough for that"
        )


def print_bills(bills: Sequence[Bill]) -> None:
    """Who pays what, beside running the model alone: a column for each bill."""
    console = terminal()
    names = [bill.what if console.width >= WIDE else folded(bill.what, 16) for bill in bills]
    table = plain_table("who pays what", ("", *names))
    rows = {
        "client, CPU": [seconds_text(bill.client_s) for bill in bills],
        "alone, CPU": [seconds_text(bill.alone_s) for bill in bills],
        "client over alone": [ratio_text(bill.offload_ratio) for bill in bills],
        "server, CPU": [seconds_text(bill.server_s) for bill in bills],
        "network": [byte_text(bill.network_bytes) for bill in bills],
        "network, time": [seconds_text(bill.network_s) for bill in bills],
        "start to end": [seconds_text(bill.time_s) for bill in bills],
    }
    for what, texts in rows.items():
        table.add_row(what, *texts)
    console.print(table)
    console.print("HTTP is counted in; a step with guidance is one call with each sample twice; alone: in float32 at the client")


def print_verdict(prediction: Prediction) -> None:
    """Print a sentence that says whether the server saves the client work, compared with running the model alone."""
    terminal().print(verdict_of(prediction), style="bold")


def print_comparison(name: str, comparison: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """What `compare` found: totals, then requests."""
    console = terminal()
    table = Table(title=f"{name}: one call")
    for column in ("", "predicted", "measured", "measured / predicted"):
        table.add_column(column, justify="right")
    for row in comparison["total"]:
        table.add_row(row["what"], f"{row['predicted']:,.4g}", f"{row['measured']:,.4g}", f"{row['ratio']:.2f}")
    console.print(table)
    table = Table(title="by request: milliseconds predicted, measured")
    for column in ("region", "server", "", "client", ""):
        table.add_column(column, justify="right")
    for row in comparison["regions"]:
        keys = ("server_s_predicted", "server_s_measured", "client_s_predicted", "client_s_measured")
        table.add_row(row["region"], *(f"{row[key] * 1e3:.2f}" for key in keys))
    console.print(table)


def print_fronts(fronts: Sequence[Front], files: Sequence[str]) -> None:
    """Every front, fastest last."""
    console = terminal()
    for front in fronts:
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
    console.print("what is revealed has no cryptographic guarantee, and needs --policy min-distortion")
    console.print("written: " + ", ".join(files))
