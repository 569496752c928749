"""One suite for every backend, own, registered or installed: a new one is covered by its name, which `-k NAME` selects.

`tests/backends/conformance.py` says what each runs and how far its results may be from the reference's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hecompile.backends.base import Backend, SamplerStep
from hecompile.backends.registry import backend, backend_names, backend_of, family
from hecompile.errors import CompileError, HecompileError, InternalError, ProtocolError
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.passes import RegionPass
from hecompile.machine import Machine
from hecompile.panels import declared
from hecompile.policies import policy
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.service import load_service
from tests.backends.conformance import ROWS, Case, Piece, case_of, names
from tests.payloads import encrypt_whole
from tests.programs import program_of

Parts = dict[str, Any]


@pytest.fixture(scope="module", params=names())
def case(request: pytest.FixtureRequest) -> Case:
    """Any backend."""
    return case_of(request.param)


@pytest.fixture(scope="module", params=names(models=True))
def model(request: pytest.FixtureRequest) -> Case:
    """A backend that runs parts of models."""
    return case_of(request.param)


def reveals_entries(piece: Piece) -> bool:
    """Whether sizes depend on what is revealed; the declared ones are then the largest."""
    return piece.backend.describe(piece.client_half).reveals != ()


# what a request gives


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_every_region_gives_the_references_results(case: Case, batch: int) -> None:
    """Bit for bit, or within the tolerance that the table states."""
    for piece in case.pieces:
        answer = piece.answer(min(batch, piece.client.max_batch))
        for got, want in zip(answer.outputs, piece.reference(answer.values), strict=True):
            if case.row.tolerance:
                np.testing.assert_allclose(got, want, rtol=0, atol=case.row.tolerance * np.abs(want).max())
            else:
                np.testing.assert_array_equal(got, want)


def test_sizes_are_those_that_both_halves_declare(case: Case) -> None:
    for piece in case.pieces:
        assert piece.client.max_batch == piece.server.max_batch
        for batch in range(1, piece.client.max_batch + 1):
            answer, largest = piece.answer(batch), piece.client.request_bytes(batch)
            assert piece.server.request_bytes(batch) == largest
            assert len(answer.payload) <= largest if reveals_entries(piece) else len(answer.payload) == largest
            assert len(answer.reply) == piece.client.reply_size(answer.pending)
            assert len(answer.reply) <= piece.client.reply_bytes(batch)
            assert reveals_entries(piece) or len(answer.reply) == piece.client.reply_bytes(batch)


def test_results_are_float32_under_the_declared_names(case: Case) -> None:
    for piece in case.pieces:
        assert len(piece.client.inputs) == len(piece.answer(1).values)
        assert len(piece.client.outputs) == len(piece.answer(1).outputs)
        assert all(output.dtype == np.float32 for output in piece.answer(1).outputs)


def test_an_element_does_not_depend_on_its_neighbours(model: Case) -> None:
    """Bit for bit; where noise is of the scheme, within twice the tolerance."""
    for piece in model.pieces:
        together = piece.answer(piece.client.max_batch)
        firsts = zip(together.values, piece.batched, strict=True)
        alone = piece.ask([value[: len(value) // piece.client.max_batch] if own else value for value, own in firsts], 1)
        for one, all_of_them in zip(alone.outputs, together.outputs, strict=True):
            first = all_of_them[: len(one)]
            atol = 2 * model.row.tolerance * np.abs(first).max() if model.row.noisy else 0
            np.testing.assert_allclose(one, first, rtol=0, atol=atol)


@pytest.mark.promise("same-sizes")
@pytest.mark.parametrize("fill", [0.0, 3e38, 1e-45, np.nan, np.inf])
def test_odd_values_go_through_with_the_same_sizes(case: Case, fill: float) -> None:
    piece = case.piece
    odd = [np.full_like(value, fill) if own else value for value, own in zip(piece.draw(1), piece.batched, strict=True)]
    if case.row.refuses and fill > 1:
        assert len(encrypt_whole(piece.client, odd, 1)[0]) == piece.client.request_bytes(1)
        with pytest.raises(ProtocolError, match=case.row.refuses):
            piece.ask(odd, 1)
        return
    answer = piece.ask(odd, 1)
    assert len(answer.payload) == piece.client.request_bytes(1) or reveals_entries(piece)
    assert len(answer.reply) == piece.client.reply_size(answer.pending)
    assert all(output.dtype == np.float32 for output in answer.outputs)


# what is refused


def broken(data: bytes) -> Iterator[bytes]:
    """Shorter, longer, or nothing."""
    yield from (data[:-1], data + b"\0", b"")


def test_payloads_of_a_wrong_size_are_refused(case: Case) -> None:
    for piece in case.pieces:
        for wrong in broken(piece.answer(1).payload):
            with pytest.raises(ProtocolError):
                piece.server.evaluate(wrong, 1, piece.session)


def test_replies_of_a_wrong_size_are_refused(case: Case) -> None:
    for piece in case.pieces:
        for wrong in broken(piece.answer(1).reply):
            with pytest.raises(ProtocolError):
                piece.client.decrypt(wrong, piece.answer(1).pending)


def test_batches_out_of_range_are_refused(case: Case) -> None:
    for piece in case.pieces:
        for batch in (-1, 0, piece.server.max_batch + 1):
            with pytest.raises(ProtocolError):
                piece.server.evaluate(piece.answer(1).payload, batch, piece.session)


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key within a document."""
    for key in list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ():
        yield document, key
        yield from places(document[key])


