"""Small networks made at random: supported operations, odd names, orders, structures and types of arguments and results."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import nn

from tests.fuzz.layers import STEPS, Value

__all__ = ["Generated", "generate"]

ARGUMENTS = [
    "x", "input", "type", "sample", "X", "Sample", "x_01", "x_1", "conv2d", "add", "_hidden", "größe", "class_", "out_1", "n0",
    "sum", "self_cond", "timestep", "t", "sigma", "weight", "Conv_A", "format", "client_01", "a1b2", "T", "tensor", "aten",
    "output",
]  # fmt: skip
LAYERS = [
    "Conv_A",
    "conv_a",
    "weight",
    "input",
    "B",
    "out",
    "round",
    "layer_01",
    "layer_1",
    "größe",
    "sample",
    "_m",
    "lora_B",
    "add",
    "0",
]
CONSTANTS = [None, True, False, 2, 0.5, "mean"]
Pair = namedtuple("Pair", "first second")  # as people write it


@dataclass(frozen=True)
class Generated:
    """A module, example arguments by name with a batch of two, and how to make arguments of another batch."""

    module: nn.Module
    examples: Mapping[str, Any]
    arguments: Callable[[int], dict[str, Any]]


class Network(nn.Module):
    """Runs a chain of steps on its first tensor and adds what else it gets."""

    def __init__(self, random: Random, shapes: list[Value]) -> None:
        super().__init__()
        names = random.sample(LAYERS, len(LAYERS))
        self.calls: list[tuple[str | None, Any]] = []
        self.wide = nn.Linear(sum(shape.shape[0] for shape in shapes[1:]), shapes[0].shape[0]) if len(shapes) > 1 else None
        self.first = nn.Conv2d(shapes[0].shape[0], random.choice((2, 4)), 3, padding=1)
        x = torch.randn(2, *shapes[0].shape)
        with torch.no_grad():
            x = self.first(x)
            for _ in range(random.randint(1, 5)):
                form = {4: "picture", 3: "tokens", 2: "vector"}[x.dim()]
                made = random.choice(STEPS[form])(random, Value(form, tuple(x.shape[1:])))
                result = None if made is None else made.call(made.layer, x)
                if made is None or result is None or not 1 < result[0].numel() <= 1200:
                    continue
                name = None
                if made.layer is not None:
                    name = names.pop()
                    self.add_module(name, made.layer)
                self.calls.append((name, made.call))
                x = result

    def body(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        x, *others = tensors
        if self.wide is not None:
            flat = torch.cat([other.reshape(x.shape[0], -1)[:, : self._width(other)] for other in others], 1)
            x = x + self.wide(flat.to(x.dtype))[:, :, None, None]
        kept = x = self.first(x)
        for name, call in self.calls:
            x = call(self.get_submodule(name) if name else None, x)
        return [x, kept * 2, x.sum(-1)]

    def _width(self, other: torch.Tensor) -> int:
        return other.shape[1] if other.dim() > 1 else 1


def generate(random: Random) -> Generated:
    """A network and its arguments, the same for the same random numbers."""
    torch.manual_seed(random.randrange(1 << 30))
    count = random.choice((1, 1, 2, 3))
    shapes = [Value("picture", (random.choice((1, 2, 3)), random.randint(3, 7), random.randint(3, 7)))]
    shapes += [Value("vector", (random.choice((1, 3)),)) for _ in range(count - 1)]
    names = random.sample(ARGUMENTS, count)
    names.append(random.choice([name for name in ARGUMENTS if name not in (*names, "timestep")]))  # a number there is a tensor
    module = Network(random, shapes).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    structure = _structure(random, count)
    constant = random.choice(CONSTANTS)
    form = random.choice(("one", "tuple", "list", "dict", "pair", "nested"))
    _give_forward(type(module), module, structure, names, constant, form)
    dtype = random.choice((torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64))
    module.to(dtype)

    def arguments(batch: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(batch)
        tensors = [torch.randn(batch, *shape.shape, generator=generator).to(dtype) for shape in shapes]
        given = _placed(structure, names, tensors)
        if constant is not None or random.random() < 0.5:
            given[names[-1]] = constant
        return dict(random.sample(list(given.items()), len(given)))

    return Generated(module, arguments(2), arguments)


def _structure(random: Random, count: int) -> str:
    """How tensors beyond the first lie: each an argument of its own, or together in a list, a tuple or a dictionary."""
    return random.choice(("apart", "list", "tuple", "dict", "deep")) if count > 1 else "apart"


def _placed(structure: str, names: list[str], tensors: list[torch.Tensor]) -> dict[str, Any]:
    first, *others = tensors
    if structure == "apart":
        return dict(zip(names, tensors, strict=False))
    inner: Any = {
        "list": list(others),
        "tuple": tuple(others),
        "dict": {f"k{place}": item for place, item in enumerate(others)},
    }.get(structure, [{"deep": tuple(others)}, None])
    return {names[0]: first, names[1]: inner}


def _flat(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in _flat(item)]


def _returned(form: str, outputs: list[torch.Tensor]) -> Any:
    first, second, third = outputs
    return {
        "one": first, "tuple": (first, second), "list": [second, first, None], "dict": {"out": first, "B": third},
        "pair": Pair(first, second), "nested": ({"a": [third]}, first, True),
    }[form]  # fmt: skip


def _give_forward(kind: type, module: nn.Module, structure: str, names: list[str], constant: Any, form: str) -> None:
    """A `forward` with parameters of these names, in a class of its own."""
    used = names[:-1] if structure == "apart" else names[:2]
    parameters = ", ".join([*used, f"{names[-1]}=None"])
    text = f"def forward(self, {parameters}):\n    return self.finish([{', '.join(used)}], {names[-1]})\n"
    scope: dict[str, Any] = {}
    exec(text, scope)  # the only way to a function whose parameters have these names

    def finish(self: Any, values: list[Any], given: Any) -> Any:
        outputs = self.body(_flat(values))
        if isinstance(given, int | float) and not isinstance(given, bool):
            outputs[0] = outputs[0] * given
        return _returned(form, outputs)

    module.__class__ = type("Generated", (kind,), {"forward": scope["forward"], "finish": finish})
