"""docs/neighbours.md: works that stand beside private diffusion, and the example of each or why there is none.

HECOMPILE_UPDATE_GOLDEN=1 writes the document anew as its test runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENT", "EXAMPLES", "NEIGHBOURS", "Neighbour", "page"]

ROOT = Path(__file__).parents[1]
DOCUMENT, EXAMPLES = ROOT / "docs" / "neighbours.md", ROOT / "examples" / "neighbours"


@dataclass(frozen=True)
class Neighbour:
    """A work: what runs where in its example and what its test checks, or (without an example) why nothing is built."""

    work: str
    example: str | None
    where: str
    check: str


NEIGHBOURS = (
    Neighbour(
        "Differentially private adaptation (Peetathawatchai et al. 2024; textual inversion)",
        "private_embedding",
        "client: training, clipping, noise, the embedding; server: the UNet, compiled before, on ciphertexts",
        "no picture's part is longer than the clip; the exact delta at the stated epsilon; most digits that are drawn are the "
        "private one, and hardly any before",
    ),
    Neighbour(
        "Differentially private fine-tuning (Tsai et al. 2024; LoRA, DP-SGD with Opacus)",
        "private_lora",
        "whoever compiles: training, accounting, merging; server: merged weights on ciphertexts",
        "one picture moves the sum of gradients by at most the clip; epsilon is the accountant's; the held-out loss falls",
    ),
    Neighbour(
        "Edge-preserving noise (Vandersanden et al. 2024)",
        "edge_preserving_noise",
        "client: a scheduler that looks at the picture's slopes; server: the UNet",
        "a step undoes the scheduler's own noise exactly; pixels on edges are nearer to the picture than with DDIM",
    ),
    Neighbour(
        "Hierarchical steganography (Xu et al. 2024; first tier)",
        "hidden_picture",
        "client: both keys, picture, container, the equations of inversion; server: the UNet, in both directions",
        "the private key recovers the picture, a wrong one does not; the container is another picture",
    ),
    Neighbour(
        "TernaryVote (Jin et al. 2024) and sparsified federated learning (Hu et al. 2022)",
        "sparse_weights",
        "workers: votes, in the clear; server: multiply-adds of the weights that are left",
        "ternary weights and single zeros save no multiply-add; whole taps and channels save theirs, channels also bytes",
    ),
    Neighbour(
        "Adv-Diffusion (Liu et al. 2024)",
        "adv_diffusion",
        "client: mask, blending, recogniser, gradient, between two steps; server: the UNet",
        "nothing changes outside the mask; the recogniser is deceived",
    ),
    Neighbour(
        "Unlearnable examples (Zhao et al. 2023, for diffusion models)",
        None,
        "whoever publishes pictures changes them before somebody trains on them",
        "nothing is built: it acts on training data, a model trained on them has the same layers and is called in the same way, "
        "so that compiling and sampling have nothing to add",
    ),
    Neighbour(
        "DiffLL (Jiang et al. 2023)",
        "diffll",
        "client: Haar wavelets, the other bands, steps; server: the denoiser of the average, given the dark one",
        "the wavelets invert exactly; dark photos come at least 6 dB nearer to the bright ones",
    ),
    Neighbour(
        "SafeDiffuser (Xiao et al. 2023)",
        "safe_diffuser",
        "client: obstacle, projection, paths; server: convolutions over time of a U-Net",
        "no point of a path is in the obstacle, without the projection some are; points that are safe anyway do not move",
    ),
    Neighbour(
        "CamoDiffusion (Chen et al. 2024)",
        "camo_diffusion",
        "client: photo, mask, LayerNorm, GELU, products of attention; server: convolutions, reduced keys and values, projections",
        "masks overlap with the true ones by at least 0.6; all of its linear layers run encrypted, the strided one of the keys too",
    ),
)


def page() -> str:
    """The document."""
    return _HEAD + "".join(map(_row, NEIGHBOURS))


def _row(neighbour: Neighbour) -> str:
    if neighbour.example is None:
        return f"| {neighbour.work} | none | {neighbour.where} | {neighbour.check} |\n"
    name = f"examples/neighbours/{neighbour.example}.py"
    return f"| {neighbour.work} | [`{neighbour.example}`](../{name}) | {neighbour.where} | {neighbour.check} |\n"


_HEAD = """\
# Neighbours

HE-Diffusion names works that protect, or change, diffusion models in other ways. Each can be combined with an encrypted model, as
they act on weights before compiling, or on what the client does between two calls. Every example is one file of at most sixty
lines, beside `comparison.py` and `denoising.py`, which they share. It trains what it needs in seconds, compiles it for `bfv` and
runs both halves in one process:

```bash
python examples/neighbours safe_diffuser    # prints the figures that its test checks
```

The last column is what `tests/end_to_end/test_neighbours.py` checks, beside the encrypted result, which is compared with that of
the float32 network. The networks and pictures are tiny: the examples show what runs where, not how well a technique works at
full size. This page is made by `tests/neighbours_table.py`.

| work | example | what runs where | what is tested, or why nothing is built |
|---|---|---|---|
"""
