"""Encrypted against the interpreted slot program: within the predicted bound; and what keys, sessions and damage lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.boundaries import error_ratios
from hecompile.backends.ckks.backend import CkksBackend
from hecompile.backends.ckks.document import read_document
from hecompile.backends.ckks.keys import key_sizes
from hecompile.backends.region_client import RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.compiler import Compiled
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.client import EncryptedUNet, InputError
from hecompile.runtime.service import load_service
from hecompile.runtime.transports import LocalTransport
from tests.backends.ckks.regions import polynomial_region, values
from tests.payloads import encrypt_whole

pytestmark = pytest.mark.fhe


@pytest.fixture(scope="module")
def halves(with_polynomials: Compiled) -> tuple[ClientHalf, ServerHalf]:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    return lowered.client, lowered.server


@pytest.fixture(scope="module")
def sides(halves: tuple[ClientHalf, ServerHalf]) -> tuple[RegionClient, RegionServer]:
    return CkksBackend().load_client(halves[0]), CkksBackend().load_server(halves[1])


@pytest.fixture(scope="module")
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture(scope="module")
def keys(sides: tuple[RegionClient, RegionServer], secrets: Secrets) -> Mapping[str, bytes]:
    return sides[0].evaluation_keys(secrets)


@pytest.fixture(scope="module")
def session(sides: tuple[RegionClient, RegionServer], keys: Mapping[str, bytes]) -> Session:
    return Session("0" * 32, {name: sides[1].load_key(name, memoryview(key)) for name, key in keys.items()})


@pytest.mark.promise("bounded-errors")
def test_errors_stay_within_the_predicted_bound(
    with_polynomials: Compiled,
    halves: tuple[ClientHalf, ServerHalf],
    sides: tuple[RegionClient, RegionServer],
    secrets: Secrets,
    session: Session,
) -> None:
    """Ten inputs with timesteps of their own; the bound is not idle either: errors reach a thousandth of it."""
    region, (client, server), ratios = polynomial_region(with_polynomials), sides, list[float]()
    for seed in range(10):
        inputs = values(with_polynomials, region, 1, seed)
        payload, pending = encrypt_whole(client, inputs, 1, secrets)
        assert len(payload) == client.request_bytes(1) == server.request_bytes(1)
        ratios += error_ratios(halves, inputs, client.decrypt(server.evaluate(payload, 1, session), pending))
    assert 1e-3 < max(ratios) <= 1


@pytest.mark.promise("told-at-the-end")
def test_values_out_of_range_end_a_run_with_an_error_that_names_layers(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client sees no argument of a polynomial, but what it made of it; the run goes on to its last message."""
    unet = EncryptedUNet(load_bundle(folder), LocalTransport(load_service(folder)))
    usual = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def run(*samples: torch.Tensor) -> None:
        with unet.run():
            for place, sample in enumerate(samples):
                unet(sample, 500.0 - place)

    run(usual)
    assert (unet.meter.out_of_range, caplog.text) == ({}, "")
    wrong = r"layers polynomial, polynomial_2\) left its own: .*--calibration.*result of this run is not usable"
    with pytest.raises(InputError, match=wrong):
        run(30 * usual / usual.abs().max(), usual)
    assert list(unet.meter.out_of_range.values()) == [1]
    with pytest.raises(InputError, match="is not usable"):
        run(torch.full_like(usual, 33.0))
    assert "'sample' left [-32, 32] and was clipped" in caplog.text
    unet.close()


@pytest.mark.promise("unrelated")
def test_equal_inputs_give_unrelated_requests(
    with_polynomials: Compiled, sides: tuple[RegionClient, RegionServer], secrets: Secrets
) -> None:
    inputs = values(with_polynomials, polynomial_region(with_polynomials), 1)
    first, second = (encrypt_whole(sides[0], inputs, 1, secrets)[0][24:] for _ in range(2))
    equal = np.mean(np.frombuffer(first, np.uint8) == np.frombuffer(second, np.uint8))
    assert equal < 0.02


def test_keys_are_no_longer_than_declared_and_all_there(halves: tuple[ClientHalf, ServerHalf], keys: Mapping[str, bytes]) -> None:
    sizes = key_sizes(read_document(halves[0]).body.program)
    assert set(keys) == set(sizes)
    assert all(0.9 * sizes[name] < len(key) <= sizes[name] for name, key in keys.items())


