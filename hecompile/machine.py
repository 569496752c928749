"""The speeds that costs are predicted from: a profile of a machine and its network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hecompile.errors import CompileError, Diagnostic, unknown_name
from hecompile.ir.candidates import Cost
from hecompile.outputs import write_file

__all__ = [
    "CORE", "GOALS", "NEVER_ZERO", "Machine", "http_seconds", "load_machine", "machine_with", "objective", "packing_objective",
    "save_machine", "seconds_of",
]  # fmt: skip

CORE = 3  # counts up whenever prices come to mean something else, since the core works in another way or is counted in another
GOALS = ("latency", "client-cpu", "server-cpu", "bytes")  # what plans are made for
TIE = 1e-3  # of the latency, which counts beside any other goal: of plans that are equally good the faster one
NEVER_ZERO = ("mac_ps", "encrypt_ns", "decrypt_ns", "float_ps", "base_mib", "bandwidth_mbps", "lookup_ps")
NO_PRICES = frozenset({"elsewhere", "goal"})  # fields of a profile that are no number


@dataclass(frozen=True)
class Machine:
    """One machine's times, and the network between client and server. The defaults are those of two cores of a server of 2023."""

    mac_ps: float = 4.6  # a byte of a word by an int8 weight, added up
    word_ns: float = 2.9  # a word that is cut into limbs, packed or unpacked; one put together from limbs takes two
    ntt_ns: float = 9.4  # a coefficient that is transformed
    pair_ns: float = 0.6  # a value in NTT form times another, added up
    weight_ns: float = 1.0  # a value of weights that are transformed anew for every request
    fresh_ns: float = 0.9  # a byte of a reply too large for its memory to be used again
    layer_us: float = 50.0  # what a layer costs the server whatever its size
    release_us: float = 250.0  # what a part in clear costs the server whatever its size
    client_release_us: float = 150.0  # and the client
    encrypt_ns: float = 10.2  # a coefficient of an upload: quantised, placed, encrypted and packed
    decrypt_ns: float = 2.5  # a coefficient of an answer: transformed and multiplied
    read_ns: float = 3.6  # a word of an answer that is read: unpacked, decoded, scaled and put in its place
    way_us: float = 230.0  # what a layer's answer costs the client whatever its size; its uploads cost twice that
    switch_ns: float = 25.0  # ckks: a word that is transformed when keys are switched
    product_ns: float = 6.0  # a word of a ciphertext times a plaintext, added up
    rescale_ns: float = 13.0  # a word of a ciphertext that is rescaled
    encode_ns: float = 25.0  # a word of a plaintext that is encoded
    load_ns: float = 50.0  # a word of a fresh ciphertext, unpacked, its seed expanded
    seal_ns: float = 170.0  # a word of a fresh ciphertext, encoded, encrypted and packed by the client
    open_ns: float = 105.0  # a coefficient of an answer, unpacked, decrypted and decoded by the client
    request_us: float = 1750.0  # HTTP on loopback, both sides: from sending to having the reply, beside the bytes' times
    client_request_us: float = 500.0  # what the client computes for it, whatever the bytes
    server_request_us: float = 1450.0  # what the server does
    client_byte_ns: float = 0.25  # a byte that the client sends or receives over HTTP
    server_byte_ns: float = 2.2  # a byte that the server receives or sends
    float_ps: float = 23.0  # float32 multiply-add of a convolution in ONNX Runtime
    node_us: float = 1.0  # an operation of a client region, whatever its size
    entry_ns: float = 0.45  # an entry that such an operation makes
    lookup_ps: float = 240.0  # a unit of Concrete's complexity, of a circuit with lookups
    key_mib_ms: float = 5.0  # a MiB of Concrete's evaluation keys, expanded once per session
    lwe_ps: float = 750.0  # a weight times a word of Concrete's ciphertexts
    lwe_expand_us: float = 90.0  # an integer that came, expanded from its seed
    lwe_answer_us: float = 45.0  # an integer that goes
    lwe_encrypt_us: float = 85.0  # an integer, at the client
    lwe_decrypt_us: float = 65.0
    base_mib: float = 110.0  # of a server process that computes nothing, with the answers that it keeps
    bandwidth_mbps: float = 1000.0
    rtt_ms: float = 0.0
    elsewhere: tuple[tuple[str, float], ...] = ()  # what backends of other packages measured: "backend.price" and its value
    goal: str = "latency"  # one of `GOALS`; no price, and not in a profile

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise unknown_name("goal", self.goal, GOALS)
        for name, value in self.prices().items():
            if not value >= 0 or (value == 0 and name in NEVER_ZERO):
                raise CompileError(f"machine profile: {name} is {value}, it must be above zero")

    def prices(self) -> dict[str, float]:
        """Every number of the profile by its name, those of other packages' backends as `backend.price`."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in NO_PRICES}
        return own | dict(self.elsewhere)


def machine_with(prices: Mapping[str, float]) -> Machine:
    """A profile with these numbers, named as `Machine.prices` names them. Raises `TypeError` for a name that no profile has."""
    elsewhere = tuple((name, value) for name, value in prices.items() if "." in name)
    own: dict[str, Any] = {name: value for name, value in prices.items() if "." not in name}
    return Machine(**own, elsewhere=elsewhere)


def seconds_of(cost: Cost, machine: Machine) -> float:
    """Latency: both sides in turn, the bytes through HTTP and the network, and the rounds."""
    sent = cost.sent_bytes
    bytes_s = sent * 1e-9 * (machine.client_byte_ns + machine.server_byte_ns) + sent * 8 / machine.bandwidth_mbps * 1e-6
    rounds_s = cost.rounds * (machine.rtt_ms * 1e-3 + machine.request_us * 1e-6)
    return cost.server_s + cost.client_s + bytes_s + rounds_s


def http_seconds(cost: Cost, machine: Machine) -> tuple[float, float]:
    """CPU seconds that a cost's requests and their bytes take client and server over HTTP, beside computing."""
    sent, rounds = cost.sent_bytes * 1e-9, cost.rounds * 1e-6
    client_s = sent * machine.client_byte_ns + rounds * machine.client_request_us
    return client_s, sent * machine.server_byte_ns + rounds * machine.server_request_us


