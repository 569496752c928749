"""The pass in the pipeline: golden graphs, artifacts that run, options that make sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hecompile
from hecompile.approx.options import ApproximationOptions
from hecompile.compiler import compile_model
from hecompile.errors import CompileError
from hecompile.ir.printing import print_graph
from hecompile.options import CompileOptions
from hecompile.passes.approximate_activations import ApproximateActivations
from tests.approx.networks import tiny
from tests.golden_files import check
from tests.networks import Tiny, tiny_inputs
from tests.programs import program_of

ON = CompileOptions(backend="clear", activations="polynomial", max_batch=2)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        pytest.param("activations become polynomials", {}, marks=pytest.mark.slow),
        pytest.param("clamped at the client", {"clamp": True}, marks=pytest.mark.slow),
        pytest.param("norms become a scale and a shift", {"norms": "static"}, marks=pytest.mark.slow),
        pytest.param("norms become sums and an inverse square root", {"norms": "polynomial"}, marks=pytest.mark.slow),
    ],
)
def test_golden(case: str, changes: dict[str, Any]) -> None:
    check(
        f"approximate-activations/{case}",
        print_graph(ApproximateActivations(replace(ON, **changes).panel(ApproximationOptions)).run(tiny())),
    )


def test_off_it_returns_its_argument() -> None:
    graph = tiny()
    assert ApproximateActivations(ApproximationOptions()).run(graph) is graph


@pytest.mark.slow
def test_an_artifact_computes_what_the_graph_computes(tmp_path: Path) -> None:
    """Up to the integers of the clear backend; the report shows sites and plot."""
    options = CompileOptions(choices=ON.choices, total_depth=10, norms="static")
    compiled = compile_model(Tiny().eval(), tmp_path / "artifact", options=options, example_inputs=tiny_inputs())
    record = compiled.program.approximation
    assert record is not None
    assert record.total_depth <= 10
    unet = hecompile.load(tmp_path / "artifact", policy="simulation")
    inputs = {name: torch.from_numpy(np.asarray(value)) for name, value in record.example.items()}
    expected = program_of(compiled).run(record.example)[program_of(compiled).plan.outputs[0]]
    result = unet(**inputs, return_dict=False)[0].numpy()
    assert np.abs(result - expected).max() <= 1e-4 * np.abs(expected).max()
    report = (tmp_path / "artifact" / "report.html").read_text()
    assert all(site.name in report for site in record.sites)
    assert "PSNR against total depth" in report


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"degree": 3, "budget_db": 30.0, "activations": "polynomial"}, "degree and budget_db each choose the degrees"),
        ({"degree": 3}, "degree does nothing: it concerns polynomials"),
        ({"clamp": True}, "clamp does nothing: it concerns polynomials"),
        ({"norms": "polynomial"}, "norms does nothing: their inverse square roots count"),
        ({"degree": 40, "activations": "polynomial"}, "between 1 and 31"),
        ({"norms": "none"}, "norms is 'none': it must be exact, static or polynomial"),
        ({"activations": "relu"}, "activations is 'relu': it must be exact or polynomial"),
    ],
)
def test_choices_that_make_no_sense_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        CompileOptions(**flags)


def test_there_is_one_fit_and_no_option_for_it() -> None:
    with pytest.raises(CompileError, match="there is no option 'fit'"):
        CompileOptions(activations="polynomial", fit="minimax")


@pytest.mark.slow
def test_digits_keep_what_was_promised_on_other_noise(tmp_path: Path) -> None:
    from benchmarks.digits import draw
    from hecompile.models import digits
    from hecompile.models.digits.classifier import recognised_share

    labels = [place % 10 for place in range(40)]
    compiled = compile_model(
        "digits", tmp_path / "artifact", options=CompileOptions(choices=ON.choices, budget_db=35.0, max_batch=16)
    )
    images = draw(hecompile.load(tmp_path / "artifact", policy="simulation"), labels, 10)
    error = np.mean((images.astype(np.float64) - draw(digits.load(), labels, 10)) ** 2)
    assert 10 * np.log10(1 / error) >= 34.5  # of 35, as int8 weights add the error of 46 dB
    assert recognised_share(images, labels) >= 0.95
    assert compiled.program.approximation is not None
    assert compiled.program.approximation.promised_db == 35
    assert compiled.program.approximation.total_depth < 54  # that of degree 7 everywhere
