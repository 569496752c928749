"""The `ckks` backend and its simulation `ckks_clear`: regions of several layers and polynomials. `bfv` runs single layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hecompile.backends.base import Backend, Description, Guarantee
from hecompile.backends.ckks.document import read_document, read_tables
from hecompile.backends.ckks.keys import key_sizes
from hecompile.backends.tensors import check_names
from hecompile.errors import ProtocolError

if TYPE_CHECKING:
    from hecompile.backends.context import Context
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.candidates import Candidate
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import ClientHalf, ServerHalf
    from hecompile.ir.passes import RegionPass
    from hecompile.ir.regions import AnyCall, Lowered, Program
    from hecompile.panels import Panel

__all__ = ["CkksBackend", "CkksClearBackend"]


class CkksClearBackend(Backend):
    """The backend `ckks_clear`, a simulation: it runs slot programs on plain vectors, without encryption."""

    name = "ckks_clear"
    guarantee = Guarantee(encrypts=False)
    others: tuple[str, ...] = ("clear",)

    @property
    def options(self) -> type[Panel]:
        from hecompile.backends.ckks.options import CkksOptions

        return CkksOptions

    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        """Propose regions of several layers and polynomials, then the single layers that the backends of `others` propose."""
        from hecompile.backends.ckks.candidates import region_nodes
        from hecompile.backends.ckks.regions import priced_candidate
        from hecompile.ir.candidates import Candidate, Cost

        own = [Candidate(nodes, Cost(rounds=1), self.name, whole=True) for nodes in region_nodes(graph)]
        if context.priced:
            priced = [priced_candidate(graph, candidate, context.machine) for candidate in own]
            own = [candidate for candidate in priced if candidate is not None]
        return own + [candidate for name in self.others for candidate in context.propose(name, graph)]

    def lowering(self, context: Context) -> Sequence[RegionPass]:
        from hecompile.backends.ckks.regions import lower_ckks_region
        from hecompile.backends.lower import Lower
        from hecompile.calibration.regions import value_ranges

        def halves(program: Program) -> Callable[[AnyCall], Lowered]:
            calls = program.approximation.validation.calls if program.approximation is not None else None
            ranges = value_ranges(program, calls)
            return lambda region: lower_ckks_region(region, context, ranges)

        return (Lower(self.name, halves, lambda half: self.describe(half).parameters),)

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return read_document(half).inputs

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        return [f"region '{read_document(half).region}' is not encrypted: backend '{self.name}' is a simulation"]

    def check_proofs(self, half: ServerHalf) -> list[str]:
        """Check levels, scales, rotation keys and tables of the slot program, and return the problems."""
        from hecompile.backends.ckks.engine import Engine

        document = read_document(half)
        try:
            inputs = dict.fromkeys((upload.name for upload in document.body.uploads), None)
            Engine(document.body.program, read_tables(half, document)).run(inputs)
        except ProtocolError as error:
            return [f"region '{document.region}': {error}"]
        return []

    def describe(self, half: ClientHalf) -> Description:
        document = read_document(half)
        ring, mib = document.body.program.ring, sum(key_sizes(document.body.program).values()) / 2**20
        return Description(layers=document.body.layers, parameters=f"{ring.name}, keys {mib:.1f} MiB")

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.ckks.simulation.client import SimulatedClient

        check_names(half, ())
        return SimulatedClient(read_document(half))

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.ckks.simulation.server import SimulatedServer

        document = read_document(half)
        return SimulatedServer(document, read_tables(half, document))


class CkksBackend(CkksClearBackend):
    """The backend `ckks`: encryption by SEAL. Clients open a session, in which the server has their evaluation keys."""

    name = "ckks"
    guarantee = Guarantee(hides_key=False)
    others = ("bfv",)

    def measure(self, runs: int) -> Mapping[str, float]:
        from hecompile.backends.ckks.measure import measure_ckks

        return measure_ckks(runs)

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        timestep = read_document(half).body.timestep
        return () if timestep is None else (timestep,)  # the server is told its bin

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        document = read_document(half)
        reason = document.body.program.ring.insecure(security_bits)
        labels = ", ".join(sorted({op.label for op in document.body.program.ops if op.kind == "polynomial"}))
        return [f"region '{document.region}' (layers {labels}): {reason}: compile it again"] if reason else []

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.ckks.client import CkksClient
        from hecompile.backends.ckks.seal import context_of
        from hecompile.backends.program_io import check_bytes

        check_names(half, ())
        client, document = CkksClient(read_document(half)), read_document(half)
        context_of(document.body.program.ring)  # raises if SEAL refuses the ring
        check_bytes(document.region, (client.request_bytes(document.max_batch), client.reply_bytes(document.max_batch)))
        return client

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.ckks.server import CkksServer

        document = read_document(half)
        return CkksServer(document, read_tables(half, document))
