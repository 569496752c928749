"""What the pass reveals: within the budget, no more than that, never inputs, outputs or conditions, and the numbers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hecompile.calibration import from_sampler
from hecompile.compiler import compile_model, pipeline
from hecompile.errors import CompileError
from hecompile.frontend.sources import load_source
from hecompile.ir import verify
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layers import constant_of
from hecompile.ir.linear import Array
from hecompile.ir.ops import REVEAL
from hecompile.ir.printing import print_graph
from hecompile.ir.program_printing import print_program
from hecompile.ir.reveals import narrow_reveals
from hecompile.options import CompileOptions
from hecompile.passes.extract_sparsity import ExtractSparsity
from hecompile.policies.min_distortion import MinDistortion
from hecompile.sparsity.selection import Grouping
from tests.golden_files import check
from tests.networks import Tiny, tiny_inputs
from tests.programs import program_of

CASE = "half of the distortion of a small network may be revealed"
BY_TILES = "half of the distortion of a small network may be revealed by tiles"
OPTIONS = CompileOptions(policy="min-distortion", budget=0.5, importance="magnitude", max_batch=1)


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    return stages_of(OPTIONS)


@pytest.fixture(scope="module")
def tiled() -> dict[str, Any]:
    return stages_of(CompileOptions(choices=OPTIONS.choices, granularity="tile", tile="2x1"))


def stages_of(options: CompileOptions) -> dict[str, Any]:
    program: Any = load_source(Tiny().eval(), tiny_inputs())
    programs = {}
    for step in pipeline(options, None):
        program = step.run(program)
        programs[step.name] = program
    return programs


@pytest.mark.parametrize("name", ["extract-sparsity", "partition", "pack"])
def test_the_program_after_the_pass(stages: dict[str, Any], name: str) -> None:
    program = stages[name]
    check(f"{name}/{CASE}", print_graph(program) if isinstance(program, ModelGraph) else print_program(program))


@pytest.mark.parametrize("name", ["extract-sparsity", "pack"])
def test_the_program_after_the_pass_by_tiles(tiled: dict[str, Any], name: str) -> None:
    program = tiled[name]
    check(f"{name}/{BY_TILES}", print_graph(program) if isinstance(program, ModelGraph) else print_program(program))


def reveals(graph: ModelGraph) -> dict[str, tuple[Array, Array]]:
    """Per value that is revealed in part: the mask of encrypted channels and all shares."""
    nodes = [node for node in graph.nodes if str(node.target) == REVEAL]
    return {
        node.args[0].name: tuple(constant_of(graph, argument).numpy() for argument in node.args[1:3])  # type: ignore[misc, union-attr]
        for node in nodes
    }


@pytest.mark.parametrize("granularity", ["channel", "tile"])
def test_as_many_parts_as_the_budget_allows_and_no_more(stages: dict[str, Any], tiled: dict[str, Any], granularity: str) -> None:
    masks = reveals((tiled if granularity == "tile" else stages)["extract-sparsity"])
    assert {encrypted.ndim for encrypted, _ in masks.values()} == {1 if granularity == "channel" else 2}
    for encrypted, shares in masks.values():
        assert np.isclose(shares.sum(), 1)
        assert shares[~encrypted].sum() <= 0.5 * (1 + 1e-6)
        if encrypted.sum() > 1:
            assert shares[~encrypted].sum() + shares[encrypted].min() > 0.5
        assert shares[~encrypted].max() <= shares[encrypted].min()


def test_the_numbers_stay(stages: dict[str, Any], tiled: dict[str, Any]) -> None:
    before = stages["mark-secrets"]
    inputs = verify.example_inputs(before)
    for after in (stages["extract-sparsity"], tiled["extract-sparsity"]):
        for got, want in zip(verify.run(after, inputs), verify.run(before, inputs), strict=True):
            np.testing.assert_array_equal(got, want)


def test_inputs_outputs_and_conditions_stay_encrypted(stages: dict[str, Any]) -> None:
    graph = stages["extract-sparsity"]
    masks = set(reveals(graph))
    assert not masks & {spec.name for spec in graph.inputs}
    assert not masks & set(graph.outputs)
    conditions = {node.name for node in graph.nodes if "label" in info(node).path or "gate" in info(node).path}
    assert conditions
    assert not masks & conditions


def test_shares_are_those_of_the_values_on_calibration_data(stages: dict[str, Any]) -> None:
    before = stages["mark-secrets"]
    calibration = from_sampler(before, steps=2, samples=3)
    graph = ExtractSparsity(MinDistortion(budget=0.5), "magnitude", 8, calibration).run(before)
    name, (_, shares) = next(iter(reveals(graph).items()))
    wanted = []
    for call in calibration:
        inputs = [torch.from_numpy(np.asarray(call.inputs[spec.name])) for spec in before.inputs]
        values = dict(zip((node.name for node in before.nodes), _all_values(before, inputs), strict=True))
        wanted += [np.abs(value).sum(axis=(1, 2)) / np.abs(value).sum() for value in values[name].double().numpy()]
    np.testing.assert_allclose(shares, np.mean(wanted, axis=0), rtol=1e-5)


def _all_values(graph: ModelGraph, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    interpreter = torch.fx.Interpreter(graph.graph_module, garbage_collect_values=False)
    with torch.no_grad():
        interpreter.run(*inputs)
    return [interpreter.env[node] for node in graph.nodes]


def test_shares_of_tiles_are_over_all_channels(stages: dict[str, Any], tiled: dict[str, Any]) -> None:
    """Tiles of whole rows and tiles of one column add up to the same rows."""
    before = stages["mark-secrets"]
    calibration = from_sampler(before, steps=2, samples=3)
    single, rows = (
        reveals(ExtractSparsity(MinDistortion(budget=0.5), "magnitude", 8, calibration, Grouping("tile", tile)).run(before))
        for tile in ((1, 1), (1, 99))
    )
    assert single["add_3"][1].shape == (4, 4)
    for name, (_, shares) in rows.items():
        np.testing.assert_allclose(shares[:, 0], single[name][1].sum(axis=1), rtol=1e-5)


def test_tiles_are_narrowed_to_the_most_important(tiled: dict[str, Any]) -> None:
    graph = narrow_reveals(tiled["extract-sparsity"], lambda reveal: reveal.with_encrypted(reveal.encrypted.size - 1))
    for encrypted, shares in reveals(graph).values():
        assert encrypted.shape == shares.shape
        assert (~encrypted).sum() == 1
        assert shares[~encrypted] == shares.min()


def test_values_that_the_tiles_do_not_divide_stay_encrypted(stages: dict[str, Any]) -> None:
    """Also where only one of the layers that read them has a stride; and pictures of a single tile."""
    before, policy = stages["mark-secrets"], MinDistortion(budget=0.5)
    assert ExtractSparsity(policy, "magnitude", grouping=Grouping("tile", (3, 3))).run(before) is before
    assert ExtractSparsity(policy, "magnitude", grouping=Grouping("tile", (4, 4))).run(before) is before
    assert "add_2" not in reveals(ExtractSparsity(policy, "magnitude", grouping=Grouping("tile", (1, 1))).run(before))


@pytest.mark.parametrize("policy", [None, MinDistortion(budget=0.0)])
def test_without_a_budget_nothing_changes(stages: dict[str, Any], policy: MinDistortion | None) -> None:
    before = stages["mark-secrets"]
    assert ExtractSparsity(policy).run(before) is before


def test_a_larger_budget_reveals_more(stages: dict[str, Any]) -> None:
    counts = []
    for budget in (0.05, 0.3, 0.9):
        graph = ExtractSparsity(MinDistortion(budget=budget), "magnitude").run(stages["mark-secrets"])
        counts.append(sum(int((~encrypted).sum()) for encrypted, _ in reveals(graph).values()))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_layers_that_move_to_the_client_reveal_nothing() -> None:
    pins = ("down*=client", "last*=client", "up*=server", "first*=server", "label*=server", "gate*=server")
    options = CompileOptions(
        policy="min-distortion", budget=0.5, importance="magnitude", max_batch=1, partition="optimised", pin=pins
    )
    program = program_of(compile_model(Tiny().eval(), options=options, example_inputs=tiny_inputs()))
    at_server = {part.path for linear_op in program.linear_ops for part in linear_op.parts}
    assert at_server == {"up", "first", "label", "gate"}


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"budget": None}, "needs a budget"),
        ({"budget": 1.0}, "below 1"),
        ({"budget": -0.1}, "below 1"),
        ({"reveal_bits": 12}, "between 2 and 11"),
        ({"importance": "nothing"}, "known: hill"),
        ({"granularity": "element"}, "it must be channel or tile"),
        ({"granularity": "tile", "tile": "4"}, "--tile 4x4"),
        ({"granularity": "tile", "tile": "0x4"}, "--tile 4x4"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(choice: dict[str, Any], reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        CompileOptions(**{"policy": "min-distortion", "budget": 0.1, **choice})


def test_strict_takes_no_budget() -> None:
    with pytest.raises(CompileError, match="budget does nothing under --policy strict"):
        CompileOptions(budget=0.1)
