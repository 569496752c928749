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
    "GOALS", "NEVER_ZERO", "PROFILE_VERSION", "Machine", "http_seconds", "load_machine", "machine_with", "objective",
    "packing_objective", "save_machine", "seconds_of",
]  # fmt: skip

PROFILE_VERSION = 4  # of profiles on disk: raised when a field is added, renamed or means something else
GOALS = ("latency", "client-cpu", "server-cpu", "bytes")  # what a plan may minimise
TIE = 1e-3  # weight of the latency beside any other goal, so that the faster one of equally good plans wins
NEVER_ZERO = ("mac_ps", "encrypt_ns", "decrypt_ns", "float_ps", "base_mib", "bandwidth_mbps", "lookup_ps")
NO_PRICES = frozenset({"other_backends", "goal"})  # fields of `Machine` that are no prices


@dataclass(frozen=True)
class Machine:
    """The times that single operations take on one machine, and the network between client and server.

    Names end with the unit: pico-, nano-, micro- or milliseconds of CPU time, MiB, or Mbit/s. Comments say what takes so long. The
    defaults were measured on two cores of a server of 2023.
    """

    mac_ps: float = 4.6  # bfv: a byte of a word times an int8 weight, added up
    word_ns: float = 2.9  # a word that is cut into limbs, packed or unpacked; putting one together from limbs counts twice
    ntt_ns: float = 9.4  # a coefficient that goes through a number-theoretic transform (NTT)
    pair_ns: float = 0.6  # a product of two values in NTT form, added up
    weight_ns: float = 1.0  # a value of weights that the server does not keep in NTT form but transforms for every request
    fresh_memory_ns: float = 0.9  # a byte of a large reply, for which the system provides fresh memory
    server_layer_us: float = 50.0  # the server's overhead per layer
    server_reveal_us: float = 250.0  # the server's overhead for a part of a layer's input that is in the clear
    client_reveal_us: float = 150.0  # the client's overhead for it
    encrypt_ns: float = 10.2  # a coefficient of an upload: quantised, encrypted and packed
    decrypt_ns: float = 2.5  # a coefficient of an answer: transformed and multiplied by the secret
    gather_ns: float = 3.6  # a gathered word of an answer: unpacked, decoded, scaled and written to the output
    client_layer_us: float = 230.0  # the client's overhead for decrypting a layer; encrypting one counts twice
    ckks_key_switch_ns: float = 25.0  # ckks: a word that is transformed in a key switch (of a rotation or relinearization)
    ckks_multiply_ns: float = 6.0  # a word of a ciphertext times a plaintext, added up
    ckks_rescale_ns: float = 13.0  # a word of a ciphertext that is rescaled
    ckks_encode_ns: float = 25.0  # a word of a plaintext that is encoded
    ckks_load_ns: float = 50.0  # a word of a fresh ciphertext that the server unpacks, its seed expanded
    ckks_encrypt_ns: float = 170.0  # a word of a fresh ciphertext that the client encodes, encrypts and packs
    ckks_decrypt_ns: float = 105.0  # a coefficient of an answer that the client unpacks, decrypts and decodes
    request_us: float = 1750.0  # HTTP on loopback: wall time of an exchange without the times of its bytes, both sides
    client_request_us: float = 500.0  # the client's CPU time of an exchange, without its bytes
    server_request_us: float = 1450.0  # the server's CPU time of an exchange, without its bytes
    client_byte_ns: float = 0.25  # a byte that the client sends or receives over HTTP
    server_byte_ns: float = 2.2  # a byte that the server receives or sends
    float_ps: float = 23.0  # a float32 multiply-add of a convolution in ONNX Runtime
    node_us: float = 1.0  # overhead of an operation of a client region
    entry_ns: float = 0.45  # an entry of the result of such an operation
    lookup_ps: float = 240.0  # concrete: a unit of the complexity that Concrete states for a circuit with lookups
    key_mib_ms: float = 5.0  # a MiB of evaluation keys, expanded once per session
    lwe_ps: float = 750.0  # a weight times a word of a ciphertext
    lwe_expand_us: float = 90.0  # an integer that the server receives and expands from its seed
    lwe_answer_us: float = 45.0  # an integer that the server sends
    lwe_encrypt_us: float = 85.0  # an integer that the client encrypts
    lwe_decrypt_us: float = 65.0  # an integer that the client decrypts
    base_mib: float = 110.0  # memory of a server process that computes nothing, with the replies that it keeps
    bandwidth_mbps: float = 1000.0
    rtt_ms: float = 0.0
    other_backends: tuple[tuple[str, float], ...] = ()  # prices of backends of other packages: "backend.price" and its value
    goal: str = "latency"  # one of `GOALS`: what a plan minimises; not part of a profile on disk

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise unknown_name("goal", self.goal, GOALS)
        for name, value in self.prices().items():
            if not value >= 0 or (value == 0 and name in NEVER_ZERO):
                raise CompileError(f"machine profile: {name} is {value}, it must be above zero")

    def prices(self) -> dict[str, float]:
        """Return every price of the profile by its name; those of other packages' backends are named `backend.price`."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NO_PRICES}
        return own | dict(self.other_backends)


def machine_with(prices: Mapping[str, float]) -> Machine:
    """Return the profile with these prices, named as in `Machine.prices`, and defaults for all others.

    Raises:
        TypeError: for a name that no profile has.
        CompileError: for a price that is not above zero.
    """
    other_backends = tuple((name, value) for name, value in prices.items() if "." in name)
    own: dict[str, Any] = {name: value for name, value in prices.items() if "." not in name}
    return Machine(**own, other_backends=other_backends)


def seconds_of(cost: Cost, machine: Machine) -> float:
    """Return the predicted latency in seconds: both sides in turn, the bytes through HTTP and the network, and the rounds."""
    sent = cost.sent_bytes
    bytes_s = sent * 1e-9 * (machine.client_byte_ns + machine.server_byte_ns) + sent * 8 / machine.bandwidth_mbps * 1e-6
    rounds_s = cost.rounds * (machine.rtt_ms * 1e-3 + machine.request_us * 1e-6)
    return cost.server_s + cost.client_s + bytes_s + rounds_s


def http_seconds(cost: Cost, machine: Machine) -> tuple[float, float]:
    """Return the CPU seconds that HTTP takes client and server for the requests and bytes of a cost, without what they compute."""
    sent, rounds = cost.sent_bytes * 1e-9, cost.rounds * 1e-6
    client_s = sent * machine.client_byte_ns + rounds * machine.client_request_us
    return client_s, sent * machine.server_byte_ns + rounds * machine.server_request_us


def objective(cost: Cost, machine: Machine) -> float:
    """Return the number that plans minimise, by the machine's goal. It also decides what the client keeps for a run. Linear in
    the cost.

    `latency`: `seconds_of`. `client-cpu`, `server-cpu`: CPU seconds of that side, with those of HTTP. `bytes`: gigabytes sent both
    ways. Every goal but `latency` has `TIE` times the latency added.
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
    """What the parameters and packing of a layer are chosen to minimise: `objective` for the goal client-cpu, else the latency.

    The server's CPU and the bytes depend also on what the client keeps for a run, which is chosen later.
    """
    return objective(cost, machine) if machine.goal == "client-cpu" else seconds_of(cost, machine)


def load_machine(path: Path) -> Machine:
    """Read a profile that `measure-machine` wrote. Raises `CompileError` if the file is no profile, or one of another version."""
    try:
        document: dict[str, Any] = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _no_profile(path, getattr(error, "strerror", None) or error) from error
    own = {field.name for field in fields(Machine)} - NO_PRICES
    if document.pop("version", None) != PROFILE_VERSION or {name for name in document if "." not in name} != own:
        raise CompileError(f"{path} was not measured for this version of hecompile: run `hecompile measure-machine` again")
    try:
        return machine_with({name: float(value) for name, value in document.items()})
    except (ValueError, TypeError) as error:
        raise _no_profile(path, error) from error


def _no_profile(path: Path, reason: object) -> CompileError:
    return CompileError(Diagnostic(f"{path}: not a machine profile: {reason}", help="`hecompile measure-machine` writes one"))


def save_machine(machine: Machine, path: Path) -> None:
    """Write a profile. Raises `CompileError` if the file cannot be written."""
    write_file(path, (json.dumps({"version": PROFILE_VERSION, **machine.prices()}, indent=1) + "\n").encode())