def findings(document: Parts, client: Parts, server: Parts, security_bits: int | None = None) -> list[str]:
    """Why halves with this document and these tensors are not to be used: refused at load, or found by a check."""
    halves = ClientHalf(document, client), ServerHalf(document, server)
    try:
        scheme = backend_of(halves[0])
        loaded = scheme.load_client(halves[0]), scheme.load_server(halves[1])
        assert loaded[0].inputs
        own = 128 if scheme.guarantee.encrypts else 0
        return [finding.message for finding in scheme.check(*halves, own if security_bits is None else security_bits)]
    except ProtocolError as error:
        return [str(error)]


def of(piece: Piece) -> tuple[Parts, Parts, Parts]:
    """Copies of what the halves hold."""
    document: Parts = json.loads(json.dumps(dict(piece.client_half.program)))
    return document, dict(piece.client_half.tensors), dict(piece.server_half.tensors)


def test_what_was_compiled_is_loaded_and_no_check_finds_anything(case: Case) -> None:
    for piece in case.pieces:
        assert findings(*of(piece)) == []


def test_both_halves_hold_one_document(case: Case) -> None:
    for piece in case.pieces:
        assert json.dumps(dict(piece.client_half.program)) == json.dumps(dict(piece.server_half.program))


def test_a_backend_of_another_name_does_not_take_the_halves(case: Case) -> None:
    """Simulations say that they do not encrypt, others refuse what is not theirs."""
    for name in {*backend_names(), "nothing"} - {case.name, case.row.same_halves}:
        document, client, server = of(case.piece)
        assert findings(document | {"backend": name}, client, server, 128), name


def test_a_number_that_makes_no_sense_is_refused(case: Case) -> None:
    document = of(case.piece)[0]
    numbers = [place for place, (node, key) in enumerate(places(document)) if type(node[key]) in (int, float)]
    for place in numbers:
        document, client, server = of(case.piece)
        node, key = list(places(document))[place]
        node[key] = 10**30
        assert findings(document, client, server), key


def test_a_missing_or_a_foreign_field_is_refused(case: Case) -> None:
    for field in of(case.piece)[0]:
        document, client, server = of(case.piece)
        del document[field]
        assert findings(document, client, server), field
    document, client, server = of(case.piece)
    assert findings(document | {"foreign": 1}, client, server)


def test_a_missing_a_foreign_or_a_changed_tensor_is_refused(case: Case) -> None:
    document, client, server = of(case.piece)
    more = {"foreign": np.zeros(3)}
    assert findings(document, client | more, server)
    assert findings(document, client, server | more)
    for own, changed in ((client, lambda tensors: (tensors, server)), (server, lambda tensors: (client, tensors))):
        for name, tensor in own.items():
            without = {key: value for key, value in own.items() if key != name}
            assert findings(document, *changed(without)), name
            for wrong in (tensor[:0], tensor.astype(np.int16), np.broadcast_to(tensor, (7, *tensor.shape))):
                assert findings(document, *changed(without | {name: wrong})), name


# what a backend says of itself


def test_a_half_is_described(case: Case) -> None:
    for piece in case.pieces:
        description = piece.backend.describe(piece.client_half)
        assert description.layers > 0
        assert description.parameters
        assert description.noise_bits <= description.budget_bits or not description.budget_bits


def test_nothing_is_revealed_under_strict(model: Case) -> None:
    for piece in model.pieces:
        assert piece.backend.describe(piece.client_half).reveals == ()


def test_inputs_in_clear_are_inputs(case: Case) -> None:
    for piece in case.pieces:
        assert set(piece.backend.clear_inputs(piece.client_half)) <= set(piece.client.inputs)


def test_a_backend_that_does_not_encrypt_says_so(case: Case) -> None:
    """Whoever needs encryption is told by the check, and by the policy."""
    for piece in case.pieces:
        told = piece.backend.check_security(piece.client_half, 128)
        assert (told == []) is piece.backend.guarantee.encrypts
        assert policy("strict").allows_backend(piece.backend) is piece.backend.guarantee.encrypts


