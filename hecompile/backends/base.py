"""What a backend is: it proposes pieces of the graph that it can run, and turns each chosen region into two halves.

The client's half makes a `RegionClient`, which has what the owner of the data needs: scales, biases and fresh secret keys. The
server's half makes a `RegionServer`, which has the weights and no field for a secret key.

Backends that need evaluation keys declare their names and sizes in both halves (`key_sizes`). The client makes the keys once per
**session**. Regions that declare the same name use the same key. The secrets of a session are the client's `Secrets`.
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
    from hecompile.ir.layer_groups import LayerGroup
    from hecompile.ir.passes import RegionPass
    from hecompile.machine import Machine
    from hecompile.panels import Panel

__all__ = ["Backend", "Description", "Guarantee", "SamplerStep"]


@dataclass(frozen=True)
class Description:
    """What a half says of its region at batch size 1, for tables, reports and the client's checks."""

    layers: int
    parameters: str
    proof: str = ""
    noise_bits: float = 0.0  # log2 of the proved bound on the noise, of the layer where the budget is tightest
    budget_bits: float = 0.0  # log2 of the largest noise that decryption corrects, of the same layer
    classical_bits: float = 0.0  # of the weakest layer's secrets under one seed, at any batch; 0: not estimated
    quantum_bits: float = 0.0
    reveals: tuple[str, ...] = ()  # a sentence for each part of a secret value that requests reveal


@dataclass(frozen=True)
class Guarantee:
    """What a scheme promises of every region that it runs. Policies and the client decide by it what they allow."""

    encrypts: bool = True  # the server sees ciphertexts only
    hides_key: bool = True  # decrypted values reveal nothing about the secret key, so that policies may reveal some
    stateless: bool = False  # servers keep nothing between requests, not even keys: any of several may answer


class Backend(ABC):
    """A way to run secret regions at the server: a folder, and a line of `hecompile.backends.registry` or an entry point.

    It proposes pieces of a graph, brings the passes that lower its regions to two halves, checks, loads and describes halves, and
    predicts what they cost. Methods import what they need when they are called: a server calls `load_server` alone, and must import
    nothing that compiles or that can hold a secret key.
    """

    name: str
    guarantee: Guarantee = Guarantee()
    others: tuple[str, ...] = ()  # names of other backends whose regions its proposals may contain

    @property
    def options(self) -> type[Panel]:
        """The class of the panel with the backend's own options. It may also recommend options of other panels."""
        from hecompile.panels import NoOptions

        return NoOptions

    @property
    def runs_layers(self) -> bool:
        """Whether it runs single layers and prices them, so that a plan may choose a backend for each layer."""
        return type(self).price_layers is not Backend.price_layers

    @abstractmethod
    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        """The pieces of secret work that this backend can run, the best first, followed by what `context.propose` of others adds.

        Raises:
            CompileError: if the backend can run nothing of the model.
        """

    @abstractmethod
    def lowering(self, context: Context) -> Sequence[RegionPass]:
        """The passes that lower this backend's regions to halves, in order. After the last one every region is lowered."""

    def timestep_rows(self, rows: int) -> int:
        """How many rows a table over the timestep may have, if the model asks for `rows`."""
        return rows

    def carries(self, group: LayerGroup, security_bits: int) -> bool:
        """Whether some parameters carry a group of layers; if it has no weights, whether they do for any weights.

        Groups that are not carried are divided by their input channels, and the client adds up the results of the parts.
        """
        return True

    def price_layers(
        self, group: LayerGroup, machine: Machine, splits: Sequence[ChannelSplit] = (), batch: int = 1, calls: int = 1
    ) -> list[LayerPrice]:
        """The ways to run a group of layers, each with its cost; empty if there are none.

        Backends whose candidates are larger than a layer price those in `propose` instead.

        Args:
            splits: the splits of the input channels to price; empty means the group's own split.
            calls: calls of the model in a run, over which costs are averaged if the client keeps something; 1: it keeps nothing.
        """
        return []

    def price(self, half: ClientHalf, machine: Machine, batch: int) -> list[PartCost]:
        """The predicted cost of one request for a lowered region, part by part.

        Raises:
            CompileError: if the backend has no cost model.
        """
        raise CompileError(f"region '{half.program.get('region')}' is of backend '{self.name}', which has no cost model")

    @abstractmethod
    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        """A reason for everything in this half that gives less than `security_bits` bits of security; empty if there is nothing."""

    @abstractmethod
    def check_proofs(self, half: ServerHalf) -> list[str]:
        """A reason for every bound of a server's half that does not hold for its weights; empty if all hold."""

    def check(self, client: ClientHalf, server: ServerHalf, security_bits: int) -> list[Diagnostic]:
        """Every reason not to use a region. `security_bits` is 0 under policies that require no encryption."""
        reasons = self.check_security(client, security_bits) if security_bits else []
        return [Diagnostic(reason) for reason in (*reasons, *self.check_proofs(server))]

    @abstractmethod
    def describe(self, half: ClientHalf) -> Description:
        """A summary of a half, with everything that its requests reveal."""

    @abstractmethod
    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        """The inputs that requests carry in the clear, or that follow from what they carry. A client checks that all are public."""

    @abstractmethod
    def load_client(self, half: ClientHalf) -> RegionClient:
        """The client's half, ready to run. Raises `ProtocolError` if the half is not well-formed."""

    @abstractmethod
    def load_server(self, half: ServerHalf) -> RegionServer:
        """The server's half, ready to run. Raises `ProtocolError` if the half is not well-formed."""

    def load_shard(self, half: ServerHalf, index: int, count: int) -> RegionShard:
        """Shard `index` of `count` servers that compute the region together from the same requests.

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
        """The region computed in this process, with noise as the scheme would add it.

        Raises:
            CompileError: if the backend does not simulate its noise.
        """
        raise CompileError(
            Diagnostic(
                f"region '{client.program.get('region')}' is of backend '{self.name}', which has no simulation of its noise",
                help="compile with --backend clear (or ckks_clear): a simulation without noise",
            )
        )

    def measure(self, runs: int) -> Mapping[str, float]:
        """What the backend's operations take on this machine, by their fields of `Machine`: medians of `runs` runs.

        A backend of another package uses names of its own, and finds the values again in `Machine.other_backends`.
        """
        return {}


class SamplerStep(Backend):
    """A backend with one region, a sampler's own step. The region is no part of a model, and no pass makes it."""

    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        raise self._no_model()

    def lowering(self, context: Context) -> Sequence[RegionPass]:
        raise self._no_model()

    def _no_model(self) -> CompileError:
        return CompileError(
            Diagnostic(f"backend '{self.name}' runs a sampler's step, not a UNet", help="hecompile compile-sampler")
        )
