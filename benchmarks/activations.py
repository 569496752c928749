"""Digits with polynomial activations: quality against degree, fit, norms and total depth.

Each setting draws 200 digits in ten DDIM steps from the same noise as the float32 network. Those of `compiled` are artifacts of the
`clear` backend, whose int8 weights alone hold them below 47 dB; `float_psnr_db` is of the approximated graph itself, in torch. The
others are run in torch only, as the approximation is all that tells them apart.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

import hecompile
from benchmarks.digits import draw
from benchmarks.harness import arguments, finish, machine
from hecompile.compiler import compile_model
from hecompile.ir.graph import ModelGraph
from hecompile.models import digits
from hecompile.models.digits.classifier import recognised_share
from hecompile.options import CompileOptions
from hecompile.passes.approximate_activations import ApproximateActivations
from hecompile.passes.base import Pass

OFF = CompileOptions(backend="clear")
ON = replace(OFF, activations="polynomial")
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


def compiled(smoke: bool) -> list[CompileOptions]:
    """What is drawn by artifacts."""
    if smoke:
        return [replace(ON, degree=3)]
    return [
        OFF,
        *(replace(ON, degree=degree) for degree in DEGREES[1:]),
        *(replace(ON, degree=degree, fit="interpolation") for degree in DEGREES[1:3]),
        replace(ON, degree=7, norms="static"),
    ]


def in_torch(smoke: bool) -> list[CompileOptions]:
    """What is drawn by graphs."""
    if smoke:
        return [replace(ON, total_depth=36)]
    return [
        replace(ON, degree=3),
        replace(ON, degree=9, fit="interpolation"),
        *(replace(ON, degree=degree, fit="minimax") for degree in DEGREES[1:]),
        replace(ON, degree=7, clamp=True),
        replace(OFF, norms="static"),
        *(replace(ON, degree=degree, norms="polynomial") for degree in DEGREES[:3]),
        replace(ON, budget_db=40.0),
        replace(ON, total_depth=36),
        replace(ON, total_depth=54),
        replace(ON, total_depth=72),
        replace(ON, total_depth=70, norms="polynomial"),
        replace(ON, total_depth=105, norms="polynomial"),
    ]


def psnr_db(found: np.ndarray, reference: np.ndarray) -> float | None:
    """Of images in [0, 1]: the same number as of pixels in [-1, 1]. None for what is no number."""
    error = np.mean((found.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(1 / error)) if np.isfinite(error) and error else None


def measure(
    chosen: CompileOptions, graph: ModelGraph, artifact: Path | None, reference: np.ndarray, labels: list[int], steps: int
) -> dict[str, Any]:
    """One setting."""
    images = of_graph = draw(InTorch(graph, digits.load()), labels, steps)
    if artifact is not None:
        images = draw(hecompile.load(artifact, policy="simulation"), labels, steps)
    record = graph.approximation
    degrees = [site.degree for site in record.sites] if record else []
    return {
        "backend": "torch" if artifact is None else "clear",
        "norms": chosen.norms,
        "fit": chosen.fit if degrees else None,
        "degree": chosen.degree,
        "degrees": degrees,
        "budget_db": chosen.budget_db,
        "clamp": chosen.clamp,
        "depth": record.total_depth if record else 0,
        "psnr_db": psnr_db(images, reference),
        "float_psnr_db": psnr_db(of_graph, reference),
        "recognised": recognised_share(images, labels),
        "promised_db": record.promised_db if record else None,
        "excursions": sum(each.count for each in record.excursions) if record else 0,
    }


def equal_depth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The error budget against one degree for all sites, where both have the same total depth."""
    found = []
    for row in rows:
        spent = row["degrees"] and row["degree"] is None and row["budget_db"] is None
        for other in rows if spent else ():
            same = all(row[key] == other[key] for key in ("norms", "fit", "clamp", "depth"))
            if same and other["degree"] is not None and other["float_psnr_db"] is not None:
                gain = row["float_psnr_db"] - other["float_psnr_db"]
                found.append({"norms": row["norms"], "depth": row["depth"], "degree": other["degree"], "gain_db": gain})
    return found


def fit_gain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The data-weighted fit against interpolation, degree by degree, as drawn by the artifacts."""
    plain = [row for row in rows if row["degree"] and row["backend"] == "clear" and row["norms"] == "exact"]
    by_key = {(row["fit"], row["degree"]): row["psnr_db"] for row in plain}
    return [
        {"degree": degree, "gain_db": by_key["weighted", degree] - by_key["interpolation", degree]}
        for degree in DEGREES
        if by_key.get(("interpolation", degree)) is not None
    ]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    steps, samples = (2, 10) if options.smoke else (10, 200)
    labels = [place % 10 for place in range(samples)]
    reference = draw(digits.load(), labels, steps)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for place, chosen in enumerate(compiled(options.smoke)):
            artifact, kept = Path(folder) / str(place), list[ModelGraph]()
            extra = {name: [Keep(kept)] for name in ("mark-secrets", "approximate-activations")}
            compile_model("digits", artifact, options=chosen, extra_passes=extra)
            rows.append(measure(chosen, kept[1], artifact, reference, labels, steps))
            sys.stderr.write(f"{rows[-1]}\n")
        for chosen in in_torch(options.smoke):
            graph = ApproximateActivations(chosen).run(kept[0])
            rows.append(measure(chosen, graph, None, reference, labels, steps))
            sys.stderr.write(f"{rows[-1]}\n")
    figures = {
        "steps": steps,
        "samples": samples,
        "recognised_float": recognised_share(reference, labels),
        "settings": rows,
        "equal_depth": equal_depth(rows),
        "fit_gain": fit_gain(rows),
    }
    finish({"benchmark": "activations", "smoke": options.smoke, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
