"""The parts of an example call: seeded tensors, the size of the sample and the length of the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hecompile.errors import CompileError, Diagnostic

__all__ = ["BATCH", "Arguments", "Call"]

Arguments = dict[str, object]  # arguments of `forward` by name

BATCH = 2  # batch of every example, by which the batch is told from other dimensions


class Call:
    """An example call of `module` while it is built.

    Size and tokens are those that the user gave, else those that the model's function names. `finish` refuses a size or tokens that
    the user gave but the model does not have.

    Args:
        size: height and width of the sample, or None for the configuration's.
        tokens: length of the prompt, or None for the model's usual length.
    """

    def __init__(self, module: torch.nn.Module, size: tuple[int, int] | None, tokens: int | None) -> None:
        self.module: Any = module
        self.name = type(module).__name__
        self.config: Any = getattr(
            module, "config", None
        )  # its attributes are read, since pipelines change these and not its items
        self._size, self._tokens = size, tokens
        self._generator = torch.Generator().manual_seed(0)
        self._has: set[str] = set()

    def random(self, *shape: int) -> torch.Tensor:
        """Return standard normal numbers of this shape, the same in every process."""
        return torch.randn(*shape, generator=self._generator)

    def labels(self, classes: int) -> torch.Tensor:
        """Return one of `classes` classes for each element of the batch, as integers (B,)."""
        return torch.arange(1, BATCH + 1) % classes

    def mask(self, tokens: int) -> torch.Tensor:
        """Return which tokens are words, as 1 and 0 (B, tokens) like a tokenizer: prompts of two lengths, then padding."""
        lengths = torch.tensor([max(1, tokens - tokens // 4), max(1, tokens // 2)])
        return (torch.arange(tokens)[None] < lengths[:, None]).long()

    def size(self, usual: object, multiple: int = 1) -> tuple[int, int]:
        """Return height and width of the sample; `usual` is one number for both, or a pair.

        Raises:
            CompileError: if a side is not positive or not a multiple of `multiple`, the model's patch.
        """
        self._has.add("size")
        pair = usual if self._size is None else self._size
        height, width = pair if isinstance(pair, list | tuple) else (pair, pair)
        for side in (height, width):
            if not isinstance(side, int) or side < 1 or side % multiple:
                raise CompileError(
                    Diagnostic(
                        f"{self.name} does not support samples of {height}x{width}",
                        help=f"give height and width (of the latent, where there is one) as multiples of {multiple}",
                    )
                )
        return height, width

    def tokens(self, usual: int) -> int:
        """Return the length of the prompt. Raises `CompileError` if the user gave less than one token."""
        self._has.add("tokens")
        count = usual if self._tokens is None else self._tokens
        if count < 1:
            raise CompileError(Diagnostic(f"{self.name} does not support prompts of {count} tokens", help="give one token or more"))
        return count

    def finish(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Return the arguments on the module's device, in the order of `forward`.

        Raises:
            CompileError: if a size or a number of tokens was given for a model that has none.
        """
        import inspect

        unread = [(what, name) for what, name in _WANTED.items() if getattr(self, f"_{name}") is not None and name not in self._has]
        if unread:
            raise CompileError([Diagnostic(f"{self.name} has no {what}", help=f"leave {name} out") for what, name in unread])
        order = [name for name in inspect.signature(self.module.forward).parameters if name in arguments]
        parameter = next(iter(self.module.parameters()), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        return {name: _placed(arguments[name], device) for name in order}


_WANTED = {"picture whose size could be chosen": "size", "prompt whose length could be chosen": "tokens"}


def _placed(value: object, device: torch.device) -> object:
    """Return the value with its tensors on the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(_placed(item, device) for item in value)
    if isinstance(value, Mapping):
        return {key: _placed(item, device) for key, item in value.items()}
    return value
