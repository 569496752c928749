"""Compiles a sampler's step for the policy `he-diffusion`: chooses masks and parameters, and writes an artifact without a UNet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hecompile.errors import CompileError, Diagnostic, unknown_name
from hecompile.panels import Panel, option
from hecompile.security.table import LEVELS
from hecompile.sparsity.distortion_names import OF_SAMPLE

if TYPE_CHECKING:
    from hecompile.artifact import Manifest
    from hecompile.backends.sampler_step.program import SamplerStepBody, SamplerStepProgram
    from hecompile.calibration.calls import Call
    from hecompile.sparsity.importance import Distortion
    from hecompile.sparsity.selection import Masks

__all__ = ["SamplerOptions", "compile_sampler", "parse_shape"]

REGION, INPUTS, OUTPUT = "sampler", ("sample", "noise", "step"), "previous"
Floats = npt.NDArray[np.float64]


def parse_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width from a text such as `4x64x64`. Raises `CompileError` for any other text."""
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdigit() and int(size) for size in sizes):
        raise CompileError(f"a shape is written CxHxW, as 4x64x64, not '{text}'")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


@dataclass(frozen=True)
class SamplerOptions(Panel):
    """The options of compiling a sampler's step, checked when built.

    Raises:
        CompileError: for values out of bounds, or that contradict each other.
    """

    tau: float = option(0.01, help="largest share of the distortion that revealed entries may have", at_least=0, below=1)
    cost: str = option("hill", help="the measure of how important an entry is", known=lambda: OF_SAMPLE)
    dynamic: bool = option(False, help="choose the mask anew from every latent; how many entries it encrypts leaks")
    nested: bool = option(False, help="one mask per range of timesteps, nested, instead of one for all steps")
    fill: bool = option(True, help="encrypt more entries until the last polynomial is full, which costs nothing")
    most_clear: float = option(
        0.25, help="largest share of the entries that may be revealed, counted over all steps", at_least=0, at_most=1
    )
    reveal_bits: int = option(12, help="bits that revealed entries are rounded to")
    max_batch: int = option(4, help="largest batch of one request", at_least=1, at_most=256)
    security: int = option(128, help="bits of security of the lattice parameters", known=lambda: LEVELS)

    def check(self) -> None:
        from hecompile.sparsity.distortion_names import distortion_names

        if self.cost not in distortion_names():
            raise unknown_name("cost", self.cost, distortion_names())
        if self.dynamic and (self.nested or self.cost == "jacobian"):
            raise CompileError(
                "dynamic masks cannot be nested, and cannot use the cost 'jacobian', which needs a model at run time"
            )


def compile_sampler(
    output: str | Path,
    shape: tuple[int, int, int],
    calibration: Iterable[Call] = (),
    options: SamplerOptions | None = None,
    *,
    cost: Distortion | None = None,
) -> Manifest:
    """Write the artifact of a sampler's step for latents of `shape` (C, H, W), and return its manifest.

    Args:
        calibration: calls of the UNet, by whose latents static masks are chosen; not needed with `dynamic`.
        cost: a distortion function, such as your own or `jacobian` of a model, instead of the named one; for static masks only.

    Raises:
        CompileError: if no artifact can be written to the folder, or if the whole latent, entries at full precision or more than
            the budget would be revealed; it lists all findings.
    """
    from hecompile.artifact_writing import check_target
    from hecompile.backends.program_io import Document
    from hecompile.backends.sampler_step.choose import WEIGHT_BITS, choose_parameters
    from hecompile.backends.sampler_step.program import SamplerStepBody

    target = Path(output).expanduser()
    check_target(target)
    options = options or SamplerOptions()
    parameters, q, drops = choose_parameters(int(np.prod(shape)), options.security)
    masks = None if options.dynamic else _static_masks(shape, calibration, options, cost, parameters.dimension)
    clear = () if masks is None else tuple(int((~mask).sum()) for mask in masks.values)
    body = SamplerStepBody(
        shape, options.max_batch, parameters, q, drops, WEIGHT_BITS, options.reveal_bits,
        clear, int(options.most_clear * int(np.prod(shape))), options.tau, options.cost, options.fill,
    )  # fmt: skip
    return _write(target, Document(REGION, "sampler_step", INPUTS, (OUTPUT,), body), masks, options.security)


