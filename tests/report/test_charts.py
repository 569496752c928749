"""Charts are figures that plotly takes, and they show what was counted, predicted or measured, no more."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as plotly
import pytest
import torch

import hecompile
from hecompile.artifact import read_manifest
from hecompile.compiler import Compiled
from hecompile.ir.approximation import CurvePoint
from hecompile.ir.modules import ModuleWork
from hecompile.machine import Machine
from hecompile.planner.artifact import local_works, predict_manifest
from hecompile.report.charts import byte_bars, curve, module_map, second_bars, timeline_chart
from hecompile.report.timeline import by_region, measured_timeline, predicted_timeline
from hecompile.report.tree import module_tree
from hecompile.timing import Span
from tests.networks import tiny_inputs
from tests.report.pages import gathered


def work(region: str, path: str, macs: int, entries: int) -> ModuleWork:
    return ModuleWork(region, path, ("conv2d",), 1, ("B", 4, 8, 8), macs, entries)


def test_plotly_takes_every_figure(digits: Path) -> None:
    contents = gathered(digits)
    assert contents.timeline is not None
    tree = module_tree("digits", contents.modules, {row.region for row in contents.calls})
    points = [CurvePoint(3, 10, 20.0), CurvePoint(None, 12, 30.0), CurvePoint(5, 14, float("inf"))]
    figures = [
        module_map(tree), byte_bars(contents.calls), second_bars(contents.calls, contents.timeline), curve(points),
        timeline_chart(contents.timeline, {}),
    ]  # fmt: skip
    for figure in figures:
        assert plotly.Figure(figure).to_dict()["data"]


def test_boxes_hold_exactly_what_is_in_them(digits: Path) -> None:
    contents = gathered(digits)
    tree = module_tree("digits", contents.modules, {row.region for row in contents.calls})
    for _, _, branch in tree.walk():
        for side in ("client", "server"):
            for kind in (lambda node, side=side: node.macs[side], lambda node, side=side: node.entries[side]):
                assert not branch.children or kind(branch) == sum(map(kind, branch.children.values()))
    assert sum(tree.macs.values()) == sum(module.macs for module in contents.modules)
    assert tree.macs["server"] == sum(module.macs for module in contents.modules if module.region.startswith("call"))


def test_a_module_at_both_sides_is_shown_in_two_boxes() -> None:
    tree = module_tree(
        "net", [work("call_01", "a.0.b", 5, 1), work("client_01", "a.0.b", 0, 2), work("client_01", "a.0", 0, 3)], {"call_01"}
    )
    rows = {branch.path: branch for _, _, branch in tree.walk()}
    own = [path for path in rows if "own operations" in path]
    assert own == ["a.0.b.own operations, server", "a.0.b.own operations, client", "a.0.own operations, client"]
    assert list(rows) == ["", "a.0", "a.0.b", *own]
    assert [rows[path].side for path in rows] == ["both", "both", "both", "server", "client", "client"]
    assert rows["a.0"].entries == {"client": 5, "server": 1}


def test_a_predicted_timeline_is_as_long_as_the_prediction(digits: Path) -> None:
    manifest, machine = read_manifest(digits), Machine(rtt_ms=20.0, bandwidth_mbps=100.0)
    local = local_works(digits, manifest)
    prediction = predict_manifest(digits, manifest, machine, local=local)
    timeline = predicted_timeline(manifest, prediction, local)
    assert not timeline.measured
    ends = [bar.start_s + bar.seconds for bar in timeline.bars]
    assert [bar.start_s for bar in timeline.bars] == pytest.approx([0.0, *ends[:-1]])
    assert ends[-1] == pytest.approx(prediction.latency_s)


def test_what_was_measured_apart_is_shown_in_place_of_the_exchange() -> None:
    spans = [
        Span("client_00", "local", 10.0, 11.0), Span("call_01", "encrypt", 11.0, 12.0), Span("call_01", "exchange", 12.0, 16.0),
        Span("call_01", "server", 13.0, 15.0), Span("call_01", "decrypt", 16.0, 17.0),
    ]  # fmt: skip
    timeline = measured_timeline(spans, "")
    assert timeline is not None
    assert [(bar.part, bar.start_s, bar.seconds) for bar in timeline.bars] == [
        ("local", 0.0, 1.0), ("encrypt", 1.0, 1.0), ("server", 3.0, 2.0), ("decrypt", 6.0, 1.0),
    ]  # fmt: skip
    assert dict(by_region(timeline))["server"] == {"call_01": 2.0}
    coarse = measured_timeline([span for span in spans if span.part != "server"], "")
    assert coarse is not None
    assert coarse.parts == ["local", "encrypt", "decrypt", "exchange"]
    assert measured_timeline([], "") is None


def test_an_executor_notes_when_the_parts_of_a_call_ran(tiny_clear: Compiled) -> None:
    assert tiny_clear.artifact is not None
    with hecompile.load(tiny_clear.artifact, policy="simulation") as unet, torch.no_grad():
        for _ in range(2):  # those of the last call are kept
            unet(**tiny_inputs())
        spans, steps = unet.meter.spans, read_manifest(tiny_clear.artifact).plan.steps
    expected = [
        (step.region, part)
        for step in steps
        for part in (["local"] if step.kind == "client" else ["encrypt", "exchange", "decrypt"])
    ]
    assert [(span.region, span.part) for span in spans] == expected
    borders = [moment for span in spans for moment in (span.start_s, span.end_s)]
    assert borders == sorted(borders)
    assert sum(span.seconds for span in spans) <= unet.meter.wall_s
