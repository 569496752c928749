"""A region in the clear: what it takes of the graph, and that its slot program computes what the graph does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import hecompile
from hecompile.backends.ckks.choose import ring_for
from hecompile.backends.ckks.document import read_document, read_tables
from hecompile.backends.ckks.engine import ClearEngine
from hecompile.backends.ckks.keys import key_size, key_sizes
from hecompile.backends.ckks.options import CkksOptions
from hecompile.backends.ckks.regions import lower_ckks_region
from hecompile.backends.context import Context
from hecompile.backends.registry import backend
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError, ProtocolError
from hecompile.options import CompileOptions
from tests.backends.ckks.network import Shown
from tests.backends.ckks.regions import polynomial_region, values, with_degree
from tests.payloads import encrypt_whole
from tests.programs import program_of

pytestmark = pytest.mark.fhe  # the network is compiled once for all of them

CONTEXT = Context(max_batch=3)


def capped(key_mib: float) -> Context:
    """With a cap on the keys of a region."""
    return replace(CONTEXT, panels={CkksOptions: CkksOptions(key_mib=key_mib)})


def test_two_convs_with_their_activations_are_one_region(with_polynomials: Compiled) -> None:
    region = polynomial_region(with_polynomials)
    operations = [str(node.target).split(".")[1] for node in region.graph_module.graph.nodes if node.op == "call_function"]
    assert (operations.count("conv2d"), operations.count("polynomial")) == (3, 2)
    assert program_of(with_polynomials).plan.rounds == 1
    assert with_polynomials.options.policy == "strict"


@pytest.mark.parametrize("degree", [2, 3, 4, 7])
def test_the_slot_program_computes_what_the_graph_does(with_polynomials: Compiled, degree: int) -> None:
    """Up to the rounding of float32 on both sides, times the polynomials' slopes."""
    region, scheme = with_degree(polynomial_region(with_polynomials), degree), backend("ckks_clear")
    halves = lower_ckks_region(region, CONTEXT)
    client, server = scheme.load_client(halves.client), scheme.load_server(halves.server)
    inputs = values(with_polynomials, region, 3)
    payload, pending = encrypt_whole(client, inputs, 3)
    assert len(payload) == client.request_bytes(3) == server.request_bytes(3)
    for got, want in zip(client.decrypt(server.evaluate(payload, 3), pending), region.reference(inputs), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())


def test_levels_are_those_of_layers_and_polynomials(with_polynomials: Compiled) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    document = read_document(lowered.client)
    assert document.body.program.ring.depth == 3 + 2  # three convs, two quadratics
    assert [upload.level for upload in document.body.uploads] == [5]
    assert all(result.level == 0 for result in document.body.results)


def test_values_far_outside_a_polynomials_range_are_told(with_polynomials: Compiled) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    document = read_document(lowered.server)
    engine = ClearEngine(document.body.program, read_tables(lowered.server, document))
    inputs = {upload.name: np.full(document.body.program.ring.slots, 30.0) for upload in document.body.uploads}
    with pytest.raises(ProtocolError, match=r"layer '.+': a value of .*, but its polynomial is valid up to .*--calibration"):
        engine.run(inputs)


@pytest.mark.parametrize("policy", ["min-distortion", "he-diffusion"])
def test_policies_that_reveal_values_are_refused(policy: str) -> None:
    """Li and Micciancio: what CKKS decrypted gives the key away."""
    with pytest.raises(CompileError, match="give its key away"):
        CompileOptions(backend="ckks", policy=policy, budget=0.1)


def test_a_region_that_no_secure_ring_carries_is_refused() -> None:
    """Two polynomials of degree 31 take ten levels beside three convs."""
    with pytest.raises(CompileError, match=r"layers .* no ring up to dimension .*128 bits of security") as caught:
        ring_for(24, 4096, "region 'call_01_ckks' (layers first, second)")
    assert "lower the degree" in str(caught.value)


