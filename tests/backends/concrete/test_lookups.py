"""Regions with activations at the server: equal to their reference in the clear, within a mixed plan, and what goes wrong."""

from __future__ import annotations

import copy
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hecompile.backends.concrete.keysets import check_keys
from hecompile.backends.concrete.lookups.lowering import Widths, export, lower_region, search_widths
from hecompile.backends.concrete.lookups.program import lookup_program
from hecompile.backends.concrete.lookups.server import _Keys
from hecompile.backends.region_client import RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.backends.registry import backend
from hecompile.calibration import Calibration, Call
from hecompile.calibration.regions import region_inputs
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir.halves import ClientHalf
from hecompile.ir.linear import Array
from hecompile.ir.regions import SubgraphRegion
from hecompile.options import CompileOptions
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.service import load_service
from hecompile.runtime.transports import LocalTransport
from tests.artifacts import compile_once
from tests.payloads import encrypt_whole
from tests.programs import program_of

pytestmark = [pytest.mark.fhe, pytest.mark.slow]


class ConvSiluConv(torch.nn.Module):
    """conv, SiLU, conv between two other convs, on 4x4."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(1, channels, 3, padding=1)
        self.norm = torch.nn.GroupNorm(1, channels)
        self.before = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.after = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.last = torch.nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.first(sample)) + torch.sin(timestep / 1000)
        return self.last(hidden + self.after(torch.nn.functional.silu(self.before(hidden))))


EXAMPLE = {"sample": torch.zeros(2, 1, 4, 4), "timestep": torch.tensor(31.0)}


@pytest.fixture(scope="module")
def conv_silu_conv() -> Compiled:
    return compile_once(ConvSiluConv, CompileOptions(backend="concrete_lookups", max_batch=2), EXAMPLE)


def region_of(compiled: Compiled) -> SubgraphRegion:
    (region,) = [call for call in program_of(compiled).calls.values() if isinstance(call, SubgraphRegion)]
    return region


@dataclass(frozen=True)
class Opened:
    """Both halves of the region, and a session with keys."""

    client: RegionClient
    server: RegionServer
    secrets: Secrets
    session: Session

    def ask(self, value: Array) -> Array:
        payload, pending = encrypt_whole(self.client, [value], len(value), self.secrets)
        assert len(payload) == self.client.request_bytes(len(value)) == self.server.request_bytes(len(value))
        (got,) = self.client.decrypt(self.server.evaluate(payload, len(value), self.session), pending)
        return got


@pytest.fixture(scope="module")
def opened(conv_silu_conv: Compiled) -> Opened:
    region = region_of(conv_silu_conv)
    assert region.lowered is not None
    scheme, secrets = backend("concrete_lookups"), Secrets()
    client, server = scheme.load_client(region.lowered.client), scheme.load_server(region.lowered.server)
    assert client.key_sizes() == server.key_sizes()
    keys = client.evaluation_keys(secrets)
    session = Session("0" * 32, {name: server.load_key(name, memoryview(data)) for name, data in keys.items()})
    return Opened(client, server, secrets, session)


@pytest.fixture(scope="module")
def expected(conv_silu_conv: Compiled) -> tuple[Array, Array]:
    """Two elements of the region's input, and what its reference in the clear makes of them."""
    region = region_of(conv_silu_conv)
    (values,) = region_inputs(program_of(conv_silu_conv), region)
    options = conv_silu_conv.options
    compiled = search_widths(region.graph_module, values, region.reference([values])[0], options.lookup_db, options.p_error)
    return values[3:5], compiled.result.value(compiled.integers(compiled.source.quantise(values[3:5])))


@pytest.mark.promise("concrete-lookups")
def test_a_region_equals_its_reference_in_the_clear(opened: Opened, expected: tuple[Array, Array]) -> None:
    value, want = expected
    np.testing.assert_array_equal(opened.ask(value), want)


