"""One public seed for the requests of a run: the first brings it, later ones are answered by `b` alone, and it ends."""

from __future__ import annotations

import copy
import os
from functools import cache
from typing import Any

import numpy as np
import pytest

from hecompile.backends.bfv.backend import BfvBackend
from hecompile.backends.bfv.client import BfvClient
from hecompile.backends.bfv.messages import FIRST, LATER
from hecompile.backends.bfv.server import BfvServer
from hecompile.buffers import Buffer
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, ClientHalf, ServerHalf
from hecompile.ir.regions import AnyCall
from hecompile.options import CompileOptions
from tests.artifacts import compile_once
from tests.networks import Tiny, tiny_inputs
from tests.payloads import encrypt_whole
from tests.programs import program_of

REQUESTS = 3


@cache
def compiled() -> Compiled:
    return compile_once(Tiny, CompileOptions(max_batch=2), tiny_inputs())


def halves(requests: int = REQUESTS) -> tuple[AnyCall, ClientHalf, ServerHalf]:
    """The first region, its seeds serving so many requests."""
    region = next(iter(program_of(compiled()).calls.values()))
    assert region.lowered is not None
    program: dict[str, Any] = copy.deepcopy(dict(region.lowered.client.program))
    for layer in program["layers"]:
        layer["requests"] = requests
    return region, ClientHalf(program, region.lowered.client.tensors), ServerHalf(program, region.lowered.server.tensors)


def sides() -> tuple[AnyCall, BfvClient, BfvServer]:
    region, client_half, server_half = halves()
    client, server = BfvBackend().load_client(client_half), BfvBackend().load_server(server_half)
    assert isinstance(client, BfvClient)
    assert isinstance(server, BfvServer)
    return region, client, server


def values_of(region: AnyCall, batch: int, seed: int) -> list[Array]:
    rng, arrays = np.random.default_rng(seed), []
    for name in region.inputs:
        shape = program_of(compiled()).plan.value(name).shape
        arrays.append(rng.standard_normal([batch if dim == "B" else int(dim) for dim in shape]).astype(np.float32))
    return arrays


def exchanged(region: AnyCall, client: BfvClient, server: BfvServer, seed: int, batch: int = 1) -> tuple[bytes, Buffer]:
    """A request and its reply, after the values were compared with the reference."""
    values = values_of(region, batch, seed)
    payload, pending = encrypt_whole(client, values, batch)
    reply = server.evaluate(payload, batch)
    assert len(reply) == client.reply_size(pending)
    for got, want in zip(client.decrypt(reply, pending), region.reference(values), strict=True):
        np.testing.assert_array_equal(got, want)
    return payload, reply


@pytest.mark.promise("own-encryption")
def test_later_requests_of_a_run_are_smaller_and_as_exact() -> None:
    region, client, server = sides()
    client.start_run()
    exchanges = [exchanged(region, client, server, seed) for seed in range(2 * REQUESTS)]
    modes = [payload[0] for payload, _ in exchanges]
    assert modes == [FIRST, LATER, LATER] * 2  # a seed serves as many requests as it may, then comes another
    assert len(exchanges[0][0]) == client.request_bytes(1) == server.request_bytes(1)
    assert len(exchanges[0][1]) == client.reply_bytes(1)
    assert len(exchanges[1][0]) < len(exchanges[0][0])
    assert len(exchanges[1][1]) < 0.75 * len(exchanges[0][1])
    assert {len(payload) for payload, _ in exchanges[1:3]} == {len(exchanges[1][0])}


@pytest.mark.promise("own-encryption")
def test_a_seed_ends_with_its_run() -> None:
    region, client, server = sides()
    assert [exchanged(region, client, server, seed)[0][0] for seed in range(2)] == [FIRST, FIRST]  # no run, no seed that is kept
    client.start_run()
    first = exchanged(region, client, server, 2)[0]
    client.start_run()
    second = exchanged(region, client, server, 3)[0]
    assert first[0] == second[0] == FIRST


def test_no_answer_no_later_request() -> None:
    """Without the first request's answer there is nothing that later answers could be read with."""
    region, client, server = sides()
    client.start_run()
    lost, _ = encrypt_whole(client, values_of(region, 1, 0), 1)
    assert lost[0] == exchanged(region, client, server, 1)[0][0] == FIRST
    assert exchanged(region, client, server, 2)[0][0] == LATER


def test_answers_come_to_the_seeds_that_they_were_asked_with() -> None:
    """With two first requests under way, the answer to the older one is not kept for the seeds of the newer one."""
    region, client, server = sides()
    client.start_run()
    values = [values_of(region, 1, seed) for seed in range(2)]
    (old, old_pending), (new, new_pending) = (encrypt_whole(client, sample, 1) for sample in values)
    for payload, pending, inputs in ((new, new_pending, values[1]), (old, old_pending, values[0])):
        for got, want in zip(client.decrypt(server.evaluate(payload, 1), pending), region.reference(inputs), strict=True):
            np.testing.assert_array_equal(got, want)
    assert exchanged(region, client, server, 2)[0][0] == LATER


def test_another_batch_has_another_seed() -> None:
    region, client, server = sides()
    client.start_run()
    for batch, mode in ((1, FIRST), (2, FIRST), (2, LATER), (1, FIRST)):
        assert exchanged(region, client, server, batch, batch)[0][0] == mode


def test_secrets_are_fresh_in_every_request_of_a_run() -> None:
    """The same picture under the same `a`: were a secret drawn once for the run, the words would differ by errors alone."""
    region, client, server = sides()
    client.start_run()
    bodies = [exchanged(region, client, server, 0)[0] for _ in range(REQUESTS)]
    later = [np.frombuffer(body[1:], np.uint8) for body in bodies[1:]]
    assert abs((later[0] == later[1]).mean() - 1 / 256) < 0.01


def test_a_run_does_not_cross_a_fork() -> None:
    region, client, server = sides()
    client.start_run()
    exchanged(region, client, server, 0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(exchanged(region, client, server, 1)[0][0] != FIRST)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert exchanged(region, client, server, 2)[0][0] == LATER


def test_what_is_neither_first_nor_later_is_refused() -> None:
    region, client, server = sides()
    client.start_run()
    first = exchanged(region, client, server, 0)[0]
    later = exchanged(region, client, server, 1)[0]
    for payload in (b"", b"\x02" + first[1:], bytes([LATER]) + first[1:], bytes([FIRST]) + later[1:], first[:-1], later + b"\0"):
        with pytest.raises(ProtocolError):
            server.evaluate(payload, 1)


@pytest.mark.promise("own-encryption", "128-bits")
def test_a_run_beyond_the_security_bits_is_refused() -> None:
    """Every request of a run counts: as many secrets stand under one `a`."""
    _, allowed, _ = halves(REQUESTS)
    assert BfvBackend().check_security(allowed, 128) == []
    _, beyond, _ = halves(1 << 20)
    assert any("128 bits" in reason for reason in BfvBackend().check_security(beyond, 128))
