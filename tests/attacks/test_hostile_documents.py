"""A client is given documents of regions that were written to make it send secrets in the clear, stop, or take all memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

import hecompile
from hecompile.backends.concrete.specs import parse_specs
from hecompile.backends.registry import backend
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.ir.halves import ClientHalf
from hecompile.ir.plan import Plan, Step, Value
from hecompile.ir.signature import Constant, Results, check_keywords
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.results import check_count, check_structure
from hecompile.runtime.stand_ins import stand_ins
from hecompile.runtime.transports import Transport
from hecompile.sampler_artifact import SamplerOptions, compile_sampler
from hecompile.untrusted import parse_json
from tests.attacks.hostile import change_manifest, change_program
from tests.fuzz.halves import concrete_half, concrete_specs, lookup_half, stack_half, stored_halves

Change = Callable[[dict[str, Any]], object]


def specification() -> dict[str, Any]:
    """Of a convolution of 2 channels of 4x4."""
    document: dict[str, Any] = json.loads(concrete_specs((1, 2, 4, 4), (1, 6, 4, 4)).text)
    return document


def gate(document: dict[str, Any]) -> Any:
    """Its input."""
    return document["circuits"][0]["inputs"][0]


def also_plain(document: dict[str, Any]) -> None:
    """A ciphertext and a plaintext at once: which member of the union counts is for its reader to choose."""
    shape = {"dimensions": [1, 2, 4, 4]}
    gate(document)["typeInfo"]["plaintext"] = {"shape": shape, "integerPrecision": 64, "isSigned": True}
    gate(document)["rawInfo"] = {"integerPrecision": 64, "isSigned": True, "shape": shape}


def key_dimension(dimension: int) -> Change:
    """Another dimension of the key than that of the ciphertexts under it."""
    return lambda document: document["keyset"]["lweSecretKeys"][0]["params"].update(lweDimension=dimension)


def whole_dimension(dimension: int) -> Change:
    """Every dimension of a specification and what follows from it."""

    def change(document: dict[str, Any]) -> None:
        key_dimension(dimension)(document)
        circuit = document["circuits"][0]
        for terminal in (*circuit["inputs"], *circuit["outputs"]):
            terminal["typeInfo"]["lweCiphertext"]["encryption"]["lweDimension"] = dimension
        for holder, name in ((circuit["outputs"][0]["rawInfo"], "shape"), (cipher(circuit["outputs"][0]), "concreteShape")):
            holder[name]["dimensions"][-1] = dimension + 1

    return change


def cipher(terminal: dict[str, Any]) -> Any:
    return terminal["typeInfo"]["lweCiphertext"]


SPECIFICATIONS: dict[str, Change] = {
    "a gate that is a ciphertext and a plaintext": also_plain,
    "a gate that is a plaintext": lambda d: gate(d).update(typeInfo={"plaintext": {"shape": {"dimensions": [1]}}}),
    "a key of dimension 0": key_dimension(0),
    "a key of dimension 1": key_dimension(1),
    "a key of dimension 64": key_dimension(64),
    "a key of dimension 1284": key_dimension(1284),
    "a key of dimension 100000": key_dimension(100000),
    "everything of dimension 0": whole_dimension(0),
    "everything of dimension 64": whole_dimension(64),
    "everything of dimension 100000": whole_dimension(100000),
    "a negative dimension": whole_dimension(-1285),
    "a key that is not binary": lambda d: d["keyset"]["lweSecretKeys"][0]["params"].update(keyType="ternary"),
    "two keys of one number": lambda d: d["keyset"]["lweSecretKeys"].append(d["keyset"]["lweSecretKeys"][0]),
    "a gate under a key that is not there": lambda d: cipher(gate(d))["encryption"].update(keyId=1),
    "another modulus": lambda d: cipher(gate(d))["encryption"].update(modulus={"modulus": {"powerOfTwo": {"power": 10}}}),
    "two moduli": lambda d: cipher(gate(d))["encryption"]["modulus"]["modulus"].update(integer={"modulus": 2}),
    "no seed for the input": lambda d: cipher(gate(d)).update(compression="none"),
    "words of another shape": lambda d: gate(d)["rawInfo"]["shape"].update(dimensions=[1, 2, 4, 4]),
    "another encoding beside": lambda d: cipher(gate(d))["encoding"].update(boolean={}),
    "an encoding in chunks": lambda d: cipher(gate(d))["encoding"]["integer"].update(mode={"chunked": {"size": 1, "width": 1}}),
    "a variance of text": lambda d: cipher(gate(d))["encryption"].update(variance="1e-19"),
    "a width of true": lambda d: cipher(gate(d))["encoding"]["integer"].update(width=True),
    "a packing key": lambda d: d["keyset"]["packingKeyswitchKeys"].append({}),
    "a second input": lambda d: d["circuits"][0]["inputs"].append(gate(d)),
    "a second circuit": lambda d: d["circuits"].append(d["circuits"][0]),
    "a key more": lambda d: d.update(tfhers_specs={}),
    "a name that is a path": lambda d: d["circuits"][0].update(name="../x"),
}


@pytest.mark.promise("specifications")
@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_specifications_with_another_meaning_are_refused(name: str) -> None:
    document = specification()
    assert parse_specs(json.dumps(document)).weak(128) == []
    SPECIFICATIONS[name](document)
    with pytest.raises(ProtocolError, match="circuit specification"):
        parse_specs(json.dumps(document))


@pytest.mark.promise("specifications")
def test_keys_that_stand_twice_are_refused() -> None:
    text = json.dumps(specification())
    for key in ("variance", "lweDimension", "typeInfo", "keyset"):
        with pytest.raises(ProtocolError, match="twice"):
            parse_specs(text.replace(f'"{key}":', f'"{key}": 0, "{key}":', 1))


@pytest.mark.fhe
@pytest.mark.promise("specifications")
@pytest.mark.parametrize("attack", ["a gate that is a ciphertext and a plaintext", "a key of dimension 1", "a key of dimension 0"])
def test_an_artifact_with_such_a_specification_does_not_load(attack: str, tiny_concrete: Compiled, tmp_path: Path) -> None:
    assert tiny_concrete.artifact is not None
    artifact = Path(copytree(tiny_concrete.artifact, tmp_path / "artifact"))
    load_bundle(artifact)

    def change(program: dict[str, Any]) -> None:
        layer = program["layers"][0]
        document = json.loads(layer["specs"])
        SPECIFICATIONS[attack](document)
        layer["specs"] = json.dumps(document)
        if "plaintext" in attack:
            layer["request"]["size"] = 256  # of quantised entries in the clear

    change_program(artifact, "call_01", change)
    with pytest.raises(ProtocolError, match="circuit specification"):
        load_bundle(artifact)


def changed(half: ClientHalf, *place: str | int, value: Any) -> ClientHalf:
    """A half whose document has another value at a place."""
    program = json.loads(json.dumps(half.program))
    node = program
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return ClientHalf(program, half.tensors)


HUGE = 10**9
CONCRETE: list[tuple[Callable[[], ClientHalf], tuple[str | int, ...], Any]] = [
    (concrete_half, ("layers", 0, "images_per_sample"), HUGE),
    (concrete_half, ("max_batch",), HUGE),
    (concrete_half, ("max_batch",), "3"),
    (concrete_half, ("max_batch",), True),
    (concrete_half, ("layers", 0, "limits", "entry"), 1 << 17),
    (concrete_half, ("layers", 0, "limits", "window"), 1),
    (concrete_half, ("layers", 0, "largest"), 1 << 80),
    (concrete_half, ("layers", 0, "request", "tail"), ""),
    (concrete_half, ("layers", 0, "reply", "head"), "00" * 64),
    (concrete_half, ("layers", 0, "geometry", "channels"), HUGE),
    (concrete_half, ("region",), "../up"),
    (concrete_half, ("more",), 1),
    (stack_half, ("units",), [1e300, 1.0]),
    (stack_half, ("limit",), 1 << 20),
    (stack_half, ("shift",), 30),
    (stack_half, ("input_shapes",), [[2, 4, 4], [-5]]),
    (stack_half, ("reply", "tail"), "00"),
    (lookup_half, ("key_bytes",), 1 << 31),
    (lookup_half, ("key_bytes",), 1000),
    (lookup_half, ("complexity",), 1e300),
    (lookup_half, ("source", "scale"), 1e-300),
    (lookup_half, ("source", "high"), 1 << 20),
    (lookup_half, ("result_scale",), -1.0),
]


@pytest.mark.promise("documents")
@pytest.mark.parametrize(("half", "place", "value"), CONCRETE)
def test_circuits_with_numbers_out_of_range_are_refused(
    half: Callable[[], ClientHalf], place: tuple[str | int, ...], value: Any
) -> None:
    scheme = backend(str(half().program["backend"]))
    scheme.load_client(half())
    with pytest.raises(ProtocolError):
        scheme.load_client(changed(half(), *place, value=value))


@pytest.mark.promise("documents")
def test_a_quantiser_does_not_make_values_larger_than_they_are() -> None:
    half = lookup_half()
    for zero in (np.zeros((1000, 1, 1, 1, 1)), np.zeros((1, 7, 1, 1)), np.full(1, 1e300), np.full(1, np.nan)):
        with pytest.raises(ProtocolError, match=r"source\.zero"):
            backend("concrete_lookups").load_client(ClientHalf(half.program, {**half.tensors, "source.zero": zero}))


LAYERS: list[tuple[tuple[str | int, ...], Any]] = [
    (("images_per_sample",), HUGE),
    (("images_per_sample",), True),
    (("geometry", "channels"), 10**12),
    (("geometry", "size"), [10**6, 10**6]),
    (("geometry", "taps"), [[10**12, 0]]),
    (("geometry", "taps"), [[0, 0], [0, 0]]),
    (("geometry", "down"), [10**6, 10**6]),
    (("split", "channels"), 10**12),
    (("split", "tiles"), {"rows": 10**9, "columns": 10**9, "encrypted": [0]}),
    (("parameters", "dimension"), "2048"),
    (("parameters", "q_bits"), 10**30),
    (("parameters", "t_bits"), 60),
    (("q",), -1),
    (("packings", 0, "p_out"), 10**15),
    (("packings", 0, "images_per_poly"), 1 << 62),
    (("packings", 0, "noise_bits"), 1e300),
    (("packings",), []),
    (("more",), {}),
]


@pytest.mark.promise("documents")
@pytest.mark.parametrize(("place", "value"), LAYERS)
def test_layers_with_numbers_out_of_range_are_refused(place: tuple[str | int, ...], value: Any, tiny: Compiled) -> None:
    assert tiny.artifact is not None
    half = stored_halves(tiny.artifact)[0]
    with pytest.raises(ProtocolError):
        backend("bfv").load_client(changed(half, "layers", 0, *place, value=value))


STEPS: list[tuple[tuple[str | int, ...], Any]] = [
    (("clear",), [-1]),
    (("clear",), [64]),
    (("clear",), [0] * 5000),
    (("most_clear",), -1),
    (("most_clear",), 10**9),
    (("reveal_bits",), 15),
    (("reveal_bits",), 0),
    (("weight_bits",), -1),
    (("weight_bits",), 0),
    (("weight_bits",), 10**9),
    (("cost",), "jacobian"),
    (("cost",), "nothing"),
    (("tau",), 2.0),
    (("max_batch",), 257),
    (("shape",), [8192, 8192, 1]),
    (("parameters", "t_bits"), 10**6),
    (("parameters", "dimension"), 0),
    (("parameters", "limit"), 0),
    (("q",), 0),
    (("drops", "a"), 63),
]


@pytest.mark.promise("documents")
@pytest.mark.parametrize(("place", "value"), STEPS)
def test_sampler_steps_with_numbers_out_of_range_are_refused(place: tuple[str | int, ...], value: Any, tmp_path: Path) -> None:
    compile_sampler(tmp_path / "sampler", (1, 8, 8), options=SamplerOptions(dynamic=True))
    (half,) = stored_halves(tmp_path / "sampler")
    backend("sampler_step").load_client(half)
    with pytest.raises(ProtocolError):
        backend("sampler_step").load_client(changed(half, *place, value=value))


@pytest.mark.promise("documents")
def test_plans_with_names_or_shapes_that_are_none_are_refused() -> None:
    for shape in (
        ("xB",),
        ("0B",),
        ("-1B",),
        ("B" * 9,),
        (0,),
        (-1,),
        (1 << 30,),
        (True,),
        ("9999999B",),
        (1,) * 9,
        (1 << 20, 1 << 20),
    ):
        with pytest.raises(ProtocolError, match="plan"):
            Value("x", shape, "float32", True)
    for name in ("", "a\0b", "../x", "a" * 300, "é"):
        with pytest.raises(ProtocolError, match="plan"):
            Value(name, ("B",), "float32", True)
        with pytest.raises(ProtocolError, match="plan"):
            Step("call", name, ("x",), ("y",))
    with pytest.raises(ProtocolError, match="type"):
        Value("x", ("B",), "object", True)
    value = Value("x", ("B",), "float32", True)
    with pytest.raises(ProtocolError, match="two records"):
        Plan(("x",), ("x",), (), (value, value))
    with pytest.raises(ProtocolError, match="too many"):
        Plan(("x",), ("x",), tuple(Step("client", f"r{place}", ("x",), (f"y{place}",)) for place in range(5000)), (value,))


def test_signatures_that_cannot_be_called_are_refused() -> None:
    for keywords in ([("a",), ("a", "b")], [("a",), ("a",)], [()], [(0,)], [("a", -1)], [("a\0",)], [("a",) * 20]):
        with pytest.raises(ProtocolError, match="signature"):
            check_keywords(keywords)
    for value in (10**30, "a" * 5000, float("inf"), float("nan")):
        with pytest.raises(ProtocolError, match="signature"):
            Constant(("a",), value)
        with pytest.raises(ProtocolError, match="results"):
            Results("constant", value=value)


LEAF = Results()


class Nobody(Transport):
    """A server that must not be asked."""

    def send(self, digest: str, region: str, body: object, reply: object) -> None:
        raise AssertionError

    def open_session(self, digest: str, body: object) -> str:
        raise AssertionError

    def close_session(self, digest: str, identifier: str) -> None:
        raise AssertionError

    def greet(self, digest: str) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


@pytest.mark.promise("documents")
@pytest.mark.parametrize(
    "results",
    [
        Results("output", name=":Foo", keys=("class",), items=(LEAF,)),
        Results("output", name=":Foo", keys=("a", "a"), items=(LEAF, LEAF)),
        Results("output", name=":Foo"),
        Results("output", name=":Foo", keys=("keys", "items"), items=(LEAF, LEAF)),
        Results("namedtuple", name="Foo", keys=("class",), items=(LEAF,)),
        Results("namedtuple", name="Foo", keys=("a", "a"), items=(LEAF, LEAF)),
        Results("namedtuple", name="Foo", keys=("_a",), items=(LEAF,)),
        Results("output", name="diffusers.pipelines.stable_diffusion:StableDiffusionPipelineOutput"),
        Results("output", name="diffusers.models:UNet2DConditionModel", keys=("sample",), items=(LEAF,)),
        Results("output", name="transformers.utils.sentencepiece_model_pb2:X", keys=("sample",), items=(LEAF,)),
        Results("tensor", 1),
    ],
    ids=str,
)
def test_results_that_cannot_be_built_are_refused(results: Results) -> None:
    """When loading: afterwards it would be an error of Python's or of another library's in the middle of a call."""
    with pytest.raises(ProtocolError, match="results"):
        check_structure(Results("tuple", items=(LEAF, results)), 1)


@pytest.mark.promise("documents")
def test_results_beyond_the_plans_outputs_are_refused() -> None:
    """Also by a client on arrays, which builds no structure."""
    check_count(Results("tuple", items=(LEAF, Results("tensor", 1))), 2)
    with pytest.raises(ProtocolError, match="results"):
        check_count(Results("tuple", items=(LEAF, Results("tensor", 1))), 1)


@pytest.mark.promise("documents")
def test_results_are_judged_before_a_server_is_asked(tiny: Compiled, tmp_path: Path) -> None:
    assert tiny.artifact is not None
    artifact = Path(copytree(tiny.artifact, tmp_path / "artifact"))
    results = {"kind": "output", "name": ":Foo", "keys": ["class"], "items": [{"kind": "tensor"}]}
    change_manifest(artifact, lambda manifest: manifest["signature"].update(results=results))
    with pytest.raises(ProtocolError, match="results"):
        hecompile.load(artifact, Nobody())


@pytest.mark.promise("specifications")
@pytest.mark.parametrize("half", [concrete_half, stack_half])
def test_an_encoding_without_negative_numbers_is_refused(half: Callable[[], ClientHalf]) -> None:
    """A client stops at the first negative number that such an encoding does not hold."""
    document = json.loads(json.dumps(half().program))
    layer = document if "specs" in document else document["layers"][0]
    specs = json.loads(layer["specs"])
    cipher(gate(specs))["encoding"]["integer"]["isSigned"] = False
    layer["specs"] = json.dumps(specs)
    layer["request"] = asdict(parse_specs(layer["specs"]).request)
    with pytest.raises(ProtocolError, match=r"limits|does not hold"):
        backend(str(document["backend"])).load_client(ClientHalf(document, half().tensors))


def test_documents_of_millions_of_values_are_not_made() -> None:
    """Three bytes of text become an object of sixty."""
    with pytest.raises(ProtocolError, match="values"):
        parse_json(b"[" + b"[]," * 2_000_000 + b"[]]", "the manifest")
    assert parse_json('["' + "," * 2_000_000 + '"]', "a text") == ["," * 2_000_000]


def test_stand_ins_are_few() -> None:
    """Each is a module of torch's."""
    with pytest.raises(ProtocolError, match="projections"):
        stand_ins({"image_projections": ["ImageProjection"] * 1000})


@pytest.mark.promise("graphs")
@pytest.mark.parametrize("half", [concrete_half, stack_half])
def test_no_value_keeps_a_client_from_encrypting(half: Callable[[], ClientHalf]) -> None:
    """A region may make any type, and numbers that no float32 holds: a client that stopped there would tell."""
    client = backend(str(half().program["backend"])).load_client(half())
    shapes = [(1, 2, 4, 4), (1, 5)][: len(client.inputs)]
    for dtype in (np.float64, np.float32, np.int64, np.bool_):
        for value in (1e308, -1e308, 5e-324, np.inf, -np.inf, np.nan):
            with np.errstate(all="ignore"):
                values = [np.full(shape, value).astype(dtype) for shape in shapes]
                values[0].flat[0] = 1
                client.encrypt(values, 1)
