"""What the conformance suite runs of each backend: a small network, its regions with both halves open, and requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half, read_server_half
from hecompile.artifact_server import read_server
from hecompile.backends.base import Backend, SamplerStep
from hecompile.backends.context import Context
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.backends.registry import backend, backend_names, proposals
from hecompile.compiler import Compiled, compile_model
from hecompile.ir.graph import ModelGraph
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.linear import Array
from hecompile.options import CompileOptions
from tests.artifacts import compile_once, shared
from tests.backends.ckks.network import WithPolynomials
from tests.backends.ckks.network import compiled as compiled_with_polynomials
from tests.backends.concrete.test_lookups import EXAMPLE as LOOKUPS_EXAMPLE
from tests.backends.concrete.test_lookups import ConvSiluConv
from tests.backends.concrete.test_stacks import EXAMPLE as TIMED_EXAMPLE
from tests.backends.concrete.test_stacks import Timed
from tests.networks import Tiny, tiny_inputs
from tests.payloads import encrypt_whole
from tests.programs import program_of
from tests.sampling import artifact as sampler_artifact

Inputs = Mapping[str, torch.Tensor]
POLYNOMIALS_EXAMPLE = {"sample": torch.zeros(2, 1, 4, 4), "timestep": torch.tensor(500.0)}


@dataclass(frozen=True)
class Row:
    """What differs for a backend. One without a row runs the default: `Tiny`, and the reference's results bit for bit."""

    network: Callable[[], torch.nn.Module] = Tiny
    inputs: Inputs = field(default_factory=tiny_inputs)
    max_batch: int = 3
    tolerance: float = 0.0  # of a result, as a share of the largest
    noisy: bool = False  # whether the same request has another result each time
    same_halves: str = ""  # the backend whose halves are the same
    refuses: str = ""  # why values far out of range end a simulation with an error
    marks: Sequence[pytest.MarkDecorator] = ()


fhe, slow = pytest.mark.fhe, pytest.mark.slow
ROWS: Mapping[str, Row] = {
    "bfv": Row(),
    "clear": Row(),
    # scales of 28 bits; `ckks/test_encrypted.py` has the predicted bound
    "ckks": Row(WithPolynomials, POLYNOMIALS_EXAMPLE, 3, 1e-2, noisy=True, marks=[fhe]),
    # float32 at both sides, times the polynomials' slopes
    "ckks_clear": Row(WithPolynomials, POLYNOMIALS_EXAMPLE, 3, 2e-4, same_halves="ckks", refuses="its polynomial is valid up to"),
    "concrete": Row(marks=[fhe]),
    "concrete_lookups": Row(ConvSiluConv, LOOKUPS_EXAMPLE, 2, 0.2, marks=[fhe, slow]),  # values of five bits, in two stages
    "concrete_stacks": Row(Timed, TIMED_EXAMPLE, 2, 0.02, marks=[fhe]),  # inputs of some seven bits
    "sampler_step": Row(tolerance=2e-3),  # x and e of twelve bits
}


def names(*, models: bool = False) -> list[Any]:
    """Every backend as a test's parameter; with `models` those that run parts of models."""
    listed = [name for name in backend_names() if not (models and isinstance(backend(name), SamplerStep))]
    return [pytest.param(name, marks=ROWS.get(name, Row()).marks) for name in listed]


@dataclass(frozen=True)
class Answer:
    """One request with its reply, and what came of it."""

    values: Sequence[Array]
    payload: bytes
    reply: bytes
    pending: Pending
    outputs: Sequence[Array]


@dataclass(frozen=True, eq=False)
class Piece:
    """A region of a backend with both halves open."""

    backend: Backend
    client_half: ClientHalf
    server_half: ServerHalf
    draw: Callable[[int], list[Array]]  # inputs of a batch
    reference: Callable[[Sequence[Array]], list[Array]]
    batched: Sequence[bool]  # whether an input has an entry for each element
    secrets: Secrets = field(default_factory=Secrets)
    answers: dict[int, Answer] = field(default_factory=dict)

    @cached_property
    def client(self) -> RegionClient:
        return self.backend.load_client(self.client_half)

    @cached_property
    def server(self) -> RegionServer:
        return self.backend.load_server(self.server_half)

    @cached_property
    def keys(self) -> Mapping[str, bytes]:
        """The evaluation keys, as they travel."""
        return self.client.evaluation_keys(self.secrets) if self.client.key_sizes() else {}

    @cached_property
    def session(self) -> Session | None:
        """A session with the keys that the region declares; None for those that declare none."""
        if not self.keys:
            return None
        return Session("0" * 32, {name: self.server.load_key(name, memoryview(data)) for name, data in self.keys.items()})

    def ask(self, values: Sequence[Array], batch: int) -> Answer:
        """The answer to a request of these values."""
        session = self.session
        payload, pending = encrypt_whole(self.client, values, batch, self.secrets if session else None)
        reply = bytes(self.server.evaluate(payload, batch, session))
        return Answer(values, payload, reply, pending, self.client.decrypt(reply, pending))

    def answer(self, batch: int) -> Answer:
        """The answer to drawn values, asked for once."""
        if batch not in self.answers:
            self.answers[batch] = self.ask(self.draw(batch), batch)
        return self.answers[batch]


