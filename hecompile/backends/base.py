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
from types import MappingProxyType
from typing import TYPE_CHECKING

from hecompile.errors import CompileError, Diagnostic, InternalError

if TYPE_CHECKING:
    from hecompile.backends.region_client import Array, RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.candidates import Candidate, Cost
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import Half
    from hecompile.ir.layer_groups import Stack
    from hecompile.ir.products import AnyProduct, QuantizedProduct
    from hecompile.ir.regions import AnyCall, Lowered
    from hecompile.machine import Machine
    from hecompile.options import CompileOptions

__all__ = ["Backend", "Facts"]


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
    defaults: Mapping[str, object] = MappingProxyType({})  # options of compiling, where activations and norms were left exact

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
