"""CamoDiffusion: diffusion of a mask finds an object of the same colours as its surroundings, by attention with reduced keys.

After Z. Chen, K. Sun, X. Lin, R. Ji, "CamoDiffusion: Camouflaged Object Detection via Conditional Diffusion Models", AAAI 2024
(arXiv 2305.17932), with one block of its pyramid transformer. Photo, mask and steps are the client's, as are LayerNorm, GELU and
the products of attention; the server runs convolutions and projections on ciphertexts.
"""

from tempfile import TemporaryDirectory

import torch
from comparison import compared
from denoising import clock, sample, trained
from torch.nn import Conv2d, LayerNorm, Linear
from torch.nn.functional import gelu, interpolate, pixel_shuffle, scaled_dot_product_attention

import hecompile


class Segmenter(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.texture, self.patches, self.time = Conv2d(4, 32, 3, padding=1), Conv2d(32, 32, 4, 2, 1), Linear(8, 32)
        self.reduce, self.query, self.pair = Conv2d(32, 32, 2, 2), Linear(32, 32), Linear(32, 64)
        self.wide, self.near, self.narrow = Linear(32, 64), Conv2d(64, 64, 3, padding=1, groups=64), Linear(64, 32)
        self.norms, self.head = torch.nn.ModuleList(LayerNorm(32) for _ in range(3)), Conv2d(32, 4, 3, padding=1)

    def forward(self, mask: torch.Tensor, timestep: torch.Tensor, photo: torch.Tensor) -> torch.Tensor:
        grid = self.patches(gelu(self.texture(torch.cat([mask, photo], dim=1))))  # (B, 32, 8, 8)
        tokens = grid.flatten(2).transpose(1, 2) + self.time(clock(timestep))  # (B, 64, 32)
        normed = self.norms[0](tokens)
        reduced = self.reduce(normed.transpose(1, 2).unflatten(2, (8, 8))).flatten(2).transpose(1, 2)  # (B, 16, 32)
        tokens = tokens + scaled_dot_product_attention(self.query(normed), *self.pair(self.norms[1](reduced)).chunk(2, -1))
        wide = self.wide(self.norms[2](tokens)).transpose(1, 2).unflatten(2, (8, 8))
        tokens = tokens + self.narrow(gelu(self.near(wide)).flatten(2).transpose(1, 2))
        return pixel_shuffle(self.head(tokens.transpose(1, 2).unflatten(2, (8, 8))), 2)  # (B, 1, 16, 16)


def scenes(count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (B, 1, 16, 16) of a disc, 1 within and -1 without, and photos (B, 3, 16, 16) of noise, coarser within."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    disc = (rows - torch.rand(count, 1, 1, 1) + 0.5) ** 2 + (columns - torch.rand(count, 1, 1, 1) + 0.5) ** 2 < 0.2
    noise, coarse = torch.randn(count, 3, 16, 16), interpolate(torch.randn(count, 3, 8, 8), scale_factor=2.0)
    return 2.0 * disc - 1, torch.where(disc, coarse, noise)


def main() -> dict[str, float]:
    """Eight masks found encrypted, by a network trained here: intersection over union with the true ones."""
    torch.manual_seed(0)
    network, (mask, photo), noise = trained(Segmenter(), 400, scenes), scenes(8), torch.randn(8, 1, 16, 16)
    with TemporaryDirectory() as folder:
        inputs = {"mask": mask[:2], "timestep": torch.tensor(1.0), "photo": photo[:2]}
        hecompile.compile(network, folder, example_inputs=inputs)
        unet = hecompile.load(folder)
        drawn = sample(unet, noise, photo)
    overlap = ((drawn > 0) & (mask > 0)).sum() / ((drawn > 0) | (mask > 0)).sum()
    return compared(unet, drawn, sample(network, noise, photo)) | {"overlap": float(overlap)}
