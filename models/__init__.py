"""The model zoo: small trained networks, and shapes of published models without weights, by name. Each is one line of `_ZOO`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hecompile.errors import unknown_name
from hecompile.models.published import SHAPES

if TYPE_CHECKING:
    import torch

__all__ = ["load_model", "schedule_of", "tokens_of", "zoo"]


def _digits() -> torch.nn.Module:
    from hecompile.models import digits

    model: torch.nn.Module = digits.load()
    return model


def _digits_unconditional() -> torch.nn.Module:
    from hecompile.models import digits

    model: torch.nn.Module = digits.load_unconditional()
    return model


def _shapes() -> torch.nn.Module:
    from hecompile.models import shapes

    model: torch.nn.Module = shapes.load()
    return model


def _shape(name: str) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        from hecompile.models.published import build_shape

        return build_shape(name)

    return build


_ZOO: dict[str, tuple[str, Callable[[], torch.nn.Module]]] = {
    "digits": ("class-conditional UNet on 8x8 digits, trained", _digits),
    "digits-unconditional": ("unconditional UNet on 8x8 digits, trained", _digits_unconditional),
    "shapes": ("text-to-image UNet on drawn scenes of 32x32, trained", _shapes),
    **{name: (f"shape of {shape.model}, no weights: for plans", _shape(name)) for name, shape in SHAPES.items()},
}


def zoo() -> dict[str, str]:
    """Return what each model of the zoo is, by name."""
    return {name: text for name, (text, _) in _ZOO.items()}


def load_model(name: str) -> torch.nn.Module:
    """Return a model of the zoo in evaluation mode. For an unknown name, raises `CompileError` with the names that exist."""
    if name not in _ZOO:
        raise unknown_name("model", name, tuple(_ZOO))
    return _ZOO[name][1]()


def schedule_of(name: str) -> dict[str, object] | None:
    """Return the keyword arguments for a trained model's scheduler; None for a shape without weights."""
    from hecompile.models import digits, shapes

    if name == "shapes":
        return dict(shapes.SCHEDULER)
    return dict(digits.SCHEDULER) if name.startswith("digits") else None


def tokens_of(name: str) -> int | None:
    """Return how many tokens the prompts of a text-to-image model have; None for the usual number."""
    from hecompile.models import shapes

    return shapes.TOKENS if name == "shapes" else None
