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
from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.panels import NoOptions, Panel

if TYPE_CHECKING:
    from hecompile.ir.candidates import Candidate, Cost
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import Half
    from hecompile.ir.layer_groups import Stack
    from hecompile.ir.products import AnyProduct, QuantizedProduct
    from hecompile.ir.regions import AnyCall, Lowered
    from hecompile.machine import Machine
    from hecompile.options import CompileOptions

__all__ = [
    "Array",
    "Backend",
    "Facts",
    "Pending",
    "RegionClient",
    "RegionServer",
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
    """What a half says of its region at batch one, for tables and reports."""

    layers: int
    parameters: str
    proof: str = ""
    noise_bits: float = 0.0  # log2 of the largest noise that was proved, and of the room for it
    budget_bits: float = 0.0


class Backend(ABC):
    """A way to run secret regions at the server."""

    name: str
    encrypts: bool  # whether the server sees ciphertexts only
    integer: bool  # whether its regions are linear layers that pass through quantize and select-parameters
    calibrated: bool = False  # whether its regions are lowered with their inputs over a calibration
    ranged: bool = False  # whether they are lowered with the ranges of their inputs and outputs over one
    one_circuit: bool = False  # whether tables over the timestep would need a circuit per row
    alone: bool = False  # whether each of its candidates is a region of its own; else those of one depth share a request
    chains: bool = False  # whether its candidates run several layers in one request, and are priced as wholes
    exact: bool = True  # whether a decrypted value tells nothing of the key, so that policies may show some
    rest: str | None = None  # the backend that takes the linear layers that this one leaves
    sampler_step: bool = False  # whether its one region is a sampler's own step, and no part of a model
    options: ClassVar[type[Panel]] = NoOptions  # what a user may choose about it

    def reveals(self, half: Half) -> tuple[str, ...]:
        """List the parts of secrets that requests of this half show in clear, a sentence for each. The list is empty by default."""
        return ()

    @abstractmethod
    def clear_inputs(self, half: Half) -> tuple[str, ...]:
        """The region's inputs that requests carry in clear, or what tells them: a client insists that they are public."""

    @abstractmethod
    def facts(self, half: Half) -> Facts:
        """What there is to say of a half."""

    def cost(self, half: Half, machine: Machine, batch: int) -> Cost:
        """What one request of a client's half will cost. Of backends with a cost model.

        Raises:
            CompileError: if there is none.
        """
        raise CompileError(f"region '{half.program.get('region')}' is of backend '{self.name}', which has no cost model")

    @abstractmethod
    def candidates(self, graph: ModelGraph, machine: Machine) -> list[Candidate]:
        """Pieces of secret work that this backend can run."""

    def price_chain(self, graph: ModelGraph, candidate: Candidate, machine: Machine) -> Candidate | None:
        """The candidate with what it costs, for plans that choose; None if it cannot run after all.

        Layers of `integer` backends are priced in stacks instead (`hecompile.backends.bfv.pricing`).
        """
        return candidate

    def price_layers(self, stack: Stack, machine: Machine) -> tuple[Cost, int] | None:
        """What a stack of layers costs at batch one, for the optimiser, and the largest integer that its values have; None for
        backends that are priced by `bfv`'s parameters."""
        return None

    def parameterize(self, product: QuantizedProduct, multiple: int, machine: Machine, security_bits: int) -> AnyProduct | None:
        """The product with parameters that carry it, `multiple` pictures per entry of the batch; None if there are none.
        Of `integer` backends only."""
        raise InternalError(f"backend '{self.name}' has no linear layers")

    @abstractmethod
    def lower(self, region: AnyCall, options: CompileOptions) -> tuple[Half, Half]:
        """The client's and the server's half of a region."""

    def lower_calibrated(self, region: AnyCall, options: CompileOptions, inputs: Sequence[Array]) -> Lowered:
        """The same for `calibrated` backends: `inputs` are what the region gets, samples along the first dimension."""
        from hecompile.ir.regions import Lowered

        return Lowered(*self.lower(region, options))

    def needs_ranges(self, region: AnyCall, sampled: bool) -> bool:
        """Whether a region of a `ranged` backend is lowered with ranges; `sampled`: the model has a sampler to give them."""
        return self.ranged

    def lower_ranged(self, region: AnyCall, options: CompileOptions, ranges: Mapping[str, float]) -> tuple[Half, Half]:
        """The same for `ranged` backends: `ranges` are largest magnitudes by name."""
        return self.lower(region, options)

    @abstractmethod
    def check_security(self, half: Half, security_bits: int) -> list[str]:
        """Every reason why this half's parameters give less than `security_bits`; none if they are fine."""

    @abstractmethod
    def check_proofs(self, half: Half) -> list[str]:
        """Every bound of a server half that does not hold for its weights."""

    @abstractmethod
    def load_client(self, half: Half) -> RegionClient:
        """The runnable client half. Raises `ProtocolError` if the half is not well-formed."""

    def simulation(self, client: Half, server: Half) -> RegionClient:
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

    @abstractmethod
    def load_server(self, half: Half) -> RegionServer:
        """The runnable server half. Raises `ProtocolError` if the half is not well-formed."""
