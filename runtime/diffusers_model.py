"""What makes an encrypted model one of diffusers: its class, its configuration, its type and device, and what it refuses."""

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
    """An attribute that the base class has and this class has not."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        raise AttributeError


class DiffusersModel(ModelMixin):  # type: ignore[misc]
    """A model without weights of its own, which pipelines take for one of diffusers."""

    _supports_group_offloading = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config` is that of the model that was compiled. Raises `ProtocolError` for keys that a dictionary has methods for."""
        super().__init__()
        self.register_buffer("_place", torch.zeros(()), persistent=False)  # its type and device are what `to` asked for
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
        """What `to` asked for, float32 at first. Nothing is computed in it."""
        dtype: torch.dtype = self.get_buffer("_place").dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where `to` put the model, the CPU at first. Client regions run on the CPU all the same."""
        device: torch.device = self.get_buffer("_place").device
        return device

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} holds connections and secrets, and cannot be copied or pickled: load it again")

    def disable_freeu(self) -> None:
        """Do nothing: it is off."""


for _name in REFUSED:
    if hasattr(ModelMixin, _name):
        setattr(DiffusersModel, _name, _Absent())
