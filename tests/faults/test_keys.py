"""Keys that are not what their names say are refused when they come, and the server goes on."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.ckks import server
from hecompile.backends.ckks.document import SlotDocument, read_document
from hecompile.backends.ckks.keys import galois_element, relin_name, rotation_name
from hecompile.backends.ckks.ring import CkksRing
from hecompile.backends.ckks.secret import SecretKey
from hecompile.backends.region_client import RegionClient, Secrets
from hecompile.backends.registry import backend
from hecompile.backends.seal_files import header
from hecompile.errors import ProtocolError
from hecompile.ir.linear import Array
from hecompile.runtime.service import load_service
from hecompile.runtime.wire import pack_keys, pack_request
from tests.backends.ckks.network import compiled
from tests.payloads import encrypt_whole

pytestmark = [pytest.mark.fhe, pytest.mark.promise("session-room"), pytest.mark.promise("damaged-keys")]

REGION = "call_01_ckks"
Keys = dict[str, bytes]


class Side:
    """A server, and a client of its one region with keys that fit."""

    def __init__(self, folder: Path) -> None:
        half = read_client_half(folder, read_manifest(folder).files, f"client/{REGION}")
        self.folder, self.service = folder, load_service(folder)
        self.client: RegionClient = backend("ckks").load_client(half)
        self.document: SlotDocument = read_document(half)
        self.secrets = Secrets()
        self.keys: Mapping[str, bytes] = self.client.evaluation_keys(self.secrets)

    @property
    def ring(self) -> CkksRing:
        return self.document.body.program.ring

    @property
    def rotations(self) -> list[str]:
        """The names of two rotation keys."""
        return [rotation_name(self.ring, steps) for steps in self.document.body.program.steps[:2]]

    def open(self, keys: Mapping[str, bytes]) -> str:
        """A session with these keys."""
        return self.service.open_session(self.service.digest, b"".join(pack_keys(dict(keys))))

    def secret(self) -> SecretKey:
        return self.secrets[self.ring.name].key  # type: ignore[attr-defined]

    def inputs(self) -> list[Array]:
        """Zeros for every input of the region."""
        shapes = {piece.input: (1, *piece.shape) for upload in self.document.body.uploads for piece in upload.pieces}
        return [np.zeros(shapes.get(name, ()), np.float32) for name in self.client.inputs]

    def answer(self, session: str) -> list[Array]:
        """What the region makes of zeros."""
        payload, pending = encrypt_whole(self.client, self.inputs(), 1, self.secrets)
        body = b"".join(pack_request(1, [payload], session))
        return self.client.decrypt(self.service.answer(self.service.digest, REGION, body), pending)


@pytest.fixture(scope="module")
def side() -> Side:
    folder = compiled("ckks")[0].artifact
    assert folder is not None
    return Side(folder)


def refused(side: Side, keys: Mapping[str, bytes], name: str, reason: str) -> None:
    """No session is opened, and the refusal names the key and says what is wrong."""
    before = len(side.service.sessions)
    with pytest.raises(ProtocolError, match=f"region '{REGION}'.*{reason}") as caught:
        side.open(keys)
    assert f"'{name}'" in str(caught.value)
    assert caught.value.status == 422
    assert len(side.service.sessions) == before


def lists(key: bytes, count: int) -> list[bytes]:
    """The lists of a key's file, each with its length in front; an empty list is its length alone."""
    pieces, start = list[bytes](), 56
    for _ in range(count):
        (entries,) = struct.unpack_from("<Q", key, start)
        stop = start + 8
        for _ in range(entries):
            stop += struct.unpack_from("<Q", key, stop + 8)[0]
        pieces.append(key[start:stop])
        start = stop
    assert start == len(key)
    return pieces


def key_file(key: bytes, parts: list[bytes]) -> bytes:
    """A file for the ring of a key, with these lists."""
    body = key[16:48] + struct.pack("<Q", len(parts)) + b"".join(parts)
    return header(len(body)) + body


