"""DiffLL: a dark photo is enhanced by diffusion of the average of its Haar wavelets, half as many rows and columns.

After H. Jiang, A. Luo, H. Fan, S. Han, S. Liu, "Low-Light Image Enhancement with Wavelet-based Diffusion Models", 2023 (arXiv
2306.00306); a gain stands for its network of other bands. Wavelets, gain and steps are the client's; both averages are encrypted.
"""

from tempfile import TemporaryDirectory

import torch
from comparison import compared
from denoising import clock, sample, trained
from torch.nn import Conv2d, Linear
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

import hecompile

HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2  # average, and details of three directions


def wavelets(picture: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> four bands (4, B, 3, H / 2, W / 2), the average first."""
    return torch.einsum("ij,bcjhw->ibchw", HAAR, pixel_unshuffle(picture, 2).unflatten(1, (3, 4)))


def pictured(bands: torch.Tensor) -> torch.Tensor:
    """The inverse."""
    return pixel_shuffle(torch.einsum("ji,jbchw->bcihw", HAAR, bands).flatten(1, 2), 2)


class Denoiser(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.time, self.last = Conv2d(6, 16, 3, padding=1), Linear(8, 16), Conv2d(16, 3, 3, padding=1)
        self.middle = Conv2d(16, 16, 3, padding=1)

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, dark: torch.Tensor) -> torch.Tensor:
        hidden = silu(self.first(torch.cat([noisy, dark], dim=1)) + self.time(clock(timestep))[:, :, None, None])
        return self.last(silu(hidden + self.middle(hidden)))


def photos(count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Coloured squares on a coloured ground, (B, 3, 16, 16) in [0, 1], and the same in the dark, with a camera's noise."""
    ground, square = torch.rand(2, count, 3, 1, 1) * 0.6 + 0.2
    near = (torch.arange(16) - torch.randint(4, 12, (2, count, 1))).abs() < 4
    bright = torch.where((near[0, :, :, None] & near[1, :, None])[:, None], square, ground)
    return bright, 0.15 * bright**1.5 + 0.002 * torch.randn(bright.shape)


def main() -> dict[str, float]:
    """Eight dark photos enhanced encrypted, by a network trained here: how far from the bright ones before and after, in dB."""
    torch.manual_seed(0)
    network, (bright, dark) = trained(Denoiser(), 300, lambda: tuple(wavelets(photo)[0] - 1 for photo in photos())), photos(8)
    bands, noise = wavelets(dark), torch.randn(8, 3, 8, 8)
    with TemporaryDirectory() as folder:
        hecompile.compile(network, folder, example_inputs={"noisy": noise[:2], "timestep": torch.tensor(1.0), "dark": noise[:2]})
        unet = hecompile.load(folder)
        average = sample(unet, noise, bands[0] - 1)
    enhanced = pictured(torch.cat([average[None] + 1, bands[1:] * (average + 1) / bands[0].clamp(min=0.02)]))
    after, before = (float(-10 * torch.log10((photo - bright).square().mean())) for photo in (enhanced, dark))
    return compared(unet, average, sample(network, noise, bands[0] - 1)) | {"enhanced_db": after, "dark_db": before}
