"""Digits with polynomial activations: quality against degree, fit, norms and total depth.

Each setting draws 200 digits in ten DDIM steps from the same noise as the float32 network. Artifacts of the
`clear` backend are held below 47 dB by their int8 weights alone; `float_psnr_db` is of the approximated graph itself, in torch.
What differs by the approximation only is drawn in torch only. Settings run in four processes: nothing here is timed.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product, repeat
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

import hecompile
from benchmarks.baselines.fits import FITS
from benchmarks.digits import draw
from benchmarks.harness import arguments, finish, machine
from hecompile.approx.options import ApproximationOptions
from hecompile.compiler import compile_model
from hecompile.ir.graph import ModelGraph
from hecompile.ir.linear import Array
from hecompile.models import digits
from hecompile.models.digits.classifier import recognised_share
from hecompile.options import CompileOptions
from hecompile.passes.approximate_activations import ApproximateActivations
from hecompile.passes.base import Pass

OFF = CompileOptions(backend="clear")
ON = CompileOptions(choices=OFF.choices, activations="polynomial")
DEGREES = (3, 5, 7, 9)


@dataclass(frozen=True)
class Keep(Pass[ModelGraph, ModelGraph]):
    """Keeps the graph that it sees: before -> before."""

    kept: list[ModelGraph]

    def run(self, program: ModelGraph) -> ModelGraph:
        self.kept.append(program)
        return program


class InTorch(torch.nn.Module):
    """A compiler's graph with the forward of its UNet."""

    def __init__(self, graph: ModelGraph, like: torch.nn.Module) -> None:
        super().__init__()
        self._graph, self.config, self.dtype = graph, like.config, torch.float32

    def forward(self, sample: torch.Tensor, timestep: Any, class_labels: torch.Tensor, return_dict: bool = True) -> Any:
        inputs = {"sample": sample, "timestep": torch.as_tensor(float(timestep)), "class_labels": class_labels}
        with torch.no_grad():
            output = self._graph(*(inputs[spec.name] for spec in self._graph.inputs))
        return digits_output(output[0]) if return_dict else output


def digits_output(sample: torch.Tensor) -> Any:
    """What a UNet of diffusers returns."""
    from diffusers.models.unets.unet_2d import UNet2DOutput

    return UNet2DOutput(sample=sample)


def settings(smoke: bool) -> list[tuple[CompileOptions, str, bool]]:
    """What is compared: options, the fit by name, and whether an artifact draws it."""
    if smoke:
        return [
            (CompileOptions(choices=ON.choices, degree=3), "weighted", True),
            (CompileOptions(choices=ON.choices, total_depth=36), "weighted", False),
        ]
    artifacts = [
        *(CompileOptions(choices=ON.choices, degree=degree) for degree in DEGREES[1:]),
        CompileOptions(choices=ON.choices, degree=7, norms="static"),
    ]
    graphs = [
        (CompileOptions(choices=ON.choices, total_depth=54), "weighted"),
        (CompileOptions(choices=ON.choices, degree=7, norms="polynomial"), "weighted"),
        (CompileOptions(choices=ON.choices, degree=3), "weighted"),
        *((CompileOptions(choices=ON.choices, degree=degree), "interpolation") for degree in DEGREES[1:]),
        (CompileOptions(choices=OFF.choices, norms="static"), "weighted"),
        (CompileOptions(choices=ON.choices, degree=7), "minimax"),
        (CompileOptions(choices=ON.choices, degree=7, clamp=True), "weighted"),
    ]
    longest = (CompileOptions(choices=ON.choices, total_depth=105, norms="polynomial"), "weighted", False)
    return [longest, *product(artifacts, ["weighted"], [True]), *((*graph, False) for graph in graphs)]


