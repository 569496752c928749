"""Linear circuits have a price before they are compiled."""

from __future__ import annotations

from typing import Any

import pytest

from hecompile.backends.concrete.costs import dimension_for
from hecompile.backends.concrete.linear.program import linear_program
from hecompile.backends.concrete.linear.stages import LimitedLinearOp
from hecompile.backends.concrete.lookups.program import USUAL_PS
from hecompile.backends.context import Context
from hecompile.backends.registry import backend, proposals
from hecompile.compiler import Compiled, pipeline
from hecompile.frontend.sources import load_source
from hecompile.ir.candidates import Cost
from hecompile.machine import Machine
from hecompile.measure.artifact import compare, measure_artifact, predict_artifact
from hecompile.options import CompileOptions
from tests.networks import Tiny, tiny_inputs
from tests.programs import call_regions


@pytest.mark.slow
def test_every_secret_layer_is_a_candidate_with_bytes_and_seconds_and_no_keys() -> None:
    program: Any = load_source(Tiny().eval(), tiny_inputs())
    for step in pipeline(CompileOptions(), None)[:3]:
        program = step.run(program)
    candidates = proposals("concrete", program, Context())
    total = sum((candidate.cost for candidate in candidates), Cost())
    assert [len(candidate.nodes) for candidate in candidates].count(2) == 1  # the upsampling is folded in
    assert len(candidates) == 6
    assert total.key_bytes == 0
    assert 0.001 < total.server_s < 1
    assert 100_000 < total.down_bytes < 100_000_000


@pytest.mark.slow
def test_conv_activation_conv_is_found_and_large_ones_are_left() -> None:
    import torch

    class ConvSiluConv(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Conv2d(2, 1, 3, padding=1)

        def forward(self, sample: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.second(torch.nn.functional.silu(self.first(sample)))
            return result

    for side, count in ((8, 1), (32, 0)):
        program: Any = load_source(ConvSiluConv().eval(), {"sample": torch.zeros(2, 1, side, side)})
        for step in pipeline(CompileOptions(), None)[:3]:
            program = step.run(program)
        candidates = backend("concrete_lookups").propose(program, Context())
        assert len(candidates) == count
        assert all(len(candidate.nodes) == 3 and candidate.cost.key_bytes > 0 for candidate in candidates)


@pytest.mark.fhe
def test_the_dimension_is_predicted_before_a_circuit_is_compiled(tiny_concrete: Compiled) -> None:
    """The prediction, from weights and geometry alone, is within two per cent of what Concrete chooses."""
    checked = 0
    for region in call_regions(tiny_concrete).values():
        assert region.lowered is not None
        program = linear_program(region.lowered.client)
        for layer, linear_op in zip(program.body.layers, region.linear_ops, strict=True):
            dimension = layer.circuit.encryptions[0].dimension
            assert isinstance(linear_op, LimitedLinearOp)
            predicted = dimension_for(linear_op.geometry, linear_op.quantized.weights)
            assert predicted == pytest.approx(dimension, rel=0.02)
            checked += 1
    assert checked == 5


@pytest.mark.fhe
def test_bytes_are_predicted_exactly_and_a_run_gives_seconds_for_every_region(tiny_concrete: Compiled) -> None:
    assert tiny_concrete.artifact is not None
    predicted = predict_artifact(tiny_concrete.artifact, Machine())
    measured = measure_artifact(tiny_concrete.artifact, runs=1)
    table = compare(predicted, measured)
    rows = {row["what"]: row for row in table["total"]}
    headers = 1.05  # a header per request, which small regions notice
    assert 1 <= rows["bytes_up"]["ratio"] < headers
    assert 1 <= rows["bytes_down"]["ratio"] < headers
    assert 1 / 3 < rows["server_s"]["ratio"] < 3  # milliseconds, on whatever machine
    assert all(row["server_s_measured"] > 0 for row in table["regions"])


@pytest.mark.slow
def test_a_static_norm_between_a_conv_and_its_activation_is_folded_away() -> None:
    import torch

    class Normed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Conv2d(2, 1, 3, padding=1)
            self.norm = torch.nn.GroupNorm(2, 2)

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.norm(self.first(sample + torch.sin(timestep)))
            result: torch.Tensor = self.second(torch.nn.functional.silu(hidden))
            return result

    counts = {}
    for norms in ("exact", "static"):
        program: Any = load_source(Normed().eval(), {"sample": torch.zeros(2, 1, 4, 4), "timestep": torch.tensor(31.0)})
        for step in pipeline(CompileOptions(backend="concrete_lookups", norms=norms), None)[:5]:
            program = step.run(program)
        counts[norms] = len(backend("concrete_lookups").propose(program, Context()))
    assert counts == {"exact": 0, "static": 1}


def test_a_server_waits_by_the_speed_of_a_usual_machine() -> None:
    """The document of a region with lookups has the number by itself: a server needs no machine."""
    assert Machine().lookup_ps == USUAL_PS
