"""Who pays what for a picture: sums of a run's first and later calls, beside the same alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from hecompile.ir.graph import ModelGraph
from hecompile.machine import Machine, http_seconds, seconds_of
from hecompile.options import CompileOptions
from hecompile.planner.bill import Picture, bills_of
from hecompile.planner.plan import predict_graph
from hecompile.planner.problem import Run
from hecompile.report import plan as report
from tests.stages import partitioned

MACHINE = Machine(rtt_ms=20.0, bandwidth_mbps=100.0)
RUN = Run(10, 1 << 30)


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return partitioned(CompileOptions())


def test_a_picture_is_one_first_step_and_later_ones(graph: ModelGraph) -> None:
    first, later, picture = bills_of(graph, MACHINE, RUN, [Picture(10, guidance=False)])
    for name in ("client_s", "server_s", "network_s", "time_s"):
        assert getattr(picture, name) == pytest.approx(getattr(first, name) + 9 * getattr(later, name))
    assert picture.network_bytes == first.network_bytes + 9 * later.network_bytes
    assert later.network_bytes < first.network_bytes
    assert picture.alone_s == pytest.approx(10 * first.alone_s)


def test_a_step_is_what_the_prediction_says(graph: ModelGraph) -> None:
    prediction = predict_graph(graph, MACHINE, 2, RUN)
    first = bills_of(graph, MACHINE, RUN, [Picture(10, guidance=True)])[0]
    cost = prediction.total
    client_http_s, server_http_s = http_seconds(cost, MACHINE)
    assert first.client_s == pytest.approx(cost.client_s + client_http_s)
    assert first.server_s == pytest.approx(cost.server_s + server_http_s)
    assert first.time_s == pytest.approx(seconds_of(cost, MACHINE))
    assert first.network_s == pytest.approx(cost.sent_bytes * 8 / 100e6 + cost.rounds * 0.02)
    assert first.alone_s == prediction.plaintext_s
    assert first.offload_ratio == pytest.approx(prediction.offload_ratio)


def test_more_steps_than_a_run_has_begin_another(graph: ModelGraph) -> None:
    first, later, picture = bills_of(graph, MACHINE, RUN, [Picture(21, guidance=False)])
    assert picture.network_bytes == 3 * first.network_bytes + 18 * later.network_bytes


def test_few_steps_without_guidance_cost_less(graph: ModelGraph) -> None:
    bills = bills_of(graph, MACHINE, RUN, [Picture(25, guidance=True), Picture(4, guidance=False)])
    whole, few = bills[2:]
    assert few.client_s < whole.client_s / 5
    assert few.network_bytes < whole.network_bytes / 5


def test_the_table_has_every_bill(graph: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, width=120, highlight=False)
    monkeypatch.setattr(report, "terminal", lambda: console)
    bills = bills_of(graph, MACHINE, RUN, [Picture(25, guidance=True)])
    report.print_bills([replace(bills[0], client_s=1234.5), *bills[1:]])
    text = console.export_text()
    assert "20 min 34 s" in text
    assert all(word in text for word in ("alone, CPU", "network, time", "client over alone", "a later step"))
