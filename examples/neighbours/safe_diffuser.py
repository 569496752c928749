"""SafeDiffuser: each step of a diffusion planner is projected onto what a barrier function allows, so that paths avoid an obstacle.

After W. Xiao, T.-H. Wang, C. Gan, D. Rus, "SafeDiffuser: Safe Planning with Diffusion Probabilistic Models", 2023 (arXiv
2306.00148), with a temporal U-Net as in Janner et al., "Planning with Diffusion for Flexible Behavior Synthesis", 2022. Obstacle,
projection and paths are the client's; the server convolves ciphertexts over time.
"""

from tempfile import TemporaryDirectory

import torch
from comparison import compared
from denoising import clock, sample, trained
from torch.nn import Conv1d, ConvTranspose1d, GroupNorm, Linear
from torch.nn.functional import mish

import hecompile

RADIUS = 0.4  # of the obstacle, a disc around the origin


class TemporalUNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.time, self.last = Conv1d(2, 16, 5, padding=2), Linear(8, 16), Conv1d(32, 2, 5, padding=2)
        self.down, self.middle, self.up = Conv1d(16, 32, 3, 2, 1), Conv1d(32, 32, 5, padding=2), ConvTranspose1d(32, 16, 4, 2, 1)
        self.norm = GroupNorm(4, 32)

    def forward(self, path: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        fine = mish(self.first(path) + self.time(clock(timestep))[:, :, None])  # (B, 16, 16)
        coarse = mish(self.norm(self.middle(mish(self.down(fine)))))  # (B, 32, 8)
        return self.last(torch.cat([mish(self.up(coarse)), fine], dim=1))


def bent_lines() -> tuple[torch.Tensor]:
    """Paths (64, 2, 16) from left to right, bent up or down, many of them through the obstacle."""
    along = torch.linspace(-1, 1, 16)
    return (torch.stack([along.expand(64, -1), 0.3 * torch.randn(64, 1) * (1 - along**2)], dim=1),)


def safe(now: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
    """The step nearest to now -> then with slope * step + h >= 0 at each point; h(result) >= 0 then."""
    slope, h = 2 * now, now.square().sum(1, keepdim=True) - RADIUS**2  # of the barrier h = |point|^2 - RADIUS^2
    missing = (-(slope * (then - now)).sum(1, keepdim=True) - h).clamp(min=0)
    return then + missing * slope / slope.square().sum(1, keepdim=True)


def main() -> dict[str, float]:
    """Eight paths from left to right, planned encrypted with and without the projection, by a network trained on bent lines."""
    torch.manual_seed(0)
    inputs = {"path": torch.randn(2, 2, 16), "timestep": torch.tensor(1.0)}
    network, noise = trained(TemporalUNet(), 200, bent_lines), torch.randn(8, 2, 16)
    with TemporaryDirectory() as folder:
        hecompile.compile(network, folder, example_inputs=inputs)
        unet = hecompile.load(folder)
        path, free = sample(unet, noise, project=safe), sample(unet, noise)
    clearances = {"clearance": path.norm(dim=1).min(), "without": free.norm(dim=1).min(), "end": path[:, 0, -1].mean()}
    figures = {name: float(value) for name, value in clearances.items()}
    return compared(unet, path, sample(network, noise, project=safe)) | figures
