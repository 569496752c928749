"""Predictions for a source: traced, partitioned and priced, without weights where it has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hecompile.cost.machine import Machine, load_machine
from hecompile.cost.plan import Prediction, available_mib, predict_graph, refuse_without_memory
from hecompile.ir.graph import ModelGraph

__all__ = ["partitioned", "predict_source"]


def partitioned(source: str) -> ModelGraph:
    """The graph of a source with domains and regions under `strict`."""
    from hecompile.compiler import pipeline
    from hecompile.frontend.sources import load_source
    from hecompile.options import CompileOptions

    program: Any = load_source(source)
    for each in pipeline(CompileOptions(), None):
        if not isinstance(program, ModelGraph) or each.name != "split":
            program = each.run(program)
        else:
            break
    return program  # type: ignore[no-any-return]


def predict_source(source: str, profile: Path | None, rtt_ms: float, bandwidth_mbps: float, batch: int) -> Prediction:
    """The prediction for a source on a machine and a network.

    Raises:
        CompileError: if the source cannot be traced, no parameters carry a layer, or memory will not do.
    """
    machine = load_machine(profile) if profile else Machine()
    machine = replace(machine, rtt_ms=rtt_ms, bandwidth_mbps=bandwidth_mbps)
    prediction = predict_graph(partitioned(source), machine, batch)
    refuse_without_memory(prediction, available_mib())
    return prediction
