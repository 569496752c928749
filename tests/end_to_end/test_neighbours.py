"""The examples of works that stand beside private diffusion: what each promises, and the encrypted result against the plain one."""

from __future__ import annotations

import importlib
import os
import sys
from math import erfc, exp, sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.neighbours_table import DOCUMENT, EXAMPLES, NEIGHBOURS, page

NAMES = [neighbour.example for neighbour in NEIGHBOURS if neighbour.example]
# figures of each example that must lie between two numbers
BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "private_embedding": {"recognised": (0.5, 1), "recognised_before": (0, 0.2), "epsilon": (0, 3)},
    "private_lora": {"epsilon": (0, 2.5)},
    "edge_preserving_noise": {},
    "hidden_picture": {"private_key_db": (30, 60), "wrong_key_db": (0, 20), "container_db": (0, 20)},
    "sparse_weights": {
        "dense_macs": (9216, 9216),
        "ternary_macs": (9216, 9216),
        "entries_macs": (9216, 9216),
        "zeros": (0.89, 0.91),
        "taps_macs": (1024, 1024),
        "channels_macs": (864, 864),
        "right_votes_0": (0.7, 1),
        "right_votes_3": (0.6, 1),
    },
    "adv_diffusion": {"changed_outside": (0, 1e-6), "right_before": (0.89, 1), "right": (0, 0.5), "as_wanted": (0.5, 1)},
    "diffll": {},
    "safe_diffuser": {"clearance": (0.3999, 2), "without": (0, 0.3), "end": (0.8, 1.2)},
    "camo_diffusion": {"overlap": (0.6, 1)},
}


def module(name: str) -> ModuleType:
    """An example, which finds the modules beside it as it does when it is run."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))


def figures(name: str) -> dict[str, float]:
    """What the example's `main` returns; it runs once for all tests."""
    from tests.artifacts import shared

    def run(folder: Path) -> dict[str, float]:
        result: dict[str, float] = module(name).main()
        return result

    return shared(f"{name} figures", run)


def error_bound(rounds: float) -> float:
    """Of the relative error of a network with so many layers in sequence.

    A layer's weights and its inputs are integers of at least 127 steps on either side, so each has an error of 1 / (127 sqrt(12))
    of its peak. Peaks are at most five times the root mean square, and errors of layers are independent. Sampling adds none: its
    steps average what the calls give, and a denoiser draws what is off towards what it was trained on.
    """
    return sqrt(2 * rounds) * 5 / (127 * sqrt(12))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_encrypted_result_is_that_of_the_float_network(name: str) -> None:
    result = figures(name)
    assert result["relative_error"] <= error_bound(result["rounds"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "figure"), [(name, figure) for name, bounds in BOUNDS.items() for figure in bounds])
def test_an_example_keeps_its_promise(name: str, figure: str) -> None:
    least, most = BOUNDS[name][figure]
    assert least <= figures(name)[figure] <= most


def private_network() -> Any:
    """The digits model as the example of the private embedding calls it, and the embedding from which it starts."""
    import torch

    from hecompile.models import digits

    network = digits.load().requires_grad_(False)
    start, network.class_embedding = network.class_embedding.weight.mean(0), torch.nn.Identity()
    return network, start


@pytest.mark.slow
def test_no_private_picture_moves_the_sum_by_more_than_the_clip() -> None:
    import torch

    example, (network, start) = module("private_embedding"), private_network()
    parts = example.learn(network, start, torch.stack([torch.full((1, 8, 8), value) for value in (-100.0, 0.0, 100.0)]))
    assert parts.norm(dim=1).max() <= example.CLIP * (1 + 1e-6)


def test_the_gaussian_mechanism_has_the_delta_that_is_stated() -> None:
    """By Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", 2018, theorem 8, which is exact."""
    example = module("private_embedding")
    below, above = ((sign / (2 * example.RATIO) - example.EPSILON * example.RATIO) / sqrt(2) for sign in (1, -1))
    assert 0 < erfc(-below) / 2 - exp(example.EPSILON) * erfc(-above) / 2 <= example.DELTA


@pytest.mark.slow
def test_one_private_picture_moves_the_gradient_by_at_most_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from opacus.optimizers import DPOptimizer
    from torch.utils.data import TensorDataset

    from hecompile.models import digits

    example, norms = module("private_lora"), list[float]()

    def record(optimizer: Any) -> None:
        sums = [weights.summed_grad for weights in optimizer.params]
        norms.append(float(torch.cat([value.flatten() for value in sums]).norm()))
        for weights in optimizer.params:
            weights.grad = weights.summed_grad.clone()

    monkeypatch.setattr(DPOptimizer, "add_noise", record)
    example.train(digits.load(), TensorDataset(torch.full((1, 1, 8, 8), 50.0), torch.tensor([3])))
    assert 0 < max(norms) <= example.CLIP * (1 + 1e-5)


