"""What a backend is: it proposes pieces of the graph that it can run, and turns a region into a client and a server half.

A backend splits what it does between two objects that never share a secret key: `RegionClient` holds what the owner of the data
needs (scales, biases; a fresh secret key per request), `RegionServer` holds the weights and has no field for a secret key.

Backends that need evaluation keys declare them by name and size in both halves (`key_sizes`). The client makes them once per
**session**; regions that declare the same name share the key. The secrets of a session are the client's `Secrets`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy.typing as npt

from hecompile.buffers import Buffer
from hecompile.errors import CompileError, Diagnostic
from hecompile.panels import NoOptions, Panel

if TYPE_CHECKING:
    from hecompile.backends.context import Context
    from hecompile.ir.candidates import Candidate, LayerPrice, PartCost
    from hecompile.ir.channels import ChannelSplit
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import ClientHalf, ServerHalf
    from hecompile.ir.layer_groups import Stack
    from hecompile.ir.passes import RegionPass
    from hecompile.machine import Machine

__all__ = [
    "Array",
    "Backend",
    "Facts",
    "Guarantee",
    "Pending",
    "RegionClient",
    "RegionServer",
    "SamplerStep",
    "Secrets",
    "Session",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True, repr=False)
class Pending:
    """What the client keeps between a request and its reply (a fresh key, scale factors). Never leaves, never printed."""

    reply_size: int  # bytes of the reply, known before it comes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"


@dataclass(frozen=True)
class Session:
    """Public evaluation keys of one client at the server, as `RegionServer.load_key` made them. The identifier is a capability."""

    identifier: str = field(repr=False)
    keys: Mapping[str, object] = field(repr=False)


class Secrets(dict[str, object]):
    """The client's secret keys of one session, by names of the backend's own choice. Never leaves, never printed."""

    def __repr__(self) -> str:
        return "Secrets(hidden)"


class RegionClient(ABC):
    """The client's half of a region."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_batch: int
    patience_s: float = 60.0  # seconds that an answer may take; the way to a server is given twice that

    def start_run(self) -> None:  # noqa: B027
        """Forget what was kept of the last sampling run; most regions keep nothing."""

    @abstractmethod
    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        """The request's payload, in pieces, for float32 inputs in the order of `inputs`; their sizes depend on `batch` alone,
        or on what the region reveals. `secrets` are those of the session, for regions that declare keys.
        """

    @abstractmethod
    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        """The region's float32 outputs. Raises `ProtocolError` if the reply's size or words are not what they must be."""

    def reply_size(self, pending: Pending) -> int:
        """Exact size of the reply to this request."""
        return pending.reply_size

    @abstractmethod
    def request_bytes(self, batch: int) -> int:
        """Size of every payload at this batch; of the largest, where a region reveals."""

    @abstractmethod
    def reply_bytes(self, batch: int) -> int:
        """Size of every reply at this batch; of the largest, where a region reveals."""

    def excursions(self, values: Sequence[Array], outputs: Sequence[Array]) -> tuple[str, ...]:
        """What left the ranges that a call's inputs and outputs have: a sentence each, naming layers and the way out, no value."""
        return ()

    def key_sizes(self) -> Mapping[str, int]:
        """Evaluation keys that the server needs: most bytes by name; none means no session."""
        return {}

    def evaluation_keys(self, secrets: Secrets) -> Mapping[str, bytes]:
        """Those keys, for secrets that are taken from `secrets`, or made and left there for the other regions of the session."""
        return {}


class RegionServer(ABC):
    """The server's half of a region: weights, and the evaluation on what it cannot read."""

    max_batch: int
    worked_s: float = 0.0  # CPU seconds so far of evaluations in other processes

    @abstractmethod
    def evaluate(self, payload: bytes, batch: int, session: Session | None = None) -> bytes:
        """The reply. Raises `ProtocolError` for a payload that is not what the format says."""

    @abstractmethod
    def request_bytes(self, batch: int) -> int:
        """Size of every well-formed payload at this batch; of the largest, where a region reveals."""

    def key_sizes(self) -> Mapping[str, int]:
        """The same as the client half declares."""
        return {}

    def cancel(self) -> None:  # noqa: B027
        """Give up what is being evaluated, where that takes long enough to be worth it."""

    def load_key(self, name: str, data: memoryview) -> object:
        """A key of `key_sizes` ready for use, kept in the session under its name. Raises `ProtocolError` unless it is that key."""
        return bytes(data)

    def held_bytes(self, name: str) -> int:
        """Memory that the loaded key takes."""
        return self.key_sizes()[name]


