"""The `ckks` backend and its simulation: chains of layers and polynomials; single layers are left to `bfv`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hecompile.backends.base import Backend, Facts, RegionClient, RegionServer
from hecompile.backends.ckks.chains import LAYERS, chains
from hecompile.backends.ckks.document import document_of, read_document, read_tables
from hecompile.backends.ckks.engine import Engine
from hecompile.backends.ckks.judge_program import MOST_KEY_BYTES
from hecompile.backends.ckks.keys import key_sizes
from hecompile.backends.ckks.layout import INPUT_RANGE, OUTPUT_RANGE
from hecompile.backends.ckks.noise import SIGMAS, predict
from hecompile.backends.ckks.options import CkksOptions
from hecompile.backends.ckks.ranges import MOST_ERROR
from hecompile.backends.ckks.ring import DIMENSIONS
from hecompile.backends.ckks.rotations import MOST_ROTATIONS, least_bytes, within_keys
from hecompile.backends.program_io import judge_bytes
from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.halves import Half
from hecompile.ir.regions import AnyCall, SubgraphRegion
from hecompile.machine import Machine
from hecompile.options import CompileOptions

if TYPE_CHECKING:
    from hecompile.backends.ckks.lower import Lowering

__all__ = ["CkksBackend", "CkksClearBackend"]

LOG = logging.getLogger(__name__)


class CkksClearBackend(Backend):
    """Simulation: slot programs on plain vectors."""

    name = "ckks_clear"
    encrypts = False
    integer = False
    ranged = chains = True
    rest = "clear"
    options = CkksOptions

    def candidates(self, graph: ModelGraph, machine: Machine) -> list[Candidate]:
        return [Candidate(nodes, Cost(rounds=1), self.name) for nodes in chains(graph)]

    def price_chain(self, graph: ModelGraph, candidate: Candidate, machine: Machine) -> Candidate | None:
        """By lowering it as a region of its own, at 128 bits and with all keys."""
        from hecompile.backends.ckks.costs import cost_of
        from hecompile.ir.subgraph import cut

        nodes = set(candidate.nodes)
        region = SubgraphRegion(candidate.nodes[-1], self.name, *cut(graph, [node for node in graph.nodes if node.name in nodes]))
        try:
            half = self.lower(region, CompileOptions(backend=self.name, max_batch=1))[1]
        except CompileError as error:
            LOG.info("%s", error)
            return None
        document = read_document(half)
        cost = cost_of(document, read_tables(half, document), machine)
        return replace(candidate, cost=cost, depth=document.program.ring.depth)

    def lower(self, region: AnyCall, options: CompileOptions) -> tuple[Half, Half]:
        return self.lower_ranged(region, options, {})

    def lower_ranged(self, region: AnyCall, options: CompileOptions, ranges: Mapping[str, float]) -> tuple[Half, Half]:
        """Raises `CompileError` if values exceed what ciphertexts hold, no secure ring carries the chain, or errors are large."""
        from hecompile.backends.ckks.affine import read_chain
        from hecompile.backends.ckks.lower import lower_chain

        if not isinstance(region, SubgraphRegion):
            raise InternalError(f"region '{region.name}' is a single layer: not for backend '{self.name}'")
        _judge_ranges(region, ranges)
        chain = read_chain(region)
        layers = sum(str(node.target) in LAYERS for node in region.graph_module.graph.nodes) + len(chain.polynomials)
        dimension, problem = 0, ""
        while dimension < DIMENSIONS[-1]:
            lowering = lower_chain(chain, region.outputs, region.name, options.security, dimension + 1, ranges)
            dimension = lowering.program.ring.dimension
            lowering = _within_keys(lowering, region, options)
            bins = max(len(table) for name, table in lowering.tables.items() if not name.startswith("t"))
            timestep = chain.timestep if bins > 1 else None
            document = document_of(
                lowering, region.name, self.name, region.inputs, options.max_batch, timestep, bins, layers
            )  # fmt: skip
            server = Half(document, dict(lowering.tables))
            problem = self._noise_problem(server)
            if not problem:
                return Half(document, {}), server
        raise CompileError(
            Diagnostic(
                problem, source=chain_source(region), help="a lower --degree leaves more bits for each level; or use --backend bfv"
            )
        )

    def _noise_problem(self, half: Half) -> str:
        """Why the errors of CKKS may be larger than what an activation minds; empty if they may not."""
        document = read_document(half)
        tables = read_tables(half, document)
        for row in range(document.bins):
            for label, deviation in predict(document.program, tables, row).items():
                bound = SIGMAS * float(deviation.max())
                if not bound <= MOST_ERROR:
                    return f"region '{document.region}': {label} may be off by {bound:.3g}, more than {MOST_ERROR}"
        return ""

    def clear_inputs(self, half: Half) -> tuple[str, ...]:
        return read_document(half).inputs

    def check_security(self, half: Half, security_bits: int) -> list[str]:
        return [f"region '{read_document(half).region}' is not encrypted: backend '{self.name}' is a simulation"]

    def check_proofs(self, half: Half) -> list[str]:
        """Levels, scales, keys and tables of the slot program."""
        from hecompile.errors import ProtocolError

        document = read_document(half)
        try:
            inputs = dict.fromkeys((upload.name for upload in document.uploads), None)
            Engine(document.program, read_tables(half, document)).run(inputs)
        except ProtocolError as error:
            return [f"region '{document.region}': {error}"]
        return []

    def facts(self, half: Half) -> Facts:
        document = read_document(half)
        ring, mib = document.program.ring, sum(key_sizes(document.program).values()) / 2**20
        return Facts(layers=document.layers, parameters=f"{ring.name}, keys {mib:.1f} MiB")

    def load_client(self, half: Half) -> RegionClient:
        from hecompile.backends.ckks.simulation import SimulatedClient

        return SimulatedClient(read_document(half))

    def load_server(self, half: Half) -> RegionServer:
        from hecompile.backends.ckks.simulation import SimulatedServer

        document = read_document(half)
        return SimulatedServer(document, read_tables(half, document))


class CkksBackend(CkksClearBackend):
    """CKKS by SEAL. Needs sessions."""

    name = "ckks"
    encrypts = True
    exact = False
    rest = "bfv"

    def clear_inputs(self, half: Half) -> tuple[str, ...]:
        timestep = read_document(half).timestep
        return () if timestep is None else (timestep,)  # the row of its tables is sent

    def check_security(self, half: Half, security_bits: int) -> list[str]:
        document = read_document(half)
        reason = document.program.ring.insecure(security_bits)
        labels = ", ".join(sorted({op.label for op in document.program.ops if op.kind == "polynomial"}))
        return [f"region '{document.region}' (layers {labels}): {reason}: compile it again"] if reason else []

    def load_client(self, half: Half) -> RegionClient:
        from hecompile.backends.ckks.client import CkksClient
        from hecompile.backends.ckks.seal import context_of

        client, document = CkksClient(read_document(half)), read_document(half)
        context_of(document.program.ring)  # SEAL's own judgement
        judge_bytes(document.region, (client.request_bytes(document.max_batch), client.reply_bytes(document.max_batch)))
        return client

    def load_server(self, half: Half) -> RegionServer:
        from hecompile.backends.ckks.server import CkksServer

        document = read_document(half)
        return CkksServer(document, read_tables(half, document))


def chain_source(region: SubgraphRegion) -> str:
    """Where a region's first polynomial stands in the model's code."""
    from hecompile.backends.ckks.chains import POLYNOMIAL

    return next((info(node).source for node in region.graph_module.graph.nodes if str(node.target) == POLYNOMIAL), "")


def _within_keys(lowering: Lowering, region: SubgraphRegion, options: CompileOptions) -> Lowering:
    """The lowering with keys within the user's cap. Raises `CompileError` naming the layers if there is no such program."""
    most_mib = MOST_KEY_BYTES / 2**20 if options.key_mib is None else min(options.key_mib, MOST_KEY_BYTES / 2**20)
    program = within_keys(lowering.program, most_mib * 2**20)
    if program is not None:
        return replace(lowering, program=program)
    layers = ", ".join(dict.fromkeys(op.label for op in lowering.program.ops if op.kind == "polynomial"))
    raise CompileError(
        Diagnostic(
            f"region '{region.name}' (layers {layers}): its evaluation keys do not fit {most_mib:g} MiB without "
            f"{MOST_ROTATIONS} times the rotations",
            source=chain_source(region),
            help=f"--key-mib {least_bytes(lowering.program) / 2**20 + 0.05:.1f} or more, or --backend bfv, which needs no keys",
        )
    )


def _judge_ranges(region: SubgraphRegion, ranges: Mapping[str, float]) -> None:
    """Raises `CompileError` naming every input and output that is larger in calibration than a ciphertext holds."""
    limits = dict.fromkeys(region.inputs, INPUT_RANGE) | dict.fromkeys(region.outputs, OUTPUT_RANGE)
    pictures = {node.name for node in region.graph_module.graph.nodes if node.op != "placeholder" or info(node).shape}
    found = [
        Diagnostic(
            f"region '{region.name}': {name} reaches {ranges[name]:.3g} in calibration, ciphertexts hold it to {limit:g}",
            source=chain_source(region),
            help="keep the layer's norm exact (--norms exact), or use --backend bfv",
        )
        for name, limit in limits.items()
        if name in pictures and name in ranges and not ranges[name] <= limit
    ]
    if found:
        raise CompileError(found)
