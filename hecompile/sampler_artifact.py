"""Compiling a sampler's step for `he-diffusion`: masks from calibration data, parameters by proof, an artifact without a UNet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hecompile.errors import CompileError, Diagnostic, unknown_name
from hecompile.panels import Panel, option
from hecompile.security.table import LEVELS
from hecompile.sparsity.cost_names import OF_SAMPLE

if TYPE_CHECKING:
    from hecompile.artifact import Manifest
    from hecompile.backends.sampler_step.program import AffineBody, AffineProgram
    from hecompile.calibration.calls import Call
    from hecompile.sparsity.importance import Cost
    from hecompile.sparsity.selection import Masks

__all__ = ["SamplerOptions", "compile_sampler", "parse_shape"]

REGION, INPUTS, OUTPUT = "sampler", ("sample", "noise", "step"), "previous"
Floats = npt.NDArray[np.float64]


def parse_shape(text: str) -> tuple[int, int, int]:
    """`4x64x64` -> (4, 64, 64). Raises `CompileError` for anything else."""
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdigit() and int(size) for size in sizes):
        raise CompileError(f"a shape is written CxHxW, as 4x64x64, not '{text}'")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


@dataclass(frozen=True)
class SamplerOptions(Panel):
    """Choices of one compilation, checked when built.

    Raises:
        CompileError: for a share that is none, or a batch out of range.
    """

    tau: float = option(0.01, help="share of the distortion that may be left in the clear", at_least=0, below=1)
    cost: str = option("hill", help="what an entry costs", known=lambda: OF_SAMPLE)
    dynamic: bool = option(False, help="choose masks from every latent itself: the support leaks")
    nested: bool = option(False, help="one static mask per timestep bin, nested, instead of one for all steps")
    fill: bool = option(True, help="also encrypt what the last polynomial has room for, at no cost")
    most_clear: float = option(
        0.25, help="largest share of the entries that may ever be in the clear, counted over all steps", at_least=0, at_most=1
    )
    reveal_bits: int = option(12, help="bits that revealed entries are rounded to")
    max_batch: int = option(4, help="largest batch of one request", at_least=1, at_most=256)
    security: int = option(128, help="bits of security of the lattice parameters", known=lambda: LEVELS)

    def check(self) -> None:
        from hecompile.sparsity.cost_names import cost_names

        if self.cost not in cost_names():
            raise unknown_name("cost", self.cost, cost_names())
        if self.dynamic and (self.nested or self.cost == "jacobian"):
            raise CompileError("dynamic masks have no bins, and no model for their cost 'jacobian' at run time")


def compile_sampler(
    output: str | Path,
    shape: tuple[int, int, int],
    calibration: Iterable[Call] = (),
    options: SamplerOptions | None = None,
    *,
    cost: Cost | None = None,
) -> Manifest:
    """Write the artifact of a sampler's step for latents of `shape` (C, H, W).

    Args:
        calibration: calls of the UNet, whose latents choose static masks; not needed with `dynamic`.
        cost: a cost of the user's own, or `jacobian` of a model, in place of the named one; for static masks only.

    Raises:
        CompileError: for a folder that takes no artifact, before anything else; for reveals that are whole, at full precision or
            above the budget; lists every finding.
    """
    from hecompile.artifact_writing import judge_target
    from hecompile.backends.program_io import Document
    from hecompile.backends.sampler_step.choose import WEIGHT_BITS, choose_parameters
    from hecompile.backends.sampler_step.program import AffineBody

    target = Path(output).expanduser()
    judge_target(target)
    options = options or SamplerOptions()
    parameters, q, drops = choose_parameters(int(np.prod(shape)), options.security)
    masks = None if options.dynamic else _static_masks(shape, calibration, options, cost, parameters.dimension)
    clear = () if masks is None else tuple(int((~mask).sum()) for mask in masks.values)
    body = AffineBody(
        shape, options.max_batch, parameters, q, drops, WEIGHT_BITS, options.reveal_bits,
        clear, int(options.most_clear * int(np.prod(shape))), options.tau, options.cost, options.fill,
    )  # fmt: skip
    return _write(target, Document(REGION, "affine", INPUTS, (OUTPUT,), body), masks, options.security)


def _static_masks(
    shape: tuple[int, int, int], calibration: Iterable[Call], options: SamplerOptions, cost: Cost | None, dimension: int
) -> Masks:
    """One mask, or one per timestep bin."""
    from hecompile.backends.sampler_step.support import filled
    from hecompile.ir.timesteps import TIMESTEP_BINS, timestep_bin
    from hecompile.sparsity.importance import cost_function
    from hecompile.sparsity.selection import Masks, mean_share, nested_masks, select

    chosen = cost_function(cost or options.cost)
    found: dict[int, list[Floats]] = {}
    for call in calibration:
        for sample in call.inputs["sample"]:
            if sample.shape != shape:
                raise CompileError(f"a latent of the calibration has shape {sample.shape}, the sampler {shape}")
            found.setdefault(timestep_bin(call.t), []).append(chosen(np.asarray(sample, np.float64)))
    if not found:
        raise CompileError(
            Diagnostic(
                "static masks need a calibration", help="pass calls of the UNet, or choose dynamic masks, whose support leaks"
            )
        )
    if options.nested:
        mean: Floats = np.mean([mean_share(samples) for samples in found.values()], axis=0)  # what orders nested masks
        by_bin = nested_masks(found, options.tau)
        known = np.array(sorted(by_bin))
        values = np.stack([by_bin[int(known[np.abs(known - place).argmin()])] for place in range(TIMESTEP_BINS)])
    else:
        mean = mean_share([distortion for samples in found.values() for distortion in samples])
        values = select(mean, options.tau)[None]
    return Masks(np.stack([filled(mask, mean, dimension) for mask in values]) if options.fill else values)


def _config(body: AffineBody) -> Mapping[str, Any]:
    """What people and programs may want to know of the reveal."""
    from hecompile.policies import WATERMARK

    return {
        "watermark": WATERMARK if body.most_revealed else "",
        "tau": body.tau,
        "cost": body.cost,
        "support": "dynamic" if body.dynamic else "static",
        "clear_share": body.most_revealed / body.entries,  # of x and of e alike
        "reveal_bits": body.reveal_bits,
    }


def _write(target: Path, program: AffineProgram, masks: Masks | None, security: int) -> Manifest:
    """The artifact, all or nothing, checked as the compiler checks its own."""
    from hecompile.artifact import Input, Manifest
    from hecompile.artifact_files import FORMAT, MANIFEST
    from hecompile.artifact_writing import checksums, to_json, write_folder, write_half, write_server
    from hecompile.backends.registry import backend
    from hecompile.backends.sampler_step.program import reveals
    from hecompile.ir.halves import ClientHalf, ServerHalf
    from hecompile.ir.plan import Plan, Step, Value
    from hecompile.report.html import compile_report

    document = program.as_json()
    packed = {} if masks is None else {"masks": np.packbits(masks.values.reshape(len(masks.values), -1), axis=1)}
    client, server = ClientHalf(document, packed), ServerHalf(document, {})
    chosen = backend("affine")
    if reasons := chosen.check(client, server, security):
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
        digest = write_server(folder / "server", REGION, "affine", True, program.max_batch, {REGION: server})
        manifest = Manifest(
            FORMAT, REGION, "he-diffusion", "affine", True, security, program.max_batch, reveals(program), inputs, plan, digest, {},
            dict(_config(program.body)),
        )  # fmt: skip
        (folder / "report.html").write_text(compile_report(folder, manifest), encoding="utf-8")
        files = checksums(folder)
        (folder / MANIFEST).write_bytes(to_json(asdict(manifest) | {"files": files}))
        result.append(manifest)

    write_folder(target, fill)
    return result[0]
