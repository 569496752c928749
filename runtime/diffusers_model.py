"""Makes an encrypted model one of diffusers' models: its class, configuration, type and device, and what it refuses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import FrozenDict

from hecompile.errors import ProtocolError
from hecompile.runtime.refusals import REFUSED, absent
from hecompile.runtime.stand_ins import stand_ins

__all__ = ["DiffusersModel"]


class _Absent:
    """Hides an attribute of the base class that an encrypted model cannot have."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        raise AttributeError


class DiffusersModel(ModelMixin):  # type: ignore[misc]
    """A model without weights that the pipelines of diffusers accept as one of theirs."""

    _supports_group_offloading = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Store the configuration of the model that was compiled.

        Raises:
            ProtocolError: for configuration keys that are the names of a dictionary's methods.
        """
        super().__init__()
        self.register_buffer("_place", torch.zeros(()), persistent=False)  # holds the type and device that `to` was given
        wrong = [key for key in config if not isinstance(key, str) or hasattr(OrderedDict, key)]
        if wrong:
            raise ProtocolError(f"the configuration has a key {wrong[0]!r:.60}")
        self.config = FrozenDict({key: tuple(value) if isinstance(value, list) else value for key, value in config.items()})
        for name, part in stand_ins(self.config).items():
            setattr(self, name, part)

    def __getattr__(self, name: str) -> Any:
        if name in REFUSED:
            absent(self, name)
        return super().__getattr__(name)

    def __dir__(self) -> Iterable[str]:
        return [name for name in super().__dir__() if name not in REFUSED]

    @property
    def dtype(self) -> torch.dtype:
        """The type that was given to `to`, float32 at first. The computation does not use it."""
        dtype: torch.dtype = self.get_buffer("_place").dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """The device that was given to `to`, the CPU at first. The client's regions run on the CPU all the same."""
        device: torch.device = self.get_buffer("_place").device
        return device

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} holds connections and secrets, and cannot be copied or pickled: load it again")

    def disable_freeu(self) -> None:
        """Do nothing: FreeU is always off."""


for _name in REFUSED:
    if hasattr(ModelMixin, _name):
        setattr(DiffusersModel, _name, _Absent())
