"""The document of a layer: rings of our own table, seeds that serve no more secrets than is safe, proofs that hold."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from hecompile.backends.bfv.choose import choose
from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.backends.bfv.lowering import lower_layers
from hecompile.backends.bfv.program import region_program
from hecompile.backends.bfv.rings import prime
from hecompile.backends.bfv.stages import PackedLinearOp, ParameterizedLinearOp, encrypted_weights
from hecompile.backends.registry import backend
from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.linear import Part, conv2d
from hecompile.ir.linear_ops import FloatLinearOp
from hecompile.ir.quantization import quantize
from hecompile.ir.regions import CallRegion, Lowered
from hecompile.machine import Machine


def lowered(name: str, size: int = 8, batch: int = 2) -> Lowered:
    """A convolution of 16 channels, quantised, with packings for every batch."""
    values = np.random.default_rng(0).standard_normal((16, 16, 3, 3))
    geometry, weights = conv2d(values, (size, size), (1, 1), (1, 1), (1, 1), 1)
    parts = (Part("y", geometry.outputs),)
    linear_op = quantize(FloatLinearOp("x", geometry, parts, weights.copy, np.zeros(16, np.float32), ChannelSplit(16)))
    first = choose(encrypted_weights(linear_op), 1, Machine())
    assert first is not None
    choices = [choose(encrypted_weights(linear_op), count, Machine(), first.parameters) for count in range(1, batch + 1)]
    packed = PackedLinearOp(ParameterizedLinearOp(linear_op, first.parameters), 1, tuple(choice for choice in choices if choice))
    scheme = backend(name)
    assert isinstance(scheme, IntegerBackend)
    return lower_layers(CallRegion("call_01", name, (packed,)), name, scheme.prime)


def changed(half: ClientHalf, **changes: object) -> ClientHalf:
    program: dict[str, Any] = copy.deepcopy(dict(half.program))
    program["layers"][0].update(changes)
    return ClientHalf(program, half.tensors)


def test_the_prime_is_that_of_the_table() -> None:
    half = lowered("bfv").client
    layer = region_program(half).body.layers[0]
    assert layer.q == prime(layer.parameters.q_bits, layer.parameters.t_bits)
    assert layer.requests == 1
    with pytest.raises(ProtocolError, match="not the table's prime"):
        region_program(changed(half, q=layer.q - 2))


def test_a_layer_in_clear_has_no_ring() -> None:
    layer = region_program(lowered("clear").client).body.layers[0]
    assert layer.q == 2**layer.parameters.q_bits - 1


@pytest.mark.promise("128-bits")
def test_a_client_refuses_more_secrets_under_a_seed_than_are_safe() -> None:
    half = lowered("bfv").client
    assert backend("bfv").check_security(half, 128) == []
    assert backend("bfv").check_security(changed(half, requests=50), 128) == []
    reasons = backend("bfv").check_security(changed(half, requests=1 << 20), 128)
    assert len(reasons) == 1
    assert "less than 128 bits" in reasons[0]


@pytest.mark.promise("128-bits")
def test_the_largest_batch_is_judged() -> None:
    """Of 40,000 requests one block each is safe, and a batch of several is not."""
    half = lowered("bfv", size=40, batch=4).client
    layer = region_program(half).body.layers[0]
    blocks = [layer.layout(batch).blocks for batch in (1, 2, 3, 4)]
    assert max(blocks) == blocks[-1] > blocks[0]
    limit = int(2 ** (142.8 - 128) / blocks[-1])
    assert backend("bfv").check_security(changed(half, requests=limit), 128) == []
    assert backend("bfv").check_security(changed(half, requests=limit + 1), 128) != []


@pytest.mark.parametrize("requests", [0, -1, 1 << 21])
def test_a_seed_serves_a_sensible_number_of_requests(requests: int) -> None:
    with pytest.raises(ProtocolError, match="one seed may not serve"):
        region_program(changed(lowered("bfv").client, requests=requests))


@pytest.mark.promise("128-bits")
def test_a_seed_serves_several_requests_at_48_bits_only() -> None:
    half = lowered("bfv").client
    parameters: dict[str, Any] = {**half.program["layers"][0]["parameters"], "q_bits": 50}  # type: ignore[index]
    wide = changed(half, parameters=parameters, q=prime(50, parameters["t_bits"]))
    region_program(wide)
    with pytest.raises(ProtocolError, match="one seed may not serve 2 requests"):
        region_program(changed(wide, requests=2))


def test_the_stated_bounds_hold_for_the_weights_and_no_larger_ones() -> None:
    half = lowered("bfv").server
    assert backend("bfv").check_proofs(half) == []
    full = ServerHalf(half.program, {**half.tensors, "0.weights": np.full_like(half.tensors["0.weights"], 127)})
    reasons = backend("bfv").check_proofs(full)
    assert "sums may exceed t/2" in reasons[0]
    assert "noise of" in reasons[1]


@pytest.mark.promise("128-bits")
def test_a_half_says_what_its_secrets_are_worth() -> None:
    """Bits of its ring less log2 of the secrets under one seed, and those against a quantum attacker beside them."""
    half = lowered("bfv", size=40, batch=4).client
    blocks = region_program(half).body.layers[0].layout(4).blocks
    description = backend("bfv").describe(half)
    assert description.classical_bits == pytest.approx(142.8 - np.log2(blocks), abs=0.05)
    assert description.quantum_bits == pytest.approx(137.1 - np.log2(blocks), abs=0.05)
    assert backend("clear").describe(lowered("clear").client).classical_bits == 0
