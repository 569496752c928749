"""The encrypted sampler step of HE-Diffusion (Chen et al., arXiv 2403.05794) against all its baselines, in one run.

Latents 4x64x64, 50 PLMS steps, Stable Diffusion's schedule. Noise predictions come from a seeded synthetic predictor, not from a
UNet: the ideal one for pictures N(m, 0.25) around a smooth random m. Every step is timed whole: selection, encryption, evaluation,
decryption, merging. One ciphertext per scalar is timed on 256 scalars and scaled up.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from diffusers import PNDMScheduler
from scipy.ndimage import gaussian_filter

from benchmarks.baselines import he_diffusion as baselines
from benchmarks.harness import arguments, finish, machine, median_of
from hecompile.calibration.calls import Call
from hecompile.ir.linear import Array
from hecompile.runtime.scheduler import EncryptedScheduler, coefficients
from hecompile.sampler_artifact import SamplerOptions, compile_sampler
from hecompile.sparsity.importance import distortion_function
from hecompile.sparsity.selection import select

SHAPE = (4, 64, 64)
SCHEDULE = {
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000,
    "set_alpha_to_one": False, "steps_offset": 1, "skip_prk_steps": True,
}  # fmt: skip
TAUS = (0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 0.9)
VARIANCE = 0.25


class Predictor:
    """E[noise | x_t] for pictures N(m, 0.25): (x - sqrt(abar) m) sqrt(1 - abar) / (0.25 abar + 1 - abar)."""

    def __init__(self, seed: int) -> None:
        smooth = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), (0, 4, 4))
        self._mean = torch.from_numpy((smooth / smooth.std()).astype(np.float32))[None]

    def __call__(self, scheduler: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        abar = float(scheduler.alphas_cumprod[int(t)])
        return (x - abar**0.5 * self._mean) * ((1 - abar) ** 0.5 / (VARIANCE * abar + 1 - abar))


Seconds = list[tuple[float, float]]


def sample(scheduler: Any, predictor: Predictor, x: torch.Tensor, steps: int) -> tuple[torch.Tensor, Seconds, list[Call]]:
    """The final latents, wall and CPU seconds of every step without the predictor, and the calls of the UNet."""
    scheduler.set_timesteps(steps)
    seconds, calls = Seconds(), list[Call]()
    for t in scheduler.timesteps:
        calls.append(Call({"sample": x.numpy(), "timestep": np.asarray(float(t))}))
        noise = predictor(scheduler, x, t)
        started, used = time.perf_counter(), time.process_time()
        x = scheduler.step(noise, t, x, return_dict=False)[0]
        seconds.append((time.perf_counter() - started, time.process_time() - used))
    return x, seconds, calls


def psnr(result: torch.Tensor, reference: torch.Tensor) -> float:
    """In dB, the peak being the reference's range."""
    error = float((result.double() - reference.double()).square().mean())
    return float(10 * np.log10(float(reference.max() - reference.min()) ** 2 / error))


def ours(folder: Path, calls: list[Call], steps: int, runs: int, **options: Any) -> dict[str, Any]:
    """One setting of the encrypted scheduler: whole runs of `steps` steps."""
    artifact = folder / "sampler.he"
    compile_sampler(artifact, SHAPE, calls, SamplerOptions(most_clear=0.9999, max_batch=1, fill=False, **options))
    scheduler, predictor = EncryptedScheduler(PNDMScheduler(**SCHEDULE), artifact, most_clear=1.0), Predictor(0)
    masks = watch(scheduler)
    walls, cpus, quality = [], [], []
    for _ in range(runs):
        x = scheduler.initial_noise()
        reference = sample(PNDMScheduler(**SCHEDULE), predictor, x, steps)[0]
        masks.clear()
        result, seconds, _ = sample(scheduler, predictor, x, steps)
        wall, cpu = (statistics.median(column) for column in zip(*seconds, strict=True))
        walls.append(wall)
        cpus.append(cpu)
        quality.append(psnr(result, reference))
    meter = scheduler.meter
    return {
        "step_s": statistics.median(walls), "min_s": min(walls), "max_s": max(walls), "cpu_s": statistics.median(cpus), "n": runs,
        "encrypted_share": float(np.mean(masks)),
        "ever_clear_share": float((~np.stack(masks)).any(axis=0).mean()),
        "bytes_up": meter.bytes_up // meter.calls, "bytes_down": meter.bytes_down // meter.calls,
        "psnr_db": min(quality),
    }  # fmt: skip