def objective(cost: Cost, machine: Machine) -> float:
    """What plans are chosen by, and what the client keeps for a run: the less the better. Linear in the cost.

    `latency` counts `seconds_of`, `client-cpu` and `server-cpu` the CPU seconds of that side with what HTTP takes of it, `bytes`
    the gigabytes both ways.
    """
    latency_s = seconds_of(cost, machine)
    if machine.goal == "latency":
        return latency_s
    client_s, server_s = http_seconds(cost, machine)
    amounts = {
        "client-cpu": cost.client_s + client_s,
        "server-cpu": cost.server_s + server_s,
        "bytes": cost.sent_bytes * 1e-9,
    }
    return amounts[machine.goal] + TIE * latency_s


def packing_objective(cost: Cost, machine: Machine) -> float:
    """What parameters and packings of a layer are chosen by: the client's CPU where that is the goal, else the latency.

    What they take of the server and the network depends on what the client keeps for a run, and that is chosen after them.
    """
    return objective(cost, machine) if machine.goal == "client-cpu" else seconds_of(cost, machine)


def load_machine(path: Path) -> Machine:
    """A profile written by `measure-machine`. Raises `CompileError` if it is none, or was measured for another core."""
    try:
        document: dict[str, Any] = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _no_profile(path, getattr(error, "strerror", None) or error) from error
    own = {each.name for each in fields(Machine)} - NO_PRICES
    if document.pop("core", None) != CORE or {name for name in document if "." not in name} != own:
        raise CompileError(f"{path} was not measured for this version of hecompile: run `hecompile measure-machine` again")
    try:
        return machine_with({name: float(value) for name, value in document.items()})
    except (ValueError, TypeError) as error:
        raise _no_profile(path, error) from error


def _no_profile(path: Path, reason: object) -> CompileError:
    return CompileError(Diagnostic(f"{path}: not a machine profile: {reason}", help="`hecompile measure-machine` writes one"))


def save_machine(machine: Machine, path: Path) -> None:
    """Write a profile. Raises `CompileError` if the file cannot be written."""
    write_file(path, (json.dumps({"core": CORE, **machine.prices()}, indent=1) + "\n").encode())