def test_compiling_tells_lookups_keys_and_seconds_predicted_and_measured(conv_silu_conv: Compiled) -> None:
    (told,) = [record.summary for record in conv_silu_conv.passes if record.name == "lower"]
    match = re.search(
        r"(\d+) lookups, complexity \S+, (\d+) MiB of keys sent.* predicted (\S+) CPU seconds, .* measured (\S+) CPU seconds", told
    )
    assert match is not None, told
    lookups, key_mib, predicted_s, measured_s = (float(number) for number in match.groups())
    assert lookups > 32
    assert key_mib > 10
    assert min(predicted_s, measured_s) > 0


@pytest.mark.promise("concrete-lookups")
def test_a_mixed_plan_runs_through_sessions(conv_silu_conv: Compiled) -> None:
    assert conv_silu_conv.artifact is not None
    assert {region.backend for region in program_of(conv_silu_conv).calls.values()} == {"concrete", "concrete_lookups"}
    service = load_service(conv_silu_conv.artifact)
    unet = EncryptedUNet(load_bundle(conv_silu_conv.artifact), LocalTransport(service))
    sample = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    got = unet(sample, 31.0)
    assert len(service.sessions) == 1
    assert unet.meter.key_bytes > 1 << 20
    unet.close()
    assert len(service.sessions) == 0
    with torch.no_grad():
        want = ConvSiluConv().eval()(sample, torch.tensor(31.0))
    assert float(((got - want) ** 2).mean().sqrt()) < 0.1 * float(want.abs().max())


def test_keys_that_are_cut_off_or_of_another_circuit_are_refused(conv_silu_conv: Compiled) -> None:
    region = region_of(conv_silu_conv)
    assert region.lowered is not None
    server = backend("concrete_lookups").load_server(region.lowered.server)
    ((name, size),) = server.key_sizes().items()
    for wrong in (size - 1, size + 8, 100):
        with pytest.raises(ProtocolError, match="cut off, or of another circuit"):
            server.load_key(name, memoryview(bytes(wrong)))
    with pytest.raises(ProtocolError, match="needs a session"):
        server.evaluate(bytes(server.request_bytes(1)), 1)


def key_of(opened: Opened) -> tuple[str, bytearray]:
    """The session's key: its name and bytes."""
    ((name, key),) = opened.session.keys.items()
    assert isinstance(key, _Keys)
    return name, bytearray(key.data)


@pytest.mark.promise("concrete-keys")
def test_keys_of_the_right_size_that_are_no_keys_are_refused_when_they_come(opened: Opened) -> None:
    name, data = key_of(opened)
    headers = range(4, 20 * 8)  # segments, and the first key's structures, but for what pads them
    for wrong in (bytes(len(data)), b"\xff" * len(data), data[8:] + data[:8]):
        with pytest.raises(ProtocolError, match=f"key '{name}' holds no evaluation keys of this circuit") as caught:
            opened.server.load_key(name, memoryview(wrong))
        assert caught.value.status == 422
    for place in headers:
        if 20 <= place < 24:
            continue
        data[place] ^= 0x81
        with pytest.raises(ProtocolError, match="holds no evaluation keys"):
            opened.server.load_key(name, memoryview(data))
        data[place] ^= 0x81


@pytest.mark.promise("concrete-keys")
def test_keys_of_another_circuit_are_refused_though_they_have_as_many_bytes(conv_silu_conv: Compiled, opened: Opened) -> None:
    (name, data), region = key_of(opened), region_of(conv_silu_conv)
    assert region.lowered is not None
    numbers = lookup_program(region.lowered.server).body.circuit.numbers
    check_keys(name, memoryview(data), numbers)
    first, *rest = numbers.bootstraps
    for other in (replace(first, base=first.base - 1), replace(first, variance=first.variance / 2)):
        with pytest.raises(ProtocolError, match="parameters of another circuit"):
            check_keys(name, memoryview(data), replace(numbers, bootstraps=(other, *rest)))
    with pytest.raises(ProtocolError, match="a list of another length"):
        check_keys(name, memoryview(data), replace(numbers, keyswitches=numbers.keyswitches[:-1]))


