"""Edge-preserving noise: a scheduler of diffusers whose noise is weaker where the picture has edges, so that they survive.

After J. Vandersanden, S. Holl, X. Huang, G. Singh, "Edge-preserving noise for diffusion models", 2024 (arXiv 2410.01540). Slopes of
the picture, noise and every step are the client's; the server denoises ciphertexts and cannot tell one noise from another.
"""

from tempfile import TemporaryDirectory

import torch
from comparison import compared
from diffusers import DDIMScheduler
from sklearn.datasets import load_digits

import hecompile
from hecompile.models import digits


def slopes(picture: torch.Tensor) -> torch.Tensor:
    return torch.stack(torch.gradient(picture, dim=(2, 3))).norm(dim=0)


class EdgePreservingScheduler(DDIMScheduler):
    """DDIM with noise of deviation sqrt(1 - abar_t) width, which is uniform from half of its thousand timesteps on."""

    def width(self, clean: torch.Tensor, timestep: torch.Tensor | int) -> torch.Tensor:
        """What the deviation of every pixel is multiplied by, in (0, 1]: (B, C, H, W)."""
        uniform = min(int(timestep) / 500, 1.0)
        return 1 / ((1 - uniform) * (1 + slopes(clean) / 0.02).sqrt() + uniform)

    def add_noise(self, original: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor | int) -> torch.Tensor:
        return super().add_noise(original, self.width(original, timestep) * noise, torch.as_tensor(timestep))

    def step(self, noise: torch.Tensor, timestep: int, sample: torch.Tensor, **options: object) -> object:
        """One step of DDIM, the noise that was predicted made wider or narrower as the estimate of the picture says."""
        result, earlier = super().step(noise, timestep, sample, **options), timestep - 1000 // self.num_inference_steps
        clean = result.pred_original_sample
        result.prev_sample = self.add_noise(clean, noise / self.width(clean, timestep), earlier) if earlier >= 0 else clean
        return result


@torch.no_grad()
def redraw(unet: torch.nn.Module, kind: type[DDIMScheduler], pictures: torch.Tensor) -> torch.Tensor:
    """Pictures of the digits 0 to 9 (10, 1, 8, 8) with noise of timestep 400, denoised again."""
    scheduler, noise = kind(**digits.SCHEDULER), torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(10)
    sample = scheduler.add_noise(pictures, noise, torch.tensor(400))
    for t in scheduler.timesteps[scheduler.timesteps <= 400]:
        sample = scheduler.step(unet(sample, t, class_labels=torch.arange(10)).sample, int(t), sample).prev_sample
    return sample


def main() -> dict[str, float]:
    """Ten digits redrawn encrypted with both schedulers, and how far pixels on edges are from the picture's."""
    pictures = torch.tensor(load_digits().images[:10]).float()[:, None] / 8 - 1
    with TemporaryDirectory() as folder:
        hecompile.compile("digits", folder)
        unet = hecompile.load(folder)
        drawn, ddim = redraw(unet, EdgePreservingScheduler, pictures), redraw(unet, DDIMScheduler, pictures)
    off, of_ddim = ((value - pictures)[slopes(pictures) > 0.5].square().mean().sqrt().item() for value in (drawn, ddim))
    return compared(unet, drawn, redraw(digits.load(), EdgePreservingScheduler, pictures)) | {"edges_off": off, "of_ddim": of_ddim}
