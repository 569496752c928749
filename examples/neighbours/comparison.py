"""Figures that every example of this folder returns: the error of an encrypted result, and what its calls took."""

import torch

from hecompile.runtime.client import EncryptedUNet


def compared(unet: EncryptedUNet, drawn: torch.Tensor, plain: torch.Tensor) -> dict[str, float]:
    """The relative error in the 2-norm, the PSNR of a range of two, and of all calls so far: their number, requests and bytes."""
    error, meter = drawn - plain, unet.meter
    psnr_db = float(10 * torch.log10(4 / error.square().mean()))
    figures = {"relative_error": float(error.norm() / plain.norm()), "psnr_db": psnr_db, "calls": meter.calls}
    return figures | {"rounds": meter.requests / meter.calls, "bytes": meter.bytes_up + meter.bytes_down}
