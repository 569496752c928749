"""Counts values that leave a polynomial's range, outside of which it no longer approximates its function."""

from __future__ import annotations

import torch
from torch import fx

from hecompile.approx.validation import ValidationRun
from hecompile.calibration import timestep_bin
from hecompile.ir.approximation import OutOfRange
from hecompile.ir.graph import ModelGraph

__all__ = ["out_of_range"]


def out_of_range(graph: ModelGraph, validation: ValidationRun) -> tuple[OutOfRange, ...]:
    """For every polynomial and timestep bin with values outside its range in the validation run: their number, and the farthest.

    The farthest value is given with the call and the sample that it comes from.
    """
    events: dict[tuple[str, int], OutOfRange] = {}

    def watch(call: int, node: fx.Node, arguments: tuple[torch.Tensor, ...]) -> None:
        x, t, low, high, _ = arguments
        place = timestep_bin(float(t), len(low))
        bottom, top = float(low[place]), float(high[place])
        beyond = torch.maximum(bottom - x, x - top).nan_to_num(nan=torch.inf)
        count = int((beyond > 0).sum())
        if not count:
            return
        worst = int(beyond.argmax())
        value, sample = float(x.flatten()[worst]), worst // (x.numel() // len(x))
        last = events.get((node.name, place))
        if last is not None and max(bottom - last.value, last.value - top) >= float(beyond.max()):
            events[node.name, place] = OutOfRange(**{**vars(last), "count": last.count + count})
        else:
            earlier = 0 if last is None else last.count
            events[node.name, place] = OutOfRange(node.name, place, earlier + count, value, bottom, top, call, sample)

    validation.run(graph, watch=watch)
    return tuple(events.values())
