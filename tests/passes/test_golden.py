"""One golden file per pass: the same small network after each of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hecompile.compiler import pipeline
from hecompile.frontend.sources import load_source
from hecompile.ir.graph import ModelGraph
from hecompile.ir.printing import print_graph
from hecompile.ir.program_printing import print_program
from hecompile.options import CompileOptions
from tests.golden_files import check
from tests.networks import Tiny, tiny_inputs

CASE = "a small network with a residual and a condition"


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The program after every pass, by the pass's name."""
    target = tmp_path_factory.mktemp("golden") / "artifact"
    program: Any = load_source(Tiny().eval(), tiny_inputs())
    programs = {}
    for step in pipeline(CompileOptions(max_batch=2), target):
        program = step.run(program)
        programs[step.name] = program
    programs["folder"] = target
    return programs


def tree(folder: Path) -> str:
    """Names of all files, and the manifest without checksums, which the numbers of this machine's torch decide."""
    import json

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = sorted(manifest["files"])
    manifest["server"] = "digest"
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


NAMES = [step.name for step in pipeline(CompileOptions(), Path("unused"))]


@pytest.mark.parametrize("name", NAMES)
def test_the_program_after_each_pass(stages: dict[str, Any], name: str) -> None:
    program = stages[name]
    if name == "write":
        text = tree(stages["folder"])
    else:
        text = print_graph(program) if isinstance(program, ModelGraph) else print_program(program)
    check(f"{name}/{CASE}", text)


def test_a_second_run_changes_nothing(stages: dict[str, Any]) -> None:
    again = [step for step in pipeline(CompileOptions(max_batch=2), None)[2:] if step.name != "split"]  # it changes the kind
    for step in again:
        assert step.run(stages[step.name]) is stages[step.name]


@pytest.mark.parametrize("name", ["quantize", "select-parameters", "pack", "lower"])
def test_a_pass_that_changes_a_weight_too_far_is_caught(stages: dict[str, Any], name: str) -> None:
    """The comparison between passes, on a pass that goes wrong."""
    import numpy as np

    from hecompile.backends.bfv.stages import PackedLinearOp, ParameterizedLinearOp
    from hecompile.errors import InternalError
    from hecompile.ir.linear_ops import QuantizedLinearOp
    from hecompile.ir.regions import CallRegion
    from hecompile.ir.verify import compare_regions, example_inputs

    def spoil(linear_op: Any) -> Any:
        if isinstance(linear_op, PackedLinearOp):
            return replace(linear_op, parameterized=spoil(linear_op.parameterized))
        if isinstance(linear_op, ParameterizedLinearOp):
            return replace(linear_op, quantized=spoil(linear_op.quantized))
        assert isinstance(linear_op, QuantizedLinearOp)
        weights = linear_op.weights.copy()
        weights.reshape(-1)[0] += np.int8(3 if weights.reshape(-1)[0] < 100 else -3)
        return replace(linear_op, weights=weights)

    order = list(stages)
    before, after = stages[order[order.index(name) - 1]], stages[name]
    inputs = example_inputs(before)
    compare_regions(before, after, inputs, name)
    wrong = after.with_calls(lambda region: region.with_linear_ops(spoil) if isinstance(region, CallRegion) else region)
    with pytest.raises(InternalError, match=f"{name} changed"):
        compare_regions(before, wrong, inputs, name)
