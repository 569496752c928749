"""The speeds that costs are predicted from: a profile of a machine and its network."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hecompile.errors import CompileError

__all__ = ["Machine", "load_machine", "save_machine"]


@dataclass(frozen=True)
class Machine:
    """One machine's primitives, and the network between client and server. The defaults are two cores of a server of 2023."""

    product_gmac_per_s: float = 100.0  # u8 by s8 products of the server
    roll_ns_per_byte: float = 0.35  # copying rolled limbs
    fold_ns_per_word: float = 1.0  # adding int32 sums into answers, per limb and row
    modulo_ns_per_word: float = 12.0  # putting limbs together modulo q
    layer_us: float = 400.0  # what a layer costs the server whatever its size
    expand_us: float = 200.0  # a seed to a polynomial of 2048 coefficients
    encrypt_us: float = 280.0  # a polynomial of 2048 coefficients
    decrypt_us: float = 260.0
    key_us: float = 150.0  # a fresh key
    wire_ns_per_byte: float = 4.0  # packing and unpacking words, on one side
    request_us: float = 2000.0  # HTTP on loopback, both sides
    float_gmac_per_s: float = 40.0  # float32 convolutions in ONNX Runtime
    bandwidth_mbps: float = 1000.0
    rtt_ms: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not value > 0 and not (each.name == "rtt_ms" and value == 0):
                raise CompileError(f"machine profile: {each.name} is {value}, it must be above zero")


def load_machine(path: Path) -> Machine:
    """A profile written by `measure-machine`. Raises `CompileError` if it is none."""
    try:
        document: Any = json.loads(path.read_text())
        return Machine(**{key: float(value) for key, value in document.items()})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CompileError(f"{path}: not a machine profile: {error}") from error


def save_machine(machine: Machine, path: Path) -> None:
    """Write a profile."""
    path.write_text(json.dumps(asdict(machine), indent=1) + "\n")