def test_a_request_has_a_price_or_there_is_no_cost_model(case: Case) -> None:
    for piece in case.pieces:
        if type(piece.backend).price is Backend.price:
            with pytest.raises(CompileError, match="has no cost model"):
                piece.backend.price(piece.client_half, Machine(), 1)
            continue
        costs = [part.cost for part in piece.backend.price(piece.client_half, Machine(), 1)]
        assert costs
        assert all(cost.server_s > 0 and cost.client_s > 0 and cost.up_bytes > 0 and cost.down_bytes > 0 for cost in costs)


def test_options_say_what_they_do(case: Case) -> None:
    assert case.backend.options() == case.backend.options()
    assert all(option.help for option in declared(case.backend.options).values())


def test_names_agree(case: Case) -> None:
    assert case.backend.name == case.name
    assert {piece.client_half.program["backend"] for piece in case.pieces} == {case.name}


# how it takes part in compiling


def test_it_runs_something_of_its_network(model: Case) -> None:
    assert model.pieces
    assert {region.backend for region in program_of(model.program).calls.values()} <= set(family((model.name,)))


def test_what_it_proposes_is_of_the_graph_and_of_its_family(model: Case) -> None:
    candidates = model.backend.propose(model.graph, model.context)
    assert any(candidate.backend == model.name for candidate in candidates)
    nodes = {node.name for node in model.graph.nodes}
    for candidate in candidates:
        assert candidate.nodes
        assert nodes.issuperset(candidate.nodes)
        assert candidate.backend in family((model.name,))
        assert candidate.depth >= 1


def test_its_passes_have_names_and_change_its_own_regions(model: Case) -> None:
    steps = model.backend.lowering(model.context)
    assert steps
    assert all(isinstance(step, RegionPass) and step.backend == model.name and step.help for step in steps)
    done = [record.name for record in model.program.passes]
    places = [done.index(step.name) for step in steps]
    assert places == sorted(set(places))


def test_a_samplers_step_runs_nothing_of_a_model() -> None:
    for name in backend_names():
        scheme = backend(name)
        if isinstance(scheme, SamplerStep):
            graph, context = case_of("clear").graph, case_of("clear").context
            with pytest.raises(CompileError, match="runs a sampler's step"):
                scheme.propose(graph, context)
            with pytest.raises(CompileError, match="runs a sampler's step"):
                scheme.lowering(context)


# keys, and what each side needs


def test_both_halves_declare_the_same_keys(case: Case) -> None:
    for piece in case.pieces:
        assert dict(piece.client.key_sizes()) == dict(piece.server.key_sizes())
        assert set(piece.keys) == set(piece.client.key_sizes())
        assert all(0 < len(key) <= piece.client.key_sizes()[name] for name, key in piece.keys.items())


def test_loaded_keys_take_memory_that_is_told(case: Case) -> None:
    for piece in case.pieces:
        assert all(piece.server.held_bytes(name) > 0 for name in (piece.session.keys if piece.session else ()))


def test_calls_outside_a_session_are_refused_where_there_are_keys(case: Case) -> None:
    for piece in case.pieces:
        if piece.keys:
            with pytest.raises(ProtocolError, match="session"):
                piece.server.evaluate(piece.answer(1).payload, 1)
            with pytest.raises(InternalError):
                piece.client.encrypt(piece.draw(1), 1)


def test_keys_that_are_none_are_refused(case: Case) -> None:
    for piece in case.pieces:
        for name, key in piece.keys.items():
            for wrong in (b"", key[:-8], b"\xff" * len(key)):
                with pytest.raises(ProtocolError):
                    piece.server.load_key(name, memoryview(wrong))


def test_secrets_do_not_show(case: Case) -> None:
    for piece in case.pieces:
        assert repr(piece.answer(1).pending).endswith("(hidden)")
        assert repr(piece.secrets) == "Secrets(hidden)"


def test_each_side_loads_without_the_others_files(model: Case, tmp_path: Path) -> None:
    ends = "strict" if model.backend.guarantee.encrypts else "simulation"
    for side in ("client", "server"):
        shutil.copytree(model.artifact, tmp_path / side)
        shutil.rmtree(tmp_path / side / ("server" if side == "client" else "client"))
    bundle = load_bundle(tmp_path / "client", ends, backends=[model.name])
    assert set(load_service(tmp_path / "server").regions) == set(bundle.calls)


# the suite itself, and names


def test_the_table_names_backends_that_exist() -> None:
    assert set(ROWS) <= set(backend_names())


def test_a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(HecompileError, match=r"known: .*bfv, .*clear"):
        backend("nothing")