@dataclass(frozen=True)
class Facts:
    """What a client's half says of its region at batch one, for tables, reports and the client's own judgement."""

    layers: int
    parameters: str
    proof: str = ""
    noise_bits: float = 0.0  # log2 of the largest noise that was proved, and of the room for it
    budget_bits: float = 0.0
    reveals: tuple[str, ...] = ()  # the parts of secrets that requests show in clear, a sentence for each


@dataclass(frozen=True)
class Guarantee:
    """What a scheme promises."""

    encrypts: bool = True  # the server sees ciphertexts only
    hides_key: bool = True  # decrypted values tell nothing of the secret key, so that policies may show some of them


class Backend(ABC):
    """A way to run secret regions at the server: one folder, and one line of `hecompile.backends.registry` or an entry point.

    It proposes pieces of a graph, brings the passes that lower its regions to two halves, checks, loads and describes them, and
    knows what they cost. Methods import what they need when they are called: a server asks for `load_server` alone, and must load
    nothing that compiles or that can hold a secret key.
    """

    name: str
    guarantee: Guarantee = Guarantee()
    options: ClassVar[type[Panel]] = NoOptions  # its own options, with what it recommends of others
    others: tuple[str, ...] = ()  # further backends whose regions its proposals may hold

    @property
    def runs_layers(self) -> bool:
        """Whether it runs single layers and says what they cost, so that a plan may choose between backends for each layer."""
        return type(self).price_layers is not Backend.price_layers

    @abstractmethod
    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        """Pieces of secret work that this backend can run, the best first; then what `context.propose` of others adds.

        Raises:
            CompileError: if the backend runs nothing of a model.
        """

    @abstractmethod
    def lowering(self, context: Context) -> Sequence[RegionPass]:
        """The passes that turn this backend's regions into halves, in their order; the last one leaves them lowered."""

    def timestep_rows(self, rows: int) -> int:
        """How many rows tables over the timestep may have, of as many as the model would get."""
        return rows

    def price_layers(self, group: Stack, machine: Machine, splits: Sequence[ChannelSplit] = (), batch: int = 1) -> list[LayerPrice]:
        """The ways to run a group of layers, with what each costs: with these splits of its input, or its own. Empty if there are
        none. Backends whose candidates are all whole price those when they propose them."""
        return []

    def price(self, half: ClientHalf, machine: Machine, batch: int) -> list[PartCost]:
        """What one request of a lowered region will cost, part by part.

        Raises:
            CompileError: if the backend has no cost model.
        """
        raise CompileError(f"region '{half.program.get('region')}' is of backend '{self.name}', which has no cost model")

    @abstractmethod
    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        """Every reason why this half's parameters give less than `security_bits`; none if they are fine."""

    @abstractmethod
    def check_proofs(self, half: ServerHalf) -> list[str]:
        """Every bound of a server half that does not hold for its weights."""

    def check(self, client: ClientHalf, server: ServerHalf, security_bits: int) -> list[Diagnostic]:
        """Every reason not to use a region. `security_bits` are 0 under policies that need no encryption."""
        reasons = self.check_security(client, security_bits) if security_bits else []
        return [Diagnostic(reason) for reason in (*reasons, *self.check_proofs(server))]

    @abstractmethod
    def describe(self, half: ClientHalf) -> Facts:
        """What there is to say of a half, and all that its requests reveal."""

    @abstractmethod
    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        """The region's inputs that requests carry in clear, or what tells them: a client insists that they are public."""

    @abstractmethod
    def load_client(self, half: ClientHalf) -> RegionClient:
        """The runnable client half. Raises `ProtocolError` if the half is not well-formed."""

    @abstractmethod
    def load_server(self, half: ServerHalf) -> RegionServer:
        """The runnable server half. Raises `ProtocolError` if the half is not well-formed."""

    def simulation(self, client: ClientHalf, server: ServerHalf) -> RegionClient:
        """The region computed in this process with the noise that the backend's library models. Of backends that have one.

        Raises:
            CompileError: if there is none.
        """
        raise CompileError(
            Diagnostic(
                f"region '{client.program.get('region')}' is of backend '{self.name}', which has no simulation of its noise",
                help="compile with --backend clear (or ckks_clear): a simulation without noise",
            )
        )

    def measure(self, runs: int) -> Mapping[str, float]:
        """This machine's prices of what the backend does, by their fields of `Machine`: medians of so many runs."""
        return {}


class SamplerStep(Backend):
    """A backend whose one region is a sampler's own step: no part of a model, and made by no pass."""

    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        raise self._no_model()

    def lowering(self, context: Context) -> Sequence[RegionPass]:
        raise self._no_model()

    def _no_model(self) -> CompileError:
        return CompileError(
            Diagnostic(f"backend '{self.name}' runs a sampler's step, not a UNet", help="hecompile compile-sampler")
        )
