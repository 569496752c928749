"""`he-diffusion` on the wire: ciphertexts, public numbers and the declared reveals, nothing else, in sizes that do not tell."""

from __future__ import annotations

import ast
import inspect
import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hecompile.artifact import read_manifest
from hecompile.artifact_files import digest, read_client_half
from hecompile.artifact_writing import to_json
from hecompile.backends.sampler_step.program import HEADER_BYTES, SamplerStepProgram, sampler_step_program
from hecompile.backends.sampler_step.server import SamplerStepServer
from hecompile.backends.words import unpack_bits, unpack_signed
from hecompile.errors import ProtocolError
from hecompile.ir.linear import Array
from hecompile.runtime.client import InputError
from hecompile.runtime.noise import secure_noise
from hecompile.runtime.scheduler import coefficients
from tests.attacks.test_traffic import Wiretap, looks_uniform, parse
from tests.sampling import SHAPE, artifact, draw, load, make

pytestmark = pytest.mark.fhe
SHAPE_4096 = (4, 32, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sampler") / "a"
    artifact(path, SHAPE_4096)
    return path


def program_of(folder: Path) -> SamplerStepProgram:
    return sampler_step_program(read_client_half(folder, read_manifest(folder).files, "client/sampler"))


def traffic(folder: Path, seed: int = 0, steps: int = 4, spoil: float | None = None) -> list[bytes]:
    """Payloads of a run of DDIM whose predictions are noise of their own, or `spoil` everywhere."""
    tap = Wiretap(folder)
    scheduler = load(make("ddim"), folder, tap)
    x = scheduler.initial_noise(1, bytes([seed]) * 32)
    scheduler.set_timesteps(steps)
    for place, t in enumerate(scheduler.timesteps):
        noise = secure_noise(tuple(x.shape), bytes([seed, place]) * 16)
        try:
            x = scheduler.step(torch.full_like(x, spoil) if spoil is not None else noise, t, x).prev_sample
        except InputError:
            assert place == steps - 1
    return [parse(body)[1] for _, _, body in tap.seen]


@pytest.mark.promise("sampler-bytes")
def test_every_byte_is_public_declared_or_ciphertext(folder: Path) -> None:
    program, scheduler = program_of(folder), make("ddim")
    scheduler.set_timesteps(4)
    payloads = traffic(folder)
    assert len(payloads) == 4
    for payload, t in zip(payloads, scheduler.timesteps, strict=True):
        f, g, clear = struct.unpack_from("<iiI", payload)
        abar, before = (float(scheduler.alphas_cumprod[max(int(t) - shift, 0)]) for shift in (0, 250))
        want = np.array(coefficients(abar, before)) if t > 250 else None
        if want is not None:  # public: the schedule's, at public t
            assert np.abs(np.array([f, g]) - want * (program.body.weight - 1) / np.abs(want).sum()).max() <= 0.5 + 1e-6
        assert clear == program.body.clear[0] == read_manifest_entries(folder)
        sizes = program.body.sizes(1, clear)
        start = HEADER_BYTES + 2 * sizes.up_clear
        count = 2 * sizes.polynomials * program.body.parameters.dimension
        words = unpack_bits(memoryview(payload)[start : start + sizes.up_words], count, program.body.parameters.q_bits)
        assert (words < program.body.q).all()
        looks_uniform(words / program.body.q)
        assert len(payload) == start + sizes.up_words + 32 * -(-sizes.polynomials // 64)  # a seed for each group of pairs


def read_manifest_entries(folder: Path) -> int:
    """What the manifest tells people of the entries in the clear."""
    return int(read_manifest(folder).reveals[0].split()[1].replace(",", ""))


@pytest.mark.promise("sampler-bytes")
def test_what_is_in_clear_is_exactly_what_was_declared(folder: Path) -> None:
    """The masked entries of the latent, rounded to the declared bits on a scale that the server does not get."""
    program, manifest = program_of(folder), read_manifest(folder)
    packed = read_client_half(folder, manifest.files, "client/sampler").tensors["masks"]
    clear = np.unpackbits(packed[0], count=program.body.entries) == 0
    x = secure_noise((1, *SHAPE_4096), bytes(32)).numpy().ravel()
    e = secure_noise((1, *SHAPE_4096), bytes([0, 0]) * 16).numpy().ravel()
    payload = traffic(folder)[0]
    size = program.body.sizes(1, program.body.clear[0]).up_clear
    scale = max(np.abs(x[clear]).max(), np.abs(e[clear]).max()) / 2047
    for place, value in enumerate((x, e)):
        data = memoryview(payload)[HEADER_BYTES + place * size : HEADER_BYTES + (place + 1) * size]
        assert np.abs(unpack_signed(data, int(clear.sum()), 12) - value[clear] / scale).max() <= 0.5 + 1e-3


@pytest.mark.promise("sampler-sizes")
@pytest.mark.parametrize("spoil", [None, 0.0, 1e30, 1e-30, float("nan"), float("inf")])
def test_sizes_and_number_do_not_depend_on_secrets(folder: Path, spoil: float | None) -> None:
    assert [len(payload) for payload in traffic(folder, 1, spoil=spoil)] == [len(payload) for payload in traffic(folder, 2)]


def test_nothing_encrypted_repeats_when_the_same_latents_are_sent_again(folder: Path) -> None:
    start = HEADER_BYTES + 2 * program_of(folder).body.sizes(1, program_of(folder).body.clear[0]).up_clear
    for one, two in zip(traffic(folder), traffic(folder), strict=True):
        a, b = (np.frombuffer(payload[start:], np.uint8) for payload in (one, two))
        assert abs((a == b).mean() - 1 / 256) < 6 * math.sqrt(1 / 256 / len(a))


@pytest.mark.promise("sampler-sizes")
def test_a_static_support_tells_nothing_of_the_input_and_a_dynamic_one_is_declared(folder: Path, tmp_path: Path) -> None:
    counts = {struct.unpack_from("<iiI", payload)[2] for seed in (1, 2) for payload in traffic(folder, seed)}
    assert len(counts) == 1
    artifact(tmp_path / "dynamic", SHAPE_4096, dynamic=True)
    counts = {struct.unpack_from("<iiI", payload)[2] for seed in (1, 2) for payload in traffic(tmp_path / "dynamic", seed)}
    assert len(counts) > 1
    assert any(reveal.startswith("support: ") for reveal in read_manifest(tmp_path / "dynamic").reveals)


@pytest.mark.promise("sampler-budget")
def test_a_run_never_reveals_more_entries_than_its_budget(tmp_path: Path) -> None:
    """The server keeps everything: together all steps reveal at most what the manifest says."""
    artifact(tmp_path / "a", SHAPE, dynamic=True, most_clear=0.3)
    scheduler = load(make("plms"), tmp_path / "a")
    support = scheduler._executor.bundle.calls["sampler"].support  # type: ignore[attr-defined]
    choose, seen = support.choose, list[Array]()

    def noted(x: Array, t: float) -> Array:
        seen.append(~choose(x, t))
        return ~seen[-1]

    support.choose = noted
    draw(scheduler, scheduler.initial_noise(1), 20)
    assert 0 < np.logical_or.reduce(seen).sum() <= int(0.3 * math.prod(SHAPE))


def tampered(folder: Path, target: Path, manifest: dict[str, object], program: dict[str, object]) -> Path:
    """The artifact with changes in manifest and client program, checksums right."""
    (target / "client").mkdir(parents=True)
    document = json.loads((folder / "client/sampler.json").read_text()) | program
    (target / "client/sampler.json").write_bytes(to_json(document))
    (target / "client/sampler.safetensors").write_bytes((folder / "client/sampler.safetensors").read_bytes())
    changed = json.loads((folder / "manifest.json").read_text()) | manifest
    changed["files"]["client/sampler.json"] = digest((target / "client/sampler.json").read_bytes())
    (target / "manifest.json").write_bytes(to_json(changed))
    return target


@pytest.mark.promise("sampler-reveals")
@pytest.mark.parametrize(
    ("manifest", "program", "reason"),
    [
        ({"reveals": []}, {}, "reveals sample.*noise.*, its manifest says nothing"),
        ({}, {"reveal_bits": 14}, "14 bits, its manifest says .*12 bits"),
        ({}, {"reveal_bits": 32}, "full precision"),
        ({}, {"clear": [4096], "most_clear": 4096}, "fraction 1"),
        ({}, {"most_clear": 10}, "above the budget"),
        ({"policy": "strict"}, {}, "insists on 'he-diffusion'"),
        ({"security_bits": 64}, {}, "insists on 128"),
    ],
)
def test_a_client_refuses_reveals_that_are_not_declared_or_not_allowed(
    folder: Path, tmp_path: Path, manifest: dict[str, object], program: dict[str, object], reason: str
) -> None:  # fmt: skip
    with pytest.raises(ProtocolError, match=reason):
        load(make("ddim"), tampered(folder, tmp_path / "t", manifest, program), Wiretap(folder))


def test_a_strict_client_refuses_a_region_that_reveals(folder: Path, tmp_path: Path) -> None:
    """Also where the manifest claims to be strict and to reveal nothing."""
    claims = tampered(folder, tmp_path / "t", {"policy": "strict", "reveals": []}, {})
    with pytest.raises(ProtocolError, match=r"reveals sample.*not under policy 'strict'"):
        load(make("ddim"), claims, Wiretap(folder), policy="strict")


def test_the_server_holds_no_key_no_mask_and_no_torch(folder: Path) -> None:
    from safetensors.numpy import load_file

    assert load_file(folder / "server/sampler.safetensors") == {}
    fields = {node.attr for node in ast.walk(ast.parse(inspect.getsource(SamplerStepServer))) if isinstance(node, ast.Attribute)}
    assert not [name for name in fields if "key" in name.lower() or "secret" in name.lower() or "mask" in name.lower()]
    code = (
        "import sys, pathlib\nfrom hecompile.runtime.service import load_service\n"
        "load_service(pathlib.Path(sys.argv[1]))\nprint(*sorted(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(folder / "server")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    clients = {"hecompile.backends.sampler_step.client", "hecompile.backends.bfv.client"}
    assert not (clients | {"torch", "diffusers", "scipy"}) & set(loaded)
