"""How `hecompile plan` tells a plan: by modules of the user's network, in people's units, with a verdict."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from hecompile.cli.app import app
from hecompile.ir.candidates import Cost
from hecompile.machine import Machine
from hecompile.planner.plan import Prediction, RegionCost, predict_graph
from hecompile.planner.verdict import verdict, verdict_of
from hecompile.predict import partitioned
from hecompile.report import plan as plan_tables
from hecompile.report.modules import folded, grouped
from hecompile.wording import seconds_text
from tests.networks import Tiny, tiny_inputs

LONG = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
COST = Cost(server_s=0.5, client_s=0.01, up_bytes=22_900, down_bytes=1_234_000, peak_mib=3.0, rounds=1)
REGION = RegionCost("call_1", 3, COST, COST, modules=(f"{LONG}.to_q", f"{LONG}.to_k", f"{LONG}.to_v"))
PREDICTION = Prediction((REGION,), COST, COST, 0.001, 0.02, 1.0, 120.0, Machine())


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, prediction: Prediction, columns: int | None) -> str:
    """What is printed into a terminal of so many columns, or into a pipe."""
    output = io.StringIO() if columns is None else Terminal()
    monkeypatch.setenv("COLUMNS", str(columns or 80))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", output)
    plan_tables.print_prediction("model", prediction)
    plan_tables.print_verdict(prediction)
    return re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue())


@pytest.mark.parametrize(
    ("paths", "text"),
    [
        (["conv_in"], "conv_in"),
        (["a.conv1", "a.conv2"], "a.{conv1, conv2}"),
        (["conv_in", "a.proj"], "conv_in, a.proj"),
        (["conv_in", "a.proj", "b.proj", "c.proj"], "conv_in, 3 x proj"),
        (["a.conv", "a.conv"], "a.conv (2 parts)"),
        (["a.u", "b.v", "c.w", "d.x", "e.y", "f.z"], "a.u, b.v, c.w, 3 more kinds"),
        ([], ""),
    ],
)
def test_layers_of_a_request_in_a_line(paths: list[str], text: str) -> None:
    assert grouped(paths) == text


def test_a_long_path_is_folded_after_dots_and_loses_nothing() -> None:
    lines = folded(LONG, 30).splitlines()
    assert max(map(len, lines)) <= 30
    assert "".join(line.strip() for line in lines) == LONG


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_of_any_width_shows_whole_names(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    text = printed(monkeypatch, PREDICTION, columns)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= columns
    assert "…" not in text
    assert "to_v}" in text


def test_a_pipe_gets_every_row_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(line for line in printed(monkeypatch, PREDICTION, None).splitlines() if "to_q" in line)
    assert row.split("  ")[0] == f"{LONG}.{{to_q, to_k, to_v}}"
    assert [part.strip() for part in row.split("  ")[1:] if part.strip()] == ["500.0 ms", "10.0 ms", "22.9 kB", "1.2 MB", "3.1 MB"]


def test_the_last_line_is_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, PREDICTION, None).splitlines()[-1] == verdict_of(PREDICTION)


@pytest.mark.parametrize(
    ("first", "later", "text"),
    [
        (0.7, None, "the client would spend 0.7 of what running alone costs: it saves the client 30% of the work"),
        (13.2, None, "the client would spend 13 times what running alone costs: this model is cheaper to run at home"),
        (1.4, None, "the client would spend 1.4 times what running alone costs: this model is cheaper to run at home"),
        (86.0, 84.0, "the client would spend 86 times what running alone costs: this model is cheaper to run at home"),
        (0.99, 1.02, "the client would spend about what running alone costs: for its sake there is no need of a server"),
        (
            0.8, 0.5,
            "the client would spend 0.8 of what running alone costs in the first call of a run, and 0.5 of it in every later one: "
            "it saves the client 50% of the work",
        ),
        (
            2.0, 0.5,
            "the client would spend 2.0 times what running alone costs in the first call of a run, and 0.5 of it in every later "
            "one: it pays in runs of 3 calls or more",
        ),
        (
            20.0, 10.0,
            "the client would spend 20 times what running alone costs in the first call of a run, and 10 times in every later one: "
            "this model is cheaper to run at home",
        ),
    ],
)  # fmt: skip
def test_the_verdict_says_whether_it_pays(first: float, later: float | None, text: str) -> None:
    assert verdict(first, later) == text


def test_the_verdict_of_a_run_knows_its_later_calls() -> None:
    later = replace(COST, client_s=0.001)
    assert "every later one" in verdict_of(replace(PREDICTION, later=later))


def test_the_verdict_where_alone_costs_nothing() -> None:
    assert verdict_of(replace(PREDICTION, plaintext_s=0.0)) == "running this model alone costs nothing: there is nothing to gain"


@pytest.mark.slow
def test_rows_are_named_by_the_modules_of_the_network() -> None:
    torch.manual_seed(0)
    prediction = predict_graph(partitioned(Tiny().eval(), tiny_inputs()), Machine())
    modules = dict(Tiny().named_modules())
    assert all(path in modules for region in prediction.regions for path in region.modules)
    assert all(len(region.modules) == region.layers for region in prediction.regions)
    document = json.loads(json.dumps(prediction.document()))
    assert [row["module"] for row in document["regions"]] == [region.modules[0] for region in prediction.regions]


@pytest.mark.slow
def test_the_command_tells_modules_and_verdict_as_json() -> None:
    document = json.loads(CliRunner().invoke(app, ["plan", "digits", "--json"]).stdout)
    assert document["regions"][1]["module"] == "down_blocks.0.resnets.0.conv1"
    assert document["verdict"].endswith("cheaper to run at home")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 ms"), (43e-6, "43 µs"), (0.0716, "71.6 ms"), (0.9999, "999.9 ms"), (2.34, "2.3 s"), (599.0, "599.0 s"),
        (845.0, "14 min 5 s"), (7920.0, "2 h 12 min"),
    ],
)  # fmt: skip
def test_times_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize("option", ["--calibration", "--tile"])
def test_options_of_fronts_need_fronts(option: str) -> None:
    result = CliRunner().invoke(app, ["plan", "digits", option, "x"])
    assert "add --pareto" in str(result.exception)
