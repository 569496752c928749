"""Training a denoiser in seconds and sampling from it in a few steps of DDIM: what some examples of this folder share."""

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler

SCHEDULER = DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False)
Project = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def clock(timestep: torch.Tensor) -> torch.Tensor:
    """Eight waves of the timestep: (1, 8)."""
    return torch.sin(timestep / 1000 * torch.arange(1, 9))[None]


def trained(network: torch.nn.Module, steps: int, examples: Callable[[], tuple[torch.Tensor, ...]]) -> torch.nn.Module:
    """The network, trained to tell the first of the examples from a noisy one, a timestep and the others."""
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        (clean, *others), t = examples(), torch.randint(1000, (1,))
        optimizer.zero_grad()
        noisy = SCHEDULER.add_noise(clean, torch.randn_like(clean), t)
        (network(noisy, t[0].float(), *others) - clean).square().mean().backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def sample(network: torch.nn.Module, start: torch.Tensor, *others: torch.Tensor, project: Project | None = None) -> torch.Tensor:
    """Ten steps from noise. `project` may change where a step ends, by where it starts and ends."""
    SCHEDULER.set_timesteps(10)
    for t in SCHEDULER.timesteps:
        end = SCHEDULER.step(network(start, t.float(), *others), t, start).prev_sample
        start = project(start, end) if project else end
    return start
