"""Values that leave a polynomial's range, where it is no longer the function that it stands for: counted, never silent."""

from __future__ import annotations

import torch
from torch import fx

from hecompile.approx.trial import Trial
from hecompile.calibration import timestep_bin
from hecompile.ir.approximation import Excursion
from hecompile.ir.graph import ModelGraph

__all__ = ["excursions"]


def excursions(graph: ModelGraph, trial: Trial) -> tuple[Excursion, ...]:
    """Every polynomial and timestep bin with values outside its range in a run of the trial, the farthest value of each."""
    found: dict[tuple[str, int], Excursion] = {}

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
        last = found.get((node.name, place))
        if last is not None and max(bottom - last.value, last.value - top) >= float(beyond.max()):
            found[node.name, place] = Excursion(**{**vars(last), "count": last.count + count})
        else:
            earlier = 0 if last is None else last.count
            found[node.name, place] = Excursion(node.name, place, earlier + count, value, bottom, top, call, sample)

    trial.run(graph, watch=watch)
    return tuple(found.values())