def _static_masks(
    shape: tuple[int, int, int], calibration: Iterable[Call], options: SamplerOptions, cost: Distortion | None, dimension: int
) -> Masks:
    """Return the mask for all timesteps, or one for each bin, chosen by the latents of the calibration."""
    from hecompile.backends.sampler_step.support import filled
    from hecompile.ir.timesteps import TIMESTEP_BINS, timestep_bin
    from hecompile.sparsity.importance import distortion_function
    from hecompile.sparsity.selection import Masks, mean_share, nested_masks, select

    distortion_of = distortion_function(cost or options.cost)
    by_bin_samples: dict[int, list[Floats]] = {}
    for call in calibration:
        for sample in call.inputs["sample"]:
            if sample.shape != shape:
                raise CompileError(f"a latent of the calibration has shape {sample.shape}, the sampler {shape}")
            by_bin_samples.setdefault(timestep_bin(call.t), []).append(distortion_of(np.asarray(sample, np.float64)))
    if not by_bin_samples:
        raise CompileError(
            Diagnostic("static masks need a calibration", help="pass calls of the UNet, or choose dynamic masks, whose size leaks")
        )
    if options.nested:
        mean: Floats = np.mean([mean_share(samples) for samples in by_bin_samples.values()], axis=0)  # the order of nested masks
        by_bin = nested_masks(by_bin_samples, options.tau)
        known = np.array(sorted(by_bin))
        values = np.stack([by_bin[int(known[np.abs(known - place).argmin()])] for place in range(TIMESTEP_BINS)])
    else:
        mean = mean_share([distortion for samples in by_bin_samples.values() for distortion in samples])
        values = select(mean, options.tau)[None]
    return Masks(np.stack([filled(mask, mean, dimension) for mask in values]) if options.fill else values)


def _config(body: SamplerStepBody) -> Mapping[str, Any]:
    """Return the manifest's `config`: facts about what is revealed."""
    from hecompile.policies import WATERMARK

    return {
        "watermark": WATERMARK if body.most_revealed else "",
        "tau": body.tau,
        "cost": body.cost,
        "support": "dynamic" if body.dynamic else "static",
        "clear_share": body.most_revealed / body.entries,  # of x and of e alike
        "reveal_bits": body.reveal_bits,
    }


def _write(target: Path, program: SamplerStepProgram, masks: Masks | None, security: int) -> Manifest:
    """Check both halves, write the artifact whole or not at all, and return its manifest."""
    from hecompile.artifact import Input, Manifest
    from hecompile.artifact_files import FORMAT, MANIFEST
    from hecompile.artifact_writing import checksums, to_json, write_folder, write_half, write_server
    from hecompile.backends.registry import backend
    from hecompile.backends.sampler_step.program import reveals
    from hecompile.ir.halves import ClientHalf, ServerHalf
    from hecompile.ir.plan import Plan, Step, Value
    from hecompile.report.artifact import artifact_page

    document = program.as_json()
    packed = {} if masks is None else {"masks": np.packbits(masks.values.reshape(len(masks.values), -1), axis=1)}
    client, server = ClientHalf(document, packed), ServerHalf(document, {})
    if reasons := backend("sampler_step").check(client, server, security):
        raise CompileError(reasons)
    dims = ("B", *program.body.shape)
    values = (
        Value(INPUTS[0], dims, "float32", True),
        Value(INPUTS[1], dims, "float32", True),
        Value(INPUTS[2], (3,), "float64", False),
        Value(OUTPUT, dims, "float32", True),
    )
    inputs = tuple(Input(value.name, (value.name,), value.shape, value.dtype, not value.secret) for value in values[:3])
    plan = Plan(INPUTS, (OUTPUT,), (Step("call", REGION, INPUTS, (OUTPUT,)),), values)
    result: list[Manifest] = []

    def fill(folder: Path) -> None:
        (folder / "client").mkdir()
        write_half(folder / "client", REGION, client)
        digest = write_server(folder / "server", REGION, "sampler_step", True, program.max_batch, {REGION: server})
        manifest = Manifest(
            FORMAT, REGION, "he-diffusion", "sampler_step", True, security, program.max_batch, reveals(program), inputs, plan,
            digest, {}, dict(_config(program.body)),
        )  # fmt: skip
        manifest = replace(manifest, files=checksums(folder))
        (folder / "report.html").write_text(artifact_page(folder, manifest), encoding="utf-8")
        manifest = replace(manifest, files=checksums(folder))
        (folder / MANIFEST).write_bytes(to_json(asdict(manifest)))
        result.append(manifest)

    write_folder(target, fill)
    return result[0]
