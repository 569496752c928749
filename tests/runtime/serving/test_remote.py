"""A region whose payloads others evaluate: what reaches them, and what becomes of their replies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from hecompile.backends.registry import backend
from hecompile.compiler import Compiled
from hecompile.errors import CompileError, ProtocolError
from hecompile.runtime.service import Service, load_service
from hecompile.runtime.serving.remote import RemoteRegion
from hecompile.runtime.serving.replica import Replica, WorkerDescription, WorkerRefusal, check_stateless
from hecompile.runtime.wire import pack_request
from tests.runtime.test_server import good_body
from tests.sampling import artifact as sampler_artifact


class Here:
    """Workers in this process, one of each shard, which note what they get."""

    def __init__(self, folder: Path, shards: int) -> None:
        self.replicas = [Replica(str(folder), index, shards) for index in range(shards)]
        self.given: list[tuple[object, ...]] = []

    def described(self) -> WorkerDescription:
        description = asyncio.run(self.replicas[0].describe())
        assert isinstance(description, WorkerDescription)
        return description

    def evaluate(self, shards: Sequence[int], region: str, payload: bytes, batch: int) -> dict[int, bytes | WorkerRefusal]:
        self.given.append((region, payload, batch))
        return {index: asyncio.run(self.replicas[index].evaluate(region, payload, batch)) for index in shards}

    def service(self) -> Service:
        described = self.described()
        regions = {name: RemoteRegion(name, region, self) for name, region in described.regions.items()}
        return Service("Tiny", described.digest, True, regions)


@pytest.fixture(params=[1, 2])
def here(tiny: Compiled, request: pytest.FixtureRequest) -> Here:
    assert tiny.artifact is not None
    return Here(tiny.artifact, request.param)


@pytest.fixture(scope="module")
def alone(tiny: Compiled) -> Service:
    assert tiny.artifact is not None
    return load_service(tiny.artifact)


def test_workers_give_the_bytes_of_one_server(here: Here, alone: Service, tiny: Compiled) -> None:
    service, body = here.service(), good_body(tiny)
    assert service.body_limit == alone.body_limit
    assert service.answer(alone.digest, "call_01", body) == alone.answer(alone.digest, "call_01", body)


@pytest.mark.promise("workers")
def test_workers_get_bytes_our_own_name_and_a_number(here: Here, tiny: Compiled) -> None:
    service = here.service()
    service.answer(service.digest, "call_01", bytearray(good_body(tiny)))
    region, payload, batch = here.given[0]
    assert region in service.regions
    assert [type(argument) for argument in (region, payload, batch)] == [str, bytes, int]


@pytest.mark.promise("workers")
@pytest.mark.parametrize(
    "body", [b"", b"\x00", b"\xff\xff\xff", b"".join(pack_request(99, [b"x"])), b"".join(pack_request(1, [])) + b"!"]
)
def test_what_is_no_request_reaches_no_worker(here: Here, body: bytes) -> None:
    service = here.service()
    with pytest.raises(ProtocolError):
        service.answer(service.digest, "call_01", body)
    with pytest.raises(ProtocolError, match="no region"):
        service.check_request(service.digest, "call_99")
    assert here.given == []


def test_a_workers_refusal_is_told_with_its_status(here: Here, alone: Service) -> None:
    service, body = here.service(), b"".join(pack_request(1, [b"short"]))
    with pytest.raises(ProtocolError) as told:
        alone.answer(alone.digest, "call_01", body)
    with pytest.raises(ProtocolError) as refused:
        service.answer(service.digest, "call_01", body)
    assert (str(refused.value), refused.value.status) == (str(told.value), told.value.status)


def test_a_worker_that_cannot_load_says_why(tmp_path: Path) -> None:
    description = asyncio.run(Replica(str(tmp_path), 0, 1).describe())
    assert isinstance(description, WorkerRefusal)
    assert "no artifact here" in description.reason


def test_backends_that_may_keep_something_of_clients_are_refused(tmp_path: Path) -> None:
    sampler_artifact(tmp_path / "sampler.he")
    with pytest.raises(CompileError, match="servers may store something for a client"):
        check_stateless(tmp_path / "sampler.he")


def test_a_stateless_artifact_is_told_without_its_weights(tiny: Compiled, alone: Service) -> None:
    assert tiny.artifact is not None
    assert check_stateless(tiny.artifact) == ("Tiny", alone.digest, True)


@pytest.mark.parametrize(("name", "stateless"), [("bfv", True), ("clear", True), ("ckks", False), ("concrete", False)])
def test_which_backends_are_stateless(name: str, stateless: bool) -> None:
    assert backend(name).guarantee.stateless is stateless