def test_keys_whose_words_are_a_strangers_are_evaluated_like_any(opened: Opened, expected: tuple[Array, Array]) -> None:
    server, (value, want), (name, data) = opened.server, expected, key_of(opened)
    count, first, second = struct.unpack_from("<III", data)  # segments but one, and the words of two
    start = (4 * (count + 2) + 7) // 8 + first + 1  # where the first key's words are
    data[8 * start : 8 * (start + second - 1)] = b"\xff" * 8 * (second - 1)
    session = Session("1" * 32, {name: server.load_key(name, memoryview(data))})
    assert len(server.evaluate(bytes(server.request_bytes(1)), 1, session)) > 0
    np.testing.assert_array_equal(opened.ask(value[:1]), want[:1])


def test_a_half_without_sense_is_refused(conv_silu_conv: Compiled) -> None:
    region = region_of(conv_silu_conv)
    assert region.lowered is not None
    for name, value in (("key_bytes", 0), ("lookups", 0), ("inputs", ["a", "b"]), ("specs", "{}"), ("p_error", 2.0)):
        program = copy.deepcopy(dict(region.lowered.client.program)) | {name: value}
        with pytest.raises(ProtocolError):
            backend("concrete_lookups").load_client(ClientHalf(program, region.lowered.client.tensors))
    with pytest.raises(ProtocolError, match=r"source\.zero"):
        backend("concrete_lookups").load_client(ClientHalf(region.lowered.client.program, {}))


def test_values_that_are_not_finite_in_calibration_are_named(conv_silu_conv: Compiled) -> None:
    region = region_of(conv_silu_conv)
    huge = {"sample": np.full((1, 1, 4, 4), 3e38, np.float32), "timestep": np.asarray(1.0, np.float32)}
    with np.errstate(all="ignore"), pytest.raises(CompileError, match="not finite"):
        region_inputs(program_of(conv_silu_conv), region, Calibration((Call(huge),)))
    with pytest.raises(CompileError, match="not finite"):
        Calibration((Call({"sample": np.full((1, 1, 4, 4), np.nan, np.float32)}),))


def test_accumulators_beyond_what_lookups_read_are_refused_in_concretes_words() -> None:
    values = np.random.default_rng(0).standard_normal((10, 2, 4, 4)).astype(np.float32)

    class Wide(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = torch.nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, value: torch.Tensor) -> tuple[torch.Tensor]:
            return (torch.nn.functional.silu(self.conv(value)),)

    module: Any = Wide().eval()
    reference = module(torch.from_numpy(values))[0].detach().numpy()
    model = export(module, values[:1])
    with pytest.raises(CompileError, match="Concrete refuses the region at 10 bits") as caught:
        lower_region(model, values, reference, Widths(10, None), 2.0**-40)
    assert "16" in str(caught.value)
    with pytest.raises(CompileError, match="no bit widths give the region 90 dB"):
        search_widths(module, values, reference, 90.0, 2.0**-40, (Widths(3, 5),))


def test_a_region_above_its_limits_is_refused_before_keys_and_nothing_is_written(tmp_path: Path) -> None:
    options = CompileOptions(backend="concrete_lookups", max_batch=1, lookup_seconds=0.001)
    with pytest.raises(CompileError, match="CPU seconds"):
        compile_model(ConvSiluConv().eval(), tmp_path / "artifact", options=options, example_inputs=EXAMPLE)
    assert list(tmp_path.iterdir()) == []


def test_plans_choose_lookups_where_rounds_are_few(tmp_path: Path) -> None:
    """With four rounds every layer has its own circuit and the activation is the client's, which is faster."""
    counts = {}
    for rounds in (4, 3):
        options = CompileOptions(
            backend="concrete_lookups", partition="optimised", client_weights_mib=0.0, most_rounds=rounds, max_batch=1
        )
        compiled = compile_model(ConvSiluConv().eval(), tmp_path / str(rounds), options=options, example_inputs=EXAMPLE)
        counts[rounds] = [region.backend for region in program_of(compiled).calls.values()].count("concrete_lookups")
    assert counts == {4: 0, 3: 1}