@pytest.mark.slow
def test_the_epsilon_is_that_of_the_steps_that_were_taken() -> None:
    from opacus.accountants import RDPAccountant

    example, accountant = module("private_lora"), RDPAccountant()
    for _ in range(example.STEPS):
        accountant.step(noise_multiplier=example.NOISE, sample_rate=1 / 15)  # 100 of 1,500 pictures
    assert figures("private_lora")["epsilon"] == pytest.approx(accountant.get_epsilon(example.DELTA))


@pytest.mark.slow
def test_private_fine_tuning_lowers_the_loss() -> None:
    assert figures("private_lora")["loss"] < figures("private_lora")["loss_before"] / 2


def test_a_step_of_edge_preserving_noise_ends_at_the_noise_of_the_earlier_timestep() -> None:
    import torch

    from hecompile.models import digits

    scheduler = module("edge_preserving_noise").EdgePreservingScheduler(**digits.SCHEDULER)
    scheduler.set_timesteps(10)
    picture, noise = torch.rand(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    noisy = scheduler.add_noise(picture, noise, torch.tensor(400))
    ended = scheduler.step(scheduler.width(picture, 400) * noise, 400, noisy).prev_sample
    torch.testing.assert_close(ended, scheduler.add_noise(picture, noise, 300))


@pytest.mark.slow
def test_edges_are_nearer_to_the_picture_than_with_uniform_noise() -> None:
    result = figures("edge_preserving_noise")
    assert result["edges_off"] < 0.8 * result["of_ddim"]


@pytest.mark.slow
def test_only_whole_channels_of_zeros_save_bytes_of_uploads() -> None:
    result = figures("sparse_weights")
    assert result["channels_bytes"] < 0.6 * result["dense_bytes"]
    assert result["entries_bytes"] > 0.9 * result["dense_bytes"]
    assert result["ternary_bytes"] > 0.9 * result["dense_bytes"]


def test_haar_wavelets_invert() -> None:
    import torch

    example, picture = module("diffll"), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(example.pictured(example.wavelets(picture)), picture)


@pytest.mark.slow
def test_dark_photos_come_nearer_to_the_bright_ones() -> None:
    assert figures("diffll")["enhanced_db"] >= figures("diffll")["dark_db"] + 6


def test_the_projection_moves_no_point_that_the_barrier_allows() -> None:
    import torch

    example, now = module("safe_diffuser"), torch.randn(100, 2, 16, generator=torch.Generator().manual_seed(0))
    outwards = 1.5 * now
    outside = now.norm(dim=1) > example.RADIUS
    moved = (example.safe(now, outwards) != outwards).any(dim=1)
    assert not (moved & outside).any()


def test_the_projection_leaves_every_point_outside_the_obstacle() -> None:
    import torch

    example, generator = module("safe_diffuser"), torch.Generator().manual_seed(0)
    now, then = torch.randn(2, 1000, 2, 16, generator=generator)
    assert example.safe(now, then).norm(dim=1).min() >= example.RADIUS * (1 - 1e-4)


@pytest.mark.fhe
def test_all_linear_layers_of_the_segmenter_run_encrypted() -> None:
    import torch

    from hecompile.ir.layers import secret_layers
    from hecompile.predict import partitioned

    network = module("camo_diffusion").Segmenter().eval()
    inputs = {"mask": torch.randn(2, 1, 16, 16), "timestep": torch.tensor(1.0), "photo": torch.randn(2, 3, 16, 16)}
    paths = {layer.linear_op.parts[0].path for layer in secret_layers(partitioned(network, inputs))}
    assert {"texture", "patches", "reduce", "query", "pair", "wide", "near", "narrow", "head"} <= paths


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_has_at_most_sixty_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_the_document_is_the_table() -> None:
    if os.environ.get("HECOMPILE_UPDATE_GOLDEN"):
        DOCUMENT.write_text(page(), encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == page()


def test_every_neighbour_of_the_paper_is_in_the_table() -> None:
    words = (
        "Differentially private adaptation", "Differentially private fine-tuning", "Edge-preserving noise", "steganography",
        "TernaryVote", "Adv-Diffusion", "Unlearnable examples", "DiffLL", "SafeDiffuser", "CamoDiffusion",
    )  # fmt: skip
    assert [word for word in words if not any(word in neighbour.work for neighbour in NEIGHBOURS)] == []


def test_every_example_is_in_the_table() -> None:
    files = {path.stem for path in EXAMPLES.glob("*.py")} - {"__main__", "comparison", "denoising"}
    assert files == set(NAMES)
