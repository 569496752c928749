"""What a backend is: it proposes pieces of the graph that it can run, and turns a region into a client and a server half.

A backend splits what it does between two objects that never share a secret key: `RegionClient` holds what the owner of the data
needs (scales, biases; a fresh secret key per request), `RegionServer` holds the weights and has no field for a secret key.

Backends that need evaluation keys declare them by name and size in both halves (`key_sizes`). The client makes them once per
**session**; regions that declare the same name share the key. The secrets of a session are the client's `Secrets`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hecompile.errors import CompileError, Diagnostic

if TYPE_CHECKING:
    from hecompile.backends.context import Context
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer, RegionShard
    from hecompile.ir.candidates import Candidate, LayerPrice, PartCost
    from hecompile.ir.channels import ChannelSplit
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import ClientHalf, ServerHalf
    from hecompile.ir.layer_groups import Stack
    from hecompile.ir.passes import RegionPass
    from hecompile.machine import Machine
    from hecompile.panels import Panel

__all__ = ["Backend", "Facts", "Guarantee", "SamplerStep"]


@dataclass(frozen=True)
class Facts:
    """What a client's half says of its region at batch one, for tables, reports and the client's own judgement."""

    layers: int
    parameters: str
    proof: str = ""
    noise_bits: float = 0.0  # log2 of the largest noise that was proved, and of the room for it
    budget_bits: float = 0.0
    classical_bits: float = 0.0  # of the weakest layer's secrets under one seed, at whatever batch; zero where it is not estimated
    quantum_bits: float = 0.0
    reveals: tuple[str, ...] = ()  # the parts of secrets that requests show in clear, a sentence for each


@dataclass(frozen=True)
class Guarantee:
    """What a scheme promises."""

    encrypts: bool = True  # the server sees ciphertexts only
    hides_key: bool = True  # decrypted values tell nothing of the secret key, so that policies may show some of them
    stateless: bool = False  # servers keep nothing of a client's, keys included: any of several may answer any request


class Backend(ABC):
    """A way to run secret regions at the server: one folder, and one line of `hecompile.backends.registry` or an entry point.

    It proposes pieces of a graph, brings the passes that lower its regions to two halves, checks, loads and describes them, and
    knows what they cost. Methods import what they need when they are called: a server asks for `load_server` alone, and must load
    nothing that compiles or that can hold a secret key.
    """

    name: str
    guarantee: Guarantee = Guarantee()
    others: tuple[str, ...] = ()  # further backends whose regions its proposals may hold

    @property
    def options(self) -> type[Panel]:
        """The panel of its own options, with what it recommends of others."""
        from hecompile.panels import NoOptions

        return NoOptions

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

    def carries(self, group: Stack, security_bits: int) -> bool:
        """Whether some parameters carry a group of layers; one without weights, whatever they are.

        Layers that are not carried are divided by their input channels, and the client adds what the parts return.
        """
        return True

    def price_layers(
        self, group: Stack, machine: Machine, splits: Sequence[ChannelSplit] = (), batch: int = 1, calls: int = 1
    ) -> list[LayerPrice]:
        """The ways to run a group of layers, with what each costs: with these splits of its input, or its own. Empty if there are
        none. Backends whose candidates are all whole price those when they propose them.

        Args:
            calls: of the model in a run, for what a client may keep from the first to the others; 1: it keeps nothing.
        """
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

    def load_shard(self, half: ServerHalf, index: int, count: int) -> RegionShard:
        """One of `count` servers that evaluate the region together, from the same payloads.

        Raises:
            CompileError: if the backend does not divide its regions.
            ProtocolError: if the half is not well-formed.
        """
        region = half.program.get("region")
        raise CompileError(
            Diagnostic(
                f"region '{region}' is of backend '{self.name}', whose regions are not divided", help="serve without --shards"
            )
        )

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
        """This machine's prices of what the backend does, medians of so many runs: by their fields of `Machine`.

        A backend of another package uses names of its own, and finds them again in `Machine.elsewhere`.
        """
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