def watch(scheduler: EncryptedScheduler) -> list[Array]:
    """A list that gets every step's mask."""
    masks: list[Array] = []
    support = scheduler._executor.bundle.calls["sampler"].support  # type: ignore[attr-defined]
    choose = support.choose

    def watched(x: Array, t: float) -> Array:
        masks.append(choose(x, t))
        return masks[-1]

    support.choose = watched
    return masks


def gaussian_shares(latents: int) -> dict[str, dict[str, float]]:
    """Share in the clear of Gaussian latents, as the paper reports it."""
    drawn = np.random.default_rng(0).standard_normal((latents, *SHAPE))
    return {
        name: {str(tau): float(np.mean([1 - select(distortion_function(name)(x), tau).mean() for x in drawn])) for tau in TAUS}
        for name in ("magnitude", "hill")
    }


def measure(folder: Path, smoke: bool, runs: int) -> dict[str, Any]:
    """All figures."""
    steps, scalars = (6, 8) if smoke else (50, 256)
    x, e = np.random.default_rng(1).standard_normal((2, *SHAPE))
    f, g = coefficients(0.5, 0.55)
    calls = sample(PNDMScheduler(**SCHEDULE), Predictor(0), torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(2)), 10)[
        2
    ]
    context, light = baselines.context(), baselines.context(4096, (40, 26, 40))
    per_scalar = median_of(1 if smoke else 3, lambda: baselines.per_scalar(context, x, e, f, g, scalars), warm_up=0)
    timed = {
        "packed_dense": median_of(runs, lambda: baselines.packed_dense(context, x, e, f, g)),
        "packed_dense_tuned": median_of(runs, lambda: baselines.packed_dense(light, x, e, f, g)),
        "packed_dense_both_tuned": median_of(runs, lambda: baselines.packed_dense_both(light, x, e, f, g)),
        "paper": median_of(runs, lambda: baselines.paper(context, x, e, f, g, 0.01)),
        "paper_vectorised_merge": median_of(runs, lambda: baselines.paper(context, x, e, f, g, 0.01, by_index=False)),
        "plaintext": median_of(runs, lambda: f * x + g * e),
    }
    at = ours(folder, calls, steps, runs, tau=0.01, dynamic=True)
    static = ours(folder, calls, steps, runs, tau=0.01)
    dense = ours(folder, calls, steps, runs, tau=0.0)
    per_scalar_s = per_scalar["median_s"] * x.size / scalars
    taus = TAUS[1:4:2] if smoke else TAUS
    sweep = [
        {"tau": tau, "support": "dynamic" if dynamic else "static", **ours(folder, calls, steps, 1, tau=tau, dynamic=dynamic)}
        for tau in taus
        for dynamic in (True, False)
    ]
    figures = {f"{name}_s": timing["median_s"] for name, timing in timed.items()}
    return {
        "shape": list(SHAPE), "steps": steps, "sampler": "PLMS", "tau": 0.01, "epsilons": "seeded synthetic predictor, no UNet",
        "per_scalar_s": per_scalar_s, "per_scalar_scaled_from": scalars, **figures,
        "ours_s": at["step_s"], "ours_static_s": static["step_s"], "ours_dense_s": dense["step_s"],
        "encrypted_share": at["encrypted_share"], "psnr_db": at["psnr_db"],
        "ever_clear_share": at["ever_clear_share"], "bytes_up": at["bytes_up"], "bytes_down": at["bytes_down"],
        "paper_bytes_up": baselines.paper_bytes(context, x, 0.01),
        "times_faster_than_per_scalar": per_scalar_s / at["step_s"],
        "times_faster_than_packed_dense": figures["packed_dense_s"] / at["step_s"],
        "times_faster_than_paper": figures["paper_s"] / at["step_s"],
        "ours": at, "ours_static": static, "ours_dense": dense, "baseline_runs": {"per_scalar": per_scalar, **timed},
        "sweep": sweep, "gaussian_clear_share": gaussian_shares(1 if smoke else 8), "security_bits": 128,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    logging.disable(logging.WARNING)  # the watermark of every artifact
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.smoke, 1 if options.smoke else options.runs)
    finish({"benchmark": "he_diffusion", "smoke": options.smoke, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
