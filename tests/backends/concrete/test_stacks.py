"""Linear stacks: which layers go together, their integers, and one circuit for all of them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import Linear, functional

import hecompile
from hecompile.backends.concrete.costs import P_ERROR
from hecompile.backends.concrete.library import specs_text
from hecompile.backends.concrete.limits import LIMIT
from hecompile.backends.concrete.specs import parse_specs
from hecompile.backends.concrete.stacks import circuit as stack_circuit_module
from hecompile.backends.concrete.stacks.backend import StackBackend
from hecompile.backends.concrete.stacks.candidates import stack_candidates
from hecompile.backends.concrete.stacks.circuit import _compile, stack_circuit
from hecompile.backends.concrete.stacks.program import quantise, stack_dequantizer, stack_program
from hecompile.backends.concrete.stacks.regions import lower_stack_region, priced_stack
from hecompile.backends.context import Context
from hecompile.backends.registry import backend
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.linear import Array
from hecompile.ir.regions import SubgraphRegion
from hecompile.machine import Machine
from hecompile.options import CompileOptions
from hecompile.runtime.simulation import load_simulation
from tests.artifacts import compile_once
from tests.backends.concrete.stack_networks import FORMS, Net, conv, largest_region, map_of, marked
from tests.payloads import encrypt_whole
from tests.programs import program_of


class Timed(torch.nn.Module):
    """A residual block's way: a label's projection added to a conv, another conv beside a shortcut, activations between."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.label, self.second, self.short = conv(2, 4), Linear(5, 4), conv(4, 3), conv(2, 3, 1)
        self.last = conv(3, 2)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        hidden = self.first(sample) + self.label(condition)[:, :, None, None]
        hidden = functional.silu(hidden + torch.sin(timestep / 1000))
        result: torch.Tensor = self.last(functional.silu(self.second(hidden) + 3.0 * self.short(sample)))
        return result


EXAMPLE = {"sample": torch.randn(2, 2, 4, 4), "timestep": torch.tensor(31.0), "condition": torch.randn(2, 5)}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_stacks_are_found_and_their_integers_are_close_and_within_bounds(name: str) -> None:
    net, layers = Net(name), FORMS[name][2]
    graph = marked(net, {"sample": torch.zeros(2, net.channels, 4, 4)})
    candidates = stack_candidates(graph, "concrete_stacks")
    if not layers:
        assert candidates == []
        return
    region = largest_region(graph)
    integers = map_of(region)
    assert integers.layers == layers
    rng = np.random.default_rng(0)
    (source,) = integers.shapes
    value = rng.standard_normal((3, *integers.shapes[source])).astype(np.float32)
    drawn, scales = quantise(value.reshape(3, -1), np.full(value[0].size, integers.input_units[source]), LIMIT)
    values = integers.run({source: drawn.reshape(value.shape)})
    offset = region.reference([np.zeros_like(value)])[0]
    for name, want in zip(region.outputs, region.reference([value]), strict=True):
        got = values[name] * integers.units[name] * scales.reshape(-1, *[1] * (want.ndim - 1)) + offset
        assert np.sqrt(np.mean((got - want) ** 2)) < 0.02 * want.std()
    largest = integers.largest(LIMIT)
    for fill in (LIMIT, -LIMIT):
        signs = integers.run({source: np.full_like(drawn, fill).reshape(value.shape)})
        assert max(int(np.abs(output).max()) for output in signs.values()) <= largest


@pytest.mark.promise("concrete-stacks")
@pytest.mark.fhe
@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form[2] == 2])
def test_circuits_give_the_integers(name: str) -> None:
    """Lowering runs the circuit once, encrypted, and compares."""
    net = Net(name)
    region = largest_region(marked(net, {"sample": torch.zeros(2, net.channels, 4, 4)}))
    lowered = lower_stack_region(region, 1, P_ERROR, {})
    client, server = lowered.client, lowered.server
    program = stack_program(client)
    assert server.program == client.program
    assert program.body.circuit.error_probability(program.body.norm, program.body.shift) <= program.body.p_error == P_ERROR
    assert StackBackend().check_security(client, 128) == StackBackend().check_proofs(server) == []


class Broadcast(Net):
    """One channel added to three."""

    def __init__(self) -> None:
        super().__init__("in a row")
        self.one = conv(2, 1)
        self.form = lambda m, x: m.b(m.a(x) + m.one(x))


@pytest.mark.fhe
def test_stacks_that_integers_or_proofs_do_not_carry_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    example = {"sample": torch.zeros(2, 2, 4, 4)}
    (wide, *_), graph = stack_candidates(marked(Broadcast(), example), "concrete_stacks"), marked(Broadcast(), example)
    with pytest.raises(CompileError, match="broadcast over channels"):
        map_of(largest_region(graph))
    assert priced_stack(graph, wide, Machine()) is None
    three = marked(Net("three in a row"), example)
    (long, *_) = stack_candidates(three, "concrete_stacks")
    with pytest.raises(CompileError, match="Concrete refuses"):  # some forty bits
        stack_circuit(map_of(largest_region(three)), P_ERROR)
    assert priced_stack(three, long, Machine()) is None
    monkeypatch.setattr(stack_circuit_module, "MOST_WORK", 100)
    with pytest.raises(CompileError, match="too large to bound its noise"):
        stack_circuit(map_of(largest_region(marked(Net("in a row"), example))), P_ERROR)