def test_keys_that_fit_are_taken_and_answer(side: Side) -> None:
    first, second = (side.answer(side.open(side.keys)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-2)


def test_two_rotation_keys_in_each_others_place_are_refused(side: Side) -> None:
    one, other = side.rotations
    assert len(side.keys[one]) == len(side.keys[other])
    swapped = dict(side.keys) | {one: side.keys[other], other: side.keys[one]}
    refused(side, swapped, one, "its file holds another key, or no key")


def test_a_relinearization_key_in_the_place_of_a_rotation_is_refused(side: Side) -> None:
    name = side.rotations[0]
    refused(side, dict(side.keys) | {name: side.keys[relin_name(side.ring)]}, name, "bytes instead of")


def test_a_rotation_key_in_the_place_of_relinearization_is_refused(side: Side) -> None:
    """Keys are longer together then, which the service refuses already; so does the region."""
    name, key = relin_name(side.ring), side.keys[side.rotations[0]]
    with pytest.raises(ProtocolError, match="at most"):
        side.open(dict(side.keys) | {name: key})
    with pytest.raises(ProtocolError, match=f"region '{REGION}'.*relin'.*bytes instead of"):
        side.service.regions[REGION].load_key(name, memoryview(key))


@pytest.mark.parametrize("kind", ["no lists", "empty lists", "empty lists and zeros"])
def test_files_without_a_key_are_refused(side: Side, kind: str) -> None:
    name = side.rotations[0]
    key = side.keys[name]
    empty = key_file(key, [] if kind == "no lists" else [bytes(8)] * side.ring.dimension)
    if "zeros" in kind:
        empty = header(len(key) - 16) + empty[16:] + bytes(len(key) - len(empty))
        assert len(empty) == len(key)
    refused(side, dict(side.keys) | {name: empty}, name, "another key, or no key" if "zeros" in kind else "bytes instead of")


def test_files_with_further_keys_are_refused(side: Side) -> None:
    """Whether they are longer or not."""
    one, other = side.rotations
    parts, more = (lists(side.keys[name], side.ring.dimension) for name in (one, other))
    both = [max(pair, key=len) for pair in zip(parts, more, strict=True)]
    with pytest.raises(ProtocolError, match=f"region '{REGION}'.*rotate.*bytes instead of.*more than one"):
        side.service.regions[REGION].load_key(one, memoryview(key_file(side.keys[one], both)))
    entry = (max(map(len, parts)) - 8) // len(side.ring.bits)
    short = [shortened(part, entry * (len(side.ring.bits) - 1)) for part in parts]
    short = [shortened(theirs, entry) if len(theirs) > 8 else own for own, theirs in zip(short, more, strict=True)]
    padded = key_file(side.keys[one], short)
    assert len(padded) == len(side.keys[one])
    refused(side, dict(side.keys) | {one: padded}, one, "its file holds another key, or no key")


def shortened(part: bytes, size: int) -> bytes:
    """A list with fewer ciphertexts: those in its first `size` bytes."""
    if len(part) == 8:
        return part
    (entries,) = struct.unpack_from("<Q", part)
    return struct.pack("<Q", entries * size // (len(part) - 8)) + part[8 : 8 + size]


def test_a_key_beside_an_empty_place_is_refused(side: Side) -> None:
    """Right up to its last list, which says that it has a ciphertext."""
    name = side.rotations[0]
    key = bytearray(side.keys[name])
    struct.pack_into("<Q", key, len(key) - 8, 1)
    refused(side, dict(side.keys) | {name: bytes(key)}, name, "its file holds a second key")


def test_keys_for_other_rings_are_refused(side: Side) -> None:
    """Also where they are as long: of the same dimension, with as many primes, all but one the same."""
    bits = side.ring.bits
    near = replace(side.ring, bits=(bits[0] - 1, *bits[1:]))
    steps = side.document.body.program.steps[0]
    assert rotation_name(near, steps) != side.rotations[0]
    for name, key in (
        (side.rotations[0], SecretKey(near).galois_key(steps)),
        (relin_name(side.ring), SecretKey(near).relinearization_key()),
    ):
        assert len(key) == len(side.keys[name])
        refused(side, dict(side.keys) | {name: key}, name, "for another ring")
    small = CkksRing(4096, (30, 22, 22), 30)
    refused(side, dict(side.keys) | {side.rotations[0]: SecretKey(small).galois_key(steps)}, side.rotations[0], "instead of")


@pytest.mark.parametrize("size", [1, 15, 16, 56, 1000, -100, -1])
def test_keys_that_are_cut_off_are_refused(side: Side, size: int) -> None:
    name = side.rotations[1]
    refused(side, dict(side.keys) | {name: side.keys[name][:size]}, name, "cut off")


def test_any_flipped_bit_outside_words_and_seeds_is_refused(side: Side) -> None:
    """Every byte of the file's head, of the first ciphertext's and of what follows its words; words above their primes as well."""
    for name in (relin_name(side.ring), side.rotations[0]):
        key = side.keys[name]
        place = 0 if "relin" in name else (galois_element(side.ring, side.document.body.program.steps[0]) - 1) // 2
        first = 56 + 8 * place
        words = first + 8 + 16 + 73 + 24
        seed = words + 8 * side.ring.dimension * (len(side.ring.bits) + 1)
        for at in (*range(56), *range(first, words), words + 7, *range(seed, seed + 17)):
            flipped = bytearray(key)
            flipped[at] ^= 0x80
            with pytest.raises(ProtocolError, match=f"region '{REGION}'.*damaged, or it is another key") as caught:
                side.service.regions[REGION].load_key(name, memoryview(bytes(flipped)))
            assert name in str(caught.value)


BOMBS: dict[str, Callable[[bytes], tuple[int, bytes]]] = {
    "zlib": lambda data: (1, zlib.compress(data, 9)),
    "zstd": lambda data: (2, zstandard.compress(data)),
}


@pytest.mark.parametrize("kind", sorted(BOMBS))
@pytest.mark.parametrize("inner", [False, True])
def test_compressed_keys_are_refused_before_they_are_unpacked(side: Side, kind: str, inner: bool) -> None:
    """256 MiB of zeros where a key, or one of its ciphertexts, is expected; filled up to the size of a key."""
    name = side.rotations[0]
    key = side.keys[name]
    place = (galois_element(side.ring, side.document.body.program.steps[0]) - 1) // 2
    start = 56 + 8 * place + 8 if inner else 0
    mode, packed = BOMBS[kind](bytes(256 << 20))
    bomb = key[:start] + struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, mode, 0, 16 + len(packed)) + packed
    reason = "a ciphertext of another form" if inner else "not an uncompressed file"
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
    before = peak_bytes()
    refused(side, dict(side.keys) | {name: bomb + key[len(bomb) :]}, name, reason)
    assert peak_bytes() - before < 64 << 20


def peak_bytes() -> int:
    """The most memory that this process has had since its peak was forgotten."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(row for row in rows if row.startswith("VmHWM")).split()[1])


def test_what_seal_refuses_while_it_evaluates_names_region_and_layer(side: Side) -> None:
    """A session whose rotation keys are in each other's place, which no upload opens."""
    identifier = side.open(side.keys)
    with side.service.sessions.use(identifier) as session:
        one, other = side.rotations
        wrong = replace(session, keys=dict(session.keys) | {one: session.keys[other], other: session.keys[one]})
        for batch in (1, 3):  # three elements go to other processes as well
            inputs = [np.concatenate([value] * batch) if value.ndim else value for value in side.inputs()]
            payload, _ = encrypt_whole(side.client, inputs, batch, side.secrets)
            with pytest.raises(ProtocolError, match=f"region '{REGION}', layer '.+': SEAL refuses") as caught:
                side.service.regions[REGION].evaluate(payload, batch, wrong)
            assert caught.value.status == 422


@pytest.mark.parametrize("forked", [False, True])
def test_a_server_without_memory_says_come_back(side: Side, monkeypatch: pytest.MonkeyPatch, forked: bool) -> None:
    """Whichever process of a batch has none left."""
    own, load = os.getpid(), vars(server)["load_fresh"]

    def exhausted(*args: Any) -> Any:
        if forked and os.getpid() == own:
            return load(*args)
        raise MemoryError

    inputs = [np.concatenate([value] * 3) if value.ndim else value for value in side.inputs()]
    payload, _ = encrypt_whole(side.client, inputs, 3, side.secrets)
    body = b"".join(pack_request(3, [payload], side.open(side.keys)))
    monkeypatch.setattr(server, "load_fresh", exhausted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(ProtocolError, match=f"region '{REGION}': .*no memory left.*come back later") as caught:
        side.service.answer(side.service.digest, REGION, body)
    assert caught.value.status == 503


LOADS = """
import sys
from pathlib import Path
from typing import Any
from hecompile.runtime.service import load_service
region = load_service(Path(sys.argv[1])).regions[sys.argv[2]]
data, kept, resident = memoryview(Path(sys.argv[4]).read_bytes()), [], []
for count in range(200):
    key = region.load_key(sys.argv[3], data)
    if count < 17:
        kept.append(key)
    if count in (0, 16, 199):
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
print(*resident)
"""


def test_memory_of_a_session_is_what_its_keys_take(side: Side, tmp_path: Path) -> None:
    """It is both polynomials of a ciphertext for every prime, as was measured. Keys that are dropped take no memory."""
    region, ring, name = side.service.regions[REGION], side.ring, side.rotations[0]
    primes = len(ring.bits) + 1
    words = 16 * ring.dimension * primes * (primes - 1)
    assert region.held_bytes(relin_name(ring)) == words + 24
    assert region.held_bytes(name) == words + 24 * ring.dimension
    assert side.service.session_bytes == sum(map(region.held_bytes, side.keys))
    (tmp_path / "key").write_bytes(side.keys[name])
    command = [sys.executable, "-c", LOADS, str(side.folder), REGION, name, str(tmp_path / "key")]
    sizes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    one, seventeen, many = map(int, sizes)
    assert 0.9 * region.held_bytes(name) < (seventeen - one) / 16 < 1.1 * region.held_bytes(name)
    assert many - seventeen < 32 << 20