def psnr_db(images: Array, reference: Array) -> float | None:
    """The PSNR of images in [0, 1], which is that of pixels in [-1, 1]. None if they are equal or hold NaN or infinity."""
    error = np.mean((images.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(1 / error)) if np.isfinite(error) and error else None


@cache
def marked() -> ModelGraph:
    """The graph that the pass gets."""
    kept: list[ModelGraph] = []
    compile_model("digits", options=OFF, extra_passes={"mark-secrets": [Keep(kept)]})
    return kept[0]


@cache
def exact(samples: int, steps: int) -> Array:
    """The pictures of the float32 network."""
    return draw(digits.load(), labels_of(samples), steps)


def labels_of(samples: int) -> list[int]:
    """Digits in turn."""
    return [place % 10 for place in range(samples)]


def measure(options: CompileOptions, fit: str, as_artifact: bool, samples: int, steps: int) -> dict[str, Any]:
    """The figures of one setting."""
    torch.set_num_threads(1)
    labels, reference = labels_of(samples), exact(samples, steps)
    graph = ApproximateActivations(options.panel(ApproximationOptions), fit=FITS[fit]).run(marked())
    images = of_graph = draw(InTorch(graph, digits.load()), labels, steps)
    if as_artifact:
        with tempfile.TemporaryDirectory() as folder:
            compile_model("digits", Path(folder) / "digits", options=options)
            images = draw(hecompile.load(Path(folder) / "digits", policy="simulation"), labels, steps)
    record = graph.approximation
    degrees = [site.degree for site in record.sites] if record else []
    return {
        "backend": "clear" if as_artifact else "torch",
        "norms": options.norms,
        "fit": fit if degrees else None,
        "degree": options.degree,
        "degrees": degrees,
        "budget_db": options.budget_db,
        "clamp": options.clamp,
        "depth": record.total_depth if record else 0,
        "psnr_db": psnr_db(images, reference),
        "float_psnr_db": psnr_db(of_graph, reference),
        "recognised": recognised_share(np.nan_to_num(images), labels),
        "promised_db": record.promised_db if record else None,
        "out_of_range": sum(excess.count for excess in record.out_of_range) if record else 0,
    }


def equal_depth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The gain in dB of the error budget over one degree for all sites, where both have the same total depth."""
    gains = []
    for row in rows:
        spent = row["degrees"] and row["degree"] is None and row["budget_db"] is None
        for other in rows if spent else ():
            same = all(row[key] == other[key] for key in ("norms", "fit", "clamp", "depth"))
            if same and other["degree"] is not None and other["float_psnr_db"] is not None:
                gain = row["float_psnr_db"] - other["float_psnr_db"]
                gains.append({"norms": row["norms"], "depth": row["depth"], "degree": other["degree"], "gain_db": gain})
    return gains


def fit_gain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The data-weighted fit against interpolation, degree by degree, in torch."""
    plain = [row for row in rows if row["degree"] and row["norms"] == "exact" and not row["clamp"]]
    by_key = {(row["fit"], row["degree"]): row["float_psnr_db"] for row in plain}
    return [
        {"degree": degree, "gain_db": by_key["weighted", degree] - by_key["interpolation", degree]}
        for degree in DEGREES
        if by_key.get(("interpolation", degree)) is not None and by_key.get(("weighted", degree)) is not None
    ]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    steps, samples = (2, 10) if options.smoke else (10, 200)
    compile_options, fits, as_artifact = zip(*settings(options.smoke), strict=True)
    rows = []
    with ProcessPoolExecutor(1 if options.smoke else 4, multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(measure, compile_options, fits, as_artifact, repeat(samples), repeat(steps)):
            rows.append(row)
            sys.stderr.write(f"{row}\n")
    figures = {
        "steps": steps,
        "samples": samples,
        "recognised_float": recognised_share(exact(samples, steps), labels_of(samples)),
        "settings": rows,
        "equal_depth": equal_depth(rows),
        "fit_gain": fit_gain(rows),
    }
    finish({"benchmark": "activations", "smoke": options.smoke, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