@dataclass(frozen=True, eq=False)
class Case:
    """A backend with a small network that it takes, compiled."""

    name: str
    row: Row
    artifact: Path
    pieces: Sequence[Piece]
    compiled: Compiled | None = None

    @property
    def backend(self) -> Backend:
        return backend(self.name)

    @property
    def piece(self) -> Piece:
        """One of them, for what is the same for all."""
        return self.pieces[0]

    @property
    def program(self) -> Compiled:
        """What was compiled, for backends that run models."""
        assert self.compiled is not None
        return self.compiled

    @cached_property
    def context(self) -> Context:
        """What the backend is told when it proposes and lowers."""
        options = CompileOptions(backend=self.name, max_batch=self.row.max_batch)
        return Context(max_batch=self.row.max_batch, panels=options.backend_panels(), proposals=proposals)

    @cached_property
    def graph(self) -> ModelGraph:
        """The network as it is before its layers are shared out."""
        options = CompileOptions(backend=self.name, max_batch=self.row.max_batch)
        model = self.row.network().eval()
        compiled = compile_model(model, options=options, example_inputs=dict(self.row.inputs), until="approximate-activations")
        assert isinstance(compiled.program, ModelGraph)
        return compiled.program


@cache
def case_of(name: str) -> Case:
    """The backend's case, compiled once."""
    row = ROWS.get(name, Row())
    if isinstance(backend(name), SamplerStep):
        return _sampler_case(name, row)
    if row.network is WithPolynomials:
        compiled = compiled_with_polynomials(name)[0]
    else:
        compiled = compile_once(row.network, CompileOptions(backend=name, max_batch=row.max_batch), row.inputs)
    assert compiled.artifact is not None
    return Case(name, row, compiled.artifact, _pieces(name, row, compiled), compiled)


def _pieces(name: str, row: Row, compiled: Compiled) -> list[Piece]:
    """The backend's own regions of a model. Their inputs are what the network makes of noise, so that ranges hold."""
    pieces = []

    @cache
    def values(batch: int) -> Mapping[str, Array]:
        rng, inputs = np.random.default_rng(batch), dict[str, Array]()
        for spec in compiled.program.inputs:
            shape = program_of(compiled).plan.value(spec.name).at(batch)
            drawn = rng.standard_normal(shape) if spec.name in row.inputs and spec.name != "timestep" else np.full(shape, 31.0)
            inputs[spec.name] = np.asarray(drawn, np.float32)
        return program_of(compiled).run(inputs)

    for region in program_of(compiled).calls.values():
        if region.backend == name:
            assert region.lowered is not None

            def draw(batch: int, inputs: Sequence[str] = region.inputs) -> list[Array]:
                return [np.asarray(values(batch)[source]) for source in inputs]

            shapes = [program_of(compiled).plan.value(source).shape for source in region.inputs]
            batched = [bool(shape) and isinstance(shape[0], str) for shape in shapes]
            halves = region.lowered
            pieces.append(Piece(backend(name), halves.client, halves.server, draw, region.reference, batched))
    return pieces


def _sampler_case(name: str, row: Row) -> Case:
    """A sampler's step on pictures of 16x16."""
    shape = (1, 16, 16)

    def build(folder: Path) -> Path:
        sampler_artifact(folder, shape)
        return folder

    def draw(batch: int) -> list[Array]:
        x, e = np.random.default_rng(batch).standard_normal((2, batch, *shape))
        return [x, e, np.array([500.0, 1.02, -0.05])]

    def reference(values: Sequence[Array]) -> list[Array]:
        x, e, (_, f, g) = values
        return [f * x + g * e]

    folder = shared("sampler of 16x16", build)
    client = read_client_half(folder, read_manifest(folder).files, "client/sampler")
    manifest, _, root = read_server(folder / "server")
    server = read_server_half(root, manifest.files, "sampler")
    return Case(name, row, folder, [Piece(backend(name), client, server, draw, reference, [True, True, False])])