class Apart(torch.nn.Module):
    """A stack of two inputs, one of which is not a layer's alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = conv(2, 2), conv(2, 2)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.b(functional.silu(sample) + self.a(sample)) * torch.sin(timestep)


@pytest.mark.fhe
def test_ranges_that_are_too_far_apart_are_taken_for_equal() -> None:
    region = largest_region(marked(Apart(), {"sample": torch.zeros(2, 2, 4, 4), "timestep": torch.tensor(31.0)}))
    assert len(region.inputs) == 2
    units = {}
    for largest in (0.5, 1.0, 1e-9):
        ranges = {name: 1.0 if name == "sample" else largest for name in region.inputs}
        units[largest] = stack_program(lower_stack_region(region, 1, P_ERROR, ranges).client).body.units
    assert max(units[0.5]) == pytest.approx(2 * min(units[0.5]))
    assert units[1.0] == units[1e-9] == (1 / LIMIT, 1 / LIMIT)


@pytest.mark.fhe
def test_noise_that_meets_again_is_counted_as_one() -> None:
    """Several blurs in a row add one entry's noise many times. With Concrete's own parameters one result in forty is wrong."""
    net = Net("in a row of eight")
    with torch.no_grad():
        for weight in net.parameters():
            weight.abs_()
    integers = map_of(largest_region(marked(net, {"sample": torch.zeros(2, 8, 8, 8)})))
    (source,), (output,) = integers.shapes, integers.units
    one = integers.run({source: np.eye(512, dtype=np.int64).reshape(512, 8, 8, 8)})
    assert integers.norm() == pytest.approx(np.sqrt(np.square(one[output].astype(float)).sum(axis=0).max()))
    narrow = _compile(integers, 0, integers.largest(LIMIT), P_ERROR)
    assert parse_specs(specs_text(narrow.client.specs)).error_probability(integers.norm()) > 0.01
    circuit = stack_circuit(integers, P_ERROR)
    assert circuit.specs.error_probability(circuit.norm, circuit.shift) <= P_ERROR
    wrong = []
    for compiled, shift in ((narrow, 0), (circuit.compiled, circuit.shift)):
        compiled.keygen()
        drawn = np.random.default_rng(0).integers(-LIMIT, LIMIT + 1, (2, 8, 8, 8))
        results = [compiled.decrypt(compiled.run(compiled.encrypt(vector.reshape(1, -1) << shift))) for vector in drawn]
        want = integers.run({source: drawn})[output].reshape(2, -1)
        wrong.append(np.count_nonzero(np.rint(np.concatenate(results) / 2**shift) != want))
    assert wrong[0] > 0
    assert wrong[1] == 0


@pytest.mark.slow
def test_public_values_and_constants_of_zero_are_left_to_the_client() -> None:
    graph = marked(Timed(), EXAMPLE)
    stacks = [set(candidate.nodes) for candidate in stack_candidates(graph, "concrete_stacks")]
    assert {"second_conv2d", "short_conv2d"} <= stacks[0]
    assert {"first_conv2d", "label_linear"} <= stacks[1]
    assert not any("sin" in name for stack in stacks for name in stack)
    region = largest_region(graph)
    for node in region.graph_module.graph.nodes:
        if str(node.target) == "aten.mul.Tensor":
            node.args = (node.args[0], 0.0)
    with pytest.raises(CompileError, match="a product with zeros"):
        map_of(region)


@pytest.mark.slow
def test_weights_that_are_not_finite_are_refused() -> None:
    net = Net("side by side")
    with torch.no_grad():
        net.get_parameter("a.weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(CompileError, match="not finite"):
        map_of(largest_region(marked(net, {"sample": torch.zeros(2, 2, 4, 4)})))


@pytest.fixture(scope="module")
def timed() -> Compiled:
    """Every stack as one circuit, whether or not that is faster."""
    return compile_once(Timed, CompileOptions(backend="concrete_stacks", max_batch=2), EXAMPLE)


def stacks_of(compiled: Compiled) -> list[SubgraphRegion]:
    return [region for region in program_of(compiled).calls.values() if isinstance(region, SubgraphRegion)]


def values_for(region: SubgraphRegion, batch: int) -> list[Array]:
    assert region.lowered is not None
    rng = np.random.default_rng(batch)
    shapes = stack_program(region.lowered.client).body.input_shapes
    return [rng.standard_normal((batch, *shape)).astype(np.float32) for shape in shapes]


@pytest.mark.promise("concrete-stacks")
@pytest.mark.fhe
@pytest.mark.parametrize("batch", [1, 2])
def test_encrypted_stacks_equal_their_integers(timed: Compiled, batch: int) -> None:
    regions = stacks_of(timed)
    assert [region.lowered and stack_program(region.lowered.client).body.layers for region in regions] == [2, 2]
    for region in regions:
        assert region.lowered is not None
        client, server = StackBackend().load_client(region.lowered.client), StackBackend().load_server(region.lowered.server)
        values, dequantizer = values_for(region, batch), stack_dequantizer(region.lowered.client)
        payload, pending = encrypt_whole(client, values, batch)
        assert len(payload) == client.request_bytes(batch) == server.request_bytes(batch)
        reply = server.evaluate(payload, batch)
        assert len(reply) == client.reply_bytes(batch)
        simulated = StackBackend().simulation(region.lowered.client, region.lowered.server)
        in_simulation = simulated.decrypt(b"", simulated.encrypt(values, batch)[1])
        got = client.decrypt(reply, pending)
        for one, two, want in zip(got, in_simulation, region.reference(values), strict=True):
            np.testing.assert_array_equal(one, two)
            assert one.shape == want.shape
            assert np.sqrt(np.mean((one - want) ** 2)) < 0.02 * want.std()
        assert dequantizer.program.body.distortion_db > 40


@pytest.mark.fhe
def test_a_network_with_stacks_gives_its_result_and_can_be_simulated(timed: Compiled) -> None:
    assert timed.artifact is not None
    with torch.no_grad():
        expected = Timed().eval()(**EXAMPLE)
    unet = hecompile.load(timed.artifact)
    assert (unet(**EXAMPLE) - expected).abs().max() < 0.03 * expected.abs().max()
    assert unet.meter.requests == 3
    simulated = load_simulation(timed.artifact)
    assert (simulated(**EXAMPLE) - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.fhe
def test_the_server_gets_no_offsets_and_no_word_twice(timed: Compiled) -> None:
    for region in stacks_of(timed):
        assert region.lowered is not None
        assert set(region.lowered.server.tensors) == {"mlir", "keys"}
        client = StackBackend().load_client(region.lowered.client)
        words = [np.frombuffer(encrypt_whole(client, values_for(region, 1), 1)[0], "<u8") for _ in range(2)]
        assert (words[0] == words[1]).mean() < 0.01
        for fill in (0.0, np.nan, 3e38):
            odd = [np.full_like(value, fill) for value in values_for(region, 1)]
            assert len(encrypt_whole(client, odd, 1)[0]) == client.request_bytes(1)


@pytest.mark.promise("concrete-stacks")
@pytest.mark.fhe
def test_halves_that_make_no_sense_are_refused(timed: Compiled) -> None:
    lowered = stacks_of(timed)[0].lowered
    assert lowered is not None
    scheme = StackBackend()
    assert scheme.check_proofs(ServerHalf(lowered.client.program, lowered.client.tensors)) == []
    for name, value in (
        ("limit", 0), ("units", [1.0]), ("units", [0.0, 1.0]), ("p_error", 1.5), ("inputs", []), ("output_shapes", [[1]]),
        ("input_shapes", [[1], [2]]), ("specs", "{}"), ("request", {"head": "", "size": 8, "tail": ""}),
    ):  # fmt: skip
        program = copy.deepcopy(dict(lowered.client.program)) | {name: value}
        with pytest.raises(ProtocolError):
            scheme.load_client(ClientHalf(program, lowered.client.tensors))
    wide = dict(lowered.client.program) | {"largest": 1 << 50}
    assert "do not fit" in scheme.check_proofs(ServerHalf(wide, lowered.client.tensors))[0]
    noisy = dict(lowered.client.program) | {"norm": 1e9}
    assert "wrong with probability" in scheme.check_proofs(ServerHalf(noisy, lowered.client.tensors))[0]
    with pytest.raises(ProtocolError, match="units"):
        scheme.load_client(ClientHalf(lowered.client.program, {}))
    tensors = {**lowered.client.tensors, "offset": np.full_like(lowered.client.tensors["offset"], np.nan)}
    with pytest.raises(ProtocolError, match="must be finite"):
        scheme.load_client(ClientHalf(lowered.client.program, tensors))
    region = stacks_of(timed)[0]
    client = scheme.load_client(lowered.client)
    with pytest.raises(ProtocolError, match="inputs of"):
        encrypt_whole(client, [value[:, :1] for value in values_for(region, 1)], 1)


@pytest.mark.fhe
def test_concrete_takes_the_stacks_that_are_faster_as_one_circuit(tmp_path: Path) -> None:
    net = Net("side by side")
    example = {"sample": torch.randn(2, 2, 4, 4)}
    for partition, budgets in (("all", {}), ("optimised", {"client_weights_mib": 0.0})):
        options = CompileOptions(backend="concrete", partition=partition, **budgets)  # type: ignore[arg-type]
        compiled = compile_model(net.eval(), tmp_path / partition, options=options, example_inputs=example)
        (region,) = program_of(compiled).calls.values()
        assert region.backend == "concrete_stacks"
    lone = backend("concrete").propose(marked(Net("activation between"), example), Context())
    assert [candidate.backend for candidate in lone] == ["concrete", "concrete"]