def test_values_that_ciphertexts_do_not_hold_are_refused(with_polynomials: Compiled) -> None:
    region = polynomial_region(with_polynomials)
    output, ranges = region.outputs[0], dict.fromkeys(region.outputs, 70.0) | {"sample": 40.0}
    with pytest.raises(CompileError, match=rf"sample reaches 40 in calibration.*most 32\b[\s\S]*{output} reaches 70.*most 64\b"):
        lower_ckks_region(region, CONTEXT, ranges)


def test_outputs_have_the_ranges_of_the_calibration(with_polynomials: Compiled) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    (bound,) = [op.range for op in read_document(lowered.client).body.program.ops if op.kind == "output"]
    assert 0.1 < bound < 32


def test_keys_fit_a_cap_by_more_rotations(with_polynomials: Compiled) -> None:
    """With nine keys down to three the results are the same. With too few, an error names the layers."""
    region, scheme = polynomial_region(with_polynomials), backend("ckks_clear")
    assert region.lowered is not None
    whole = read_document(region.lowered.client).body.program
    inputs, counts = values(with_polynomials, region, 1), []
    for count in (len(whole.steps) - 1, 5, 3):
        cap_mib = (key_size(whole.ring, 1) + count * key_size(whole.ring, whole.ring.dimension)) / 2**20
        halves = lower_ckks_region(region, capped(cap_mib))
        program = read_document(halves.server).body.program
        counts.append((len(program.steps), program.counts()["rotate"]))
        assert sum(key_sizes(program).values()) <= cap_mib * 2**20
        assert scheme.check_proofs(halves.server) == []
        client, server = scheme.load_client(halves.client), scheme.load_server(halves.server)
        payload, pending = encrypt_whole(client, inputs, 1)
        for got, want in zip(client.decrypt(server.evaluate(payload, 1), pending), region.reference(inputs), strict=True):
            np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())
    keys, rotations = zip(*counts, strict=True)
    assert keys == (len(whole.steps) - 1, 5, 3)
    assert whole.counts()["rotate"] <= rotations[0] <= rotations[1] <= rotations[2]
    with pytest.raises(CompileError, match=r"layers polynomial, polynomial_2.*do not fit 0\.5 MiB[\s\S]*--key-mib \d") as caught:
        lower_ckks_region(region, capped(0.5))
    least = float(str(caught.value).split("--key-mib ")[1].split()[0])
    lower_ckks_region(region, capped(least))


def test_a_region_that_would_lose_too_much_is_refused(with_polynomials: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    from hecompile.backends.ckks import regions as module

    monkeypatch.setattr(module, "MOST_ERROR", 1e-9)
    with pytest.raises(CompileError, match=r"may be off by .*, more than 1e-09") as caught:
        lower_ckks_region(polynomial_region(with_polynomials), CONTEXT)
    assert "--degree" in str(caught.value)


def test_values_of_a_polynomial_may_leave_the_region(tmp_path: Path) -> None:
    """The client reads a value that the server also computes with further. Both results are as without encryption."""
    inputs = {"sample": torch.zeros(2, 1, 4, 4), "timestep": torch.tensor(500.0)}
    torch.manual_seed(1)
    call, outputs = {"sample": torch.randn(2, 1, 4, 4), "timestep": torch.tensor(12.0)}, dict[str, tuple[torch.Tensor, ...]]()
    for name in ("ckks_clear", "clear"):
        options = CompileOptions(backend=name, max_batch=3, **CkksOptions.recommends)  # type: ignore[arg-type]
        compile_model(Shown().eval(), tmp_path / name, options=options, example_inputs=inputs)
        outputs[name] = hecompile.load(tmp_path / name, policy="simulation")(**call)
    for own, other in zip(outputs["ckks_clear"], outputs["clear"], strict=True):
        assert (own - other).abs().max() < 0.02 * other.abs().max()
