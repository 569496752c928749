"""Ternary and sparse weights of federated learning: they save an encrypted server nothing, unless whole taps or channels are zero.

R. Jin, Y. Gu, K. Yue, X. He, Z. Zhang, H. Dai, "TernaryVote: Differentially Private, Communication Efficient, and Byzantine
Resilient Distributed Optimization on Heterogeneous Data", 2024 (arXiv 2402.10816); R. Hu, Y. Guo, Y. Gong, "Federated Learning with
Sparsified Model Perturbation", 2022 (arXiv 2202.07178). Workers vote in the clear, before anything is compiled.
"""

from tempfile import TemporaryDirectory

import torch
from comparison import compared

import hecompile
from hecompile.ir.layer_groups import layer_groups, multiplied
from hecompile.predict import partitioned

WORKERS, BOUND, CLIP = 15, 1.5, 1.0  # each vote is log((BOUND + CLIP) / (BOUND - CLIP)) private, for each weight by itself


def votes(gradient: torch.Tensor, flipped: int = 0) -> torch.Tensor:
    """The majority of ternary votes of workers with one gradient, `flipped` of whom vote against it: -1, 0 or 1 for each entry."""
    scaled = (gradient / gradient.std()).clamp(-CLIP, CLIP).expand(WORKERS, *gradient.shape)
    up, any_vote = (BOUND + scaled) / (2 * BOUND), torch.rand(scaled.shape) < 0.9  # a vote of zero tells nothing
    ternary = torch.where(any_vote, torch.where(torch.rand(scaled.shape) < up, 1.0, -1.0), 0.0)
    signs = torch.ones(WORKERS).index_fill(0, torch.arange(flipped), -1.0)
    return torch.einsum("w,w...->...", signs, ternary).sign()


def kept(weights: torch.Tensor, dims: tuple[int, ...], share: float) -> torch.Tensor:
    """Weights (O, C, h, w) of which only the largest share is left: of entries, or of groups that go over `dims`."""
    size = weights.square().sum(dims, keepdim=True) if dims else weights.abs()
    return weights * (size >= size.flatten().sort(descending=True)[0][max(int(share * size.numel()), 1) - 1])


def main() -> dict[str, float]:
    """For each kind of weights: multiply-adds per pixel that are left, of 9,216, and bytes of the request and its reply."""
    torch.manual_seed(0)
    dense, picture = torch.randn(32, 32, 3, 3), torch.randn(2, 32, 8, 8)
    kinds = {"dense": dense, "ternary": votes(dense), "entries": kept(dense, (), 0.1)}
    kinds |= {"taps": kept(dense, (0, 1), 0.12), "channels": kept(dense, (0, 2, 3), 0.1)}
    figures = {f"right_votes_{liars}": float((votes(dense, liars) == dense.sign()).float().mean()) for liars in (0, 3)}
    for name, weights in kinds.items():
        layer = torch.nn.Conv2d(32, 32, 3, padding=1)
        layer.weight.data = weights
        with TemporaryDirectory() as folder, torch.no_grad():
            hecompile.compile(layer, folder, example_inputs={"input": picture})
            unet = hecompile.load(folder)
            result = compared(unet, unet(picture), layer(picture))
        (group,) = layer_groups(partitioned(layer, {"input": picture}))
        figures |= {f"{name}_macs": multiplied(group.geometry, group.split), f"{name}_bytes": result["bytes"]}
        figures["relative_error"] = max(figures.get("relative_error", 0.0), result["relative_error"])
    return figures | {"zeros": float((kinds["entries"] == 0).float().mean()), "calls": 1, "rounds": result["rounds"]}