def test_regions_of_a_session_share_keys(sides: tuple[RegionClient, RegionServer], secrets: Secrets, keys: object) -> None:
    assert sides[0].evaluation_keys(secrets) == {}
    assert "hidden" in repr(secrets)


def test_calls_outside_a_session_are_refused(
    with_polynomials: Compiled, sides: tuple[RegionClient, RegionServer], secrets: Secrets, session: Session
) -> None:
    inputs = values(with_polynomials, polynomial_region(with_polynomials), 1)
    with pytest.raises(InternalError, match="outside a session"):
        encrypt_whole(sides[0], inputs, 1)
    payload, _ = encrypt_whole(sides[0], inputs, 1, secrets)
    with pytest.raises(ProtocolError, match=r"region 'call_01_ckks'.*no evaluation key.*open a new session"):
        sides[1].evaluate(payload, 1)
    missing = {name: key for name, key in session.keys.items() if "rotate" not in name}
    with pytest.raises(ProtocolError, match=r"region 'call_01_ckks'.*rotate.*open a new session"):
        sides[1].evaluate(payload, 1, replace(session, keys=missing))


@pytest.mark.promise("damaged-keys")
def test_keys_of_another_session_are_told(
    with_polynomials: Compiled, sides: tuple[RegionClient, RegionServer], session: Session
) -> None:
    other = Secrets()
    sides[0].evaluation_keys(other)
    payload, _ = encrypt_whole(sides[0], values(with_polynomials, polynomial_region(with_polynomials), 1), 1, other)
    with pytest.raises(ProtocolError, match=r"region 'call_01_ckks'.*keys of another session.*open a new session"):
        sides[1].evaluate(payload, 1, session)


@pytest.mark.promise("damaged-keys")
@pytest.mark.parametrize("damage", ["cut", "word", "header", "empty"])
def test_damaged_keys_are_refused(sides: tuple[RegionClient, RegionServer], keys: Mapping[str, bytes], damage: str) -> None:
    name = next(name for name in keys if "relin" in name)
    key = bytearray(keys[name])
    if damage == "cut":
        del key[-100:]
    elif damage == "word":
        key[len(key) // 2 : len(key) // 2 + 64] = b"\xff" * 64
    elif damage == "header":
        key[0] ^= 0xFF
    else:
        key = bytearray(b"x")
    with pytest.raises(ProtocolError, match=r"region 'call_01_ckks'.*relin.*damaged.*open a new session"):
        sides[1].load_key(name, memoryview(bytes(key)))


def test_words_above_their_prime_are_refused(
    with_polynomials: Compiled, sides: tuple[RegionClient, RegionServer], secrets: Secrets, session: Session
) -> None:
    payload, _ = encrypt_whole(sides[0], values(with_polynomials, polynomial_region(with_polynomials), 1), 1, secrets)
    with pytest.raises(ProtocolError, match="not below its prime"):
        sides[1].evaluate(payload[:24] + b"\xff" * (len(payload) - 24), 1, session)
    with pytest.raises(ProtocolError, match="bytes, expected"):
        sides[1].evaluate(payload[:-1], 1, session)


@pytest.mark.promise("damaged-keys")
def test_weaker_rings_are_refused_at_load(halves: tuple[ClientHalf, ServerHalf]) -> None:
    """The client judges by its own table, whoever compiled the artifact."""
    text = str(halves[0].program["text"]).replace("special 36", "special 58", 1)
    assert text != halves[0].program["text"]
    reasons = CkksBackend().check_security(ClientHalf(dict(halves[0].program) | {"text": text}, {}), 128)
    assert "less than 128 bits" in reasons[0]
    assert "layers" in reasons[0]
    assert CkksBackend().check_security(halves[0], 128) == []


def test_a_model_through_a_server_with_sessions(folder: Path) -> None:
    """Keys are sent once, also after the server forgot them; close() removes them; the traffic tells nothing of values."""
    service = load_service(folder)
    unet = EncryptedUNet(load_bundle(folder), LocalTransport(service))
    sample = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with unet.run():
        first = unet(sample, 500.0)
    assert (unet.meter.requests, len(service.sessions)) == (1, 1)
    assert service.key_limit > unet.meter.key_bytes > 1 << 20
    service.sessions.close(next(iter(service.sessions._entries)))
    with unet.run():
        second = unet(sample, 500.0)
    torch.testing.assert_close(first, second, atol=1e-2, rtol=0)
    assert not torch.equal(first, second)  # other keys, other errors
    unet.close()
    assert len(service.sessions) == 0
