"""Distortions, which say how important entries are: D_i = |x_i| rho_i (Chen et al., arXiv 2403.05794, section 4.1).

A distortion maps one sample x (C, H, W) to D >= 0 of the same shape: what losing each entry costs. Means and filters reflect at the
border without repeating it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hecompile.errors import CompileError, Diagnostic, unknown_name
from hecompile.sparsity.distortion_names import OF_MODEL, OF_SAMPLE, distortion_names

if TYPE_CHECKING:
    import torch

__all__ = ["Distortion", "distortion_function", "hill", "hill_summed", "jacobian", "magnitude", "variance"]

Floats = npt.NDArray[np.float64]
Distortion = Callable[[Floats], Floats]

HILL = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], np.float64)  # the high-pass filter H of Ker and Boehme
FLAT = 1e-10  # the least texture, so that rho is finite where a picture is flat


def _mean(x: Floats, size: int) -> Floats:
    """Return the mean over windows of size x size, in each channel."""
    from scipy.ndimage import uniform_filter

    # the filter is a running sum, whose rounding may fall below zero where values differ by many orders of magnitude
    result: Floats = np.maximum(uniform_filter(x, (0, size, size), mode="mirror"), 0.0)
    return result


def _rho(texture: Floats) -> Floats:
    """rho = L2 * (1 / texture), with L2 a 15x15 mean: small where there is much texture around."""
    return _mean(1.0 / np.maximum(texture, FLAT), 15)


def _texture(x: Floats) -> Floats:
    """Return the texture L1 * |H * x|, with L1 a 3x3 mean and H the high-pass filter."""
    from scipy.ndimage import convolve

    return _mean(np.abs(convolve(x, HILL[None], mode="mirror")), 3)


def hill(x: Floats) -> Floats:
    """D = |x| L2 * (1 / (L1 * |H * x|)) in each channel, with L1 a 3x3 mean and L2 a 15x15 mean (Li et al., 2014)."""
    return np.abs(x) * _rho(_texture(x))


def hill_summed(x: Floats) -> Floats:
    """`hill` with one rho for all channels, from the sum of their residuals H * x, as the paper's own code has it."""
    return np.abs(x) * _rho(_texture(x.sum(axis=0, keepdims=True)))


def magnitude(x: Floats) -> Floats:
    """D = |x|, that is rho = 1."""
    return np.abs(x)


def variance(x: Floats) -> Floats:
    """D = |x| L2 * (1 / v), with v the variance of the 3x3 window around the entry."""
    centred = x - x.mean(axis=(1, 2), keepdims=True)  # otherwise v is a difference of large numbers
    return np.abs(x) * _rho(_mean(centred**2, 3) - _mean_signed(centred) ** 2)


def _mean_signed(x: Floats) -> Floats:
    from scipy.ndimage import uniform_filter

    result: Floats = uniform_filter(x, (0, 3, 3), mode="mirror")
    return result


def jacobian(model: Callable[[torch.Tensor], torch.Tensor], probes: int = 32, seed: int = 0) -> Distortion:
    """D_i = |x_i| ||J e_i||, with J the Jacobian of `model` at x: to first order, how the output changes if entry i is lost.

    The norms are estimated by Hutchinson's method: for v of independent random signs, E[(J^T v)_i^2] = sum_k J_ki^2 = ||J e_i||^2.
    The mean over `probes` backward passes has a relative standard error below sqrt(2 / probes). `model` maps (1, C, H, W) to a
    tensor of any shape, such as the decoder, or the UNet at a fixed timestep.
    """

    def distortion(x: Floats) -> Floats:
        import torch

        generator = torch.Generator().manual_seed(seed)
        point = torch.from_numpy(x[None]).float().requires_grad_()
        output = model(point)
        total = torch.zeros_like(point, dtype=torch.float64)
        for _ in range(probes):
            signs = torch.randint(0, 2, output.shape, generator=generator).to(output.dtype) * 2 - 1
            total += torch.autograd.grad(output, point, signs, retain_graph=True)[0].double().square()
        columns: Floats = (total[0] / probes).sqrt().numpy()
        return np.abs(x) * columns

    return distortion


_DISTORTIONS: dict[str, Distortion] = dict(zip(OF_SAMPLE, (hill, hill_summed, magnitude, variance), strict=True))
_OF_MODEL = dict(zip(OF_MODEL, (jacobian,), strict=True))


def distortion_function(choice: str | Distortion, model: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Distortion:
    """Return the distortion with this name, or the user's own function, with a check of its results.

    Raises:
        CompileError: for an unknown name, or for `jacobian` without a model. The returned function raises it if a result has
            another shape than the sample, or is negative or not finite.
    """
    if isinstance(choice, str) and choice in _DISTORTIONS:
        return _checked(choice, _DISTORTIONS[choice])
    if isinstance(choice, str) and choice in _OF_MODEL:
        if model is None:
            raise CompileError(Diagnostic(f"cost '{choice}' needs a model", help="pass the decoder, or the UNet at a timestep"))
        return _checked(choice, _OF_MODEL[choice](model))
    if isinstance(choice, str):
        raise unknown_name("cost", choice, distortion_names())
    return _checked(getattr(choice, "__name__", "of your own"), choice)


def _checked(name: str, cost: Distortion) -> Distortion:
    def checked(x: Floats) -> Floats:
        if x.ndim != 3:
            raise CompileError(f"cost '{name}' takes one sample (C, H, W), not an array of shape {x.shape}")
        result = np.asarray(cost(np.asarray(x, np.float64)), np.float64)
        if result.shape != x.shape:
            raise CompileError(f"cost '{name}' has shape {result.shape} for a sample of shape {x.shape}")
        if not np.isfinite(result).all() or (result < 0).any():
            raise CompileError(f"cost '{name}' is negative or not finite somewhere")
        return result

    return checked
