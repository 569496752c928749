"""What a server trusts: its process loads the modules that are listed here and no other, whatever the scheme.

A module that is added to a list is one more that sees ciphertexts and weights. None of them compiles, and none can hold a secret
key.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

import hecompile
from hecompile.compiler import Compiled
from tests.attacks.loaded import names_of, own, server_modules
from tests.backends.ckks.network import compiled
from tests.networks import tiny_inputs
from tests.sampling import artifact as sampler_artifact
from tests.sampling import draw, load, make


def _within(room: str, names: str) -> frozenset[str]:
    return frozenset({room, *(f"{room}.{name}" for name in names.split())})


SERVING = (
    frozenset({"artifact_files", "artifact_server", "artifact_tensors", "buffers", "errors", "ir", "ir.halves"})
    | frozenset({"untrusted", "version"})
    | _within("cli", "app console interruptions running serving")
    | _within("backends", "base program_io region_server registry tensors")
    | _within("runtime", "greeting server service sessions wire")
    | _within(
        "runtime.serving",
        "app body_memory client_identity connections evaluations incoming limits log_limits metrics openapi queue refusals "
        "request_handler worker",
    )
)
PICTURES = frozenset({"ir.channels", "ir.linear", "ir.tiles"})
SEAL = frozenset({"backends.seal_files", "backends.words"})
LOADED: Mapping[str, frozenset[str]] = {
    "bfv": SERVING | PICTURES | {"_core", "backends.words"}
    | _within(
        "backends.bfv",
        "backend expansion forms integer kernels messages packing parameters program revealed revealed_product rings server "
        "weights",
    ),
    "ckks": SERVING | SEAL | {"ir.timesteps"}
    | _within(
        "backends.ckks",
        "backend document engine check_program key_files keys layout library plaintexts polynomial processes program ring "
        "seal seal_engine server value",
    ),
    "concrete": SERVING | PICTURES
    | _within("backends.concrete", "frames jobs limits messages parameters server specs tensors worker_process workers")
    | _within("backends.concrete.linear", "backend program"),
    "sampler_step": SERVING | {"_core", "backends.words", "ir.timesteps"} | _within("backends.bfv", "expansion parameters rings")
    | _within("backends.sampler_step", "backend layout program server") | _within("sparsity", "distortion_names"),
}  # fmt: skip
SHARED_OUT = _within("runtime.serving", "cluster listening remote replica") | {"backends.bfv.shards"}
WORKER = frozenset({"backends", "errors", "version"}) | _within("backends.concrete", "library messages worker")
COMPILES = (
    "approx", "artifact_writing", "backends.context", "backends.lower", "backends.quantize", "calibration", "cli.compiling",
    "cli.flags", "compiler", "frontend", "ir.builder", "ir.candidates", "ir.graph", "ir.linear_ops", "ir.regions", "machine",
    "measure", "models", "onnx_export", "options", "panels", "passes", "planner", "policies", "predict", "rehearsal", "report",
    "sampler_artifact", "security", "sparsity.importance", "sparsity.selection",
)  # fmt: skip
SCHEMES = ("bfv", "ckks", "concrete", "concrete.linear", "concrete.lookups", "concrete.stacks", "sampler_step")
COMPILES_A_SCHEME = (
    "admission", "candidates", "choose", "circuits", "costs", "linear_maps", "lower", "lowering", "measure", "options", "pricing",
    "provable", "scaled_polynomial", "stages",
)  # fmt: skip
HOLDS_A_KEY = {"SecretKey", "Secrets", "KeyGenerator", "Encryptor", "Decryptor", "Pending"}
TOOLS = {"torch", "diffusers", "onnx", "onnxruntime", "ortools", "scipy", "jinja2"}
OF_CKKS = {"seal", "tenseal", "zstandard"}  # which the base install does not have


Case = tuple[Path, Callable[[str], object]]


def _model(model: Compiled, inputs: Mapping[str, torch.Tensor]) -> Case:
    """An artifact, and a call of its model through a server."""
    folder = model.artifact
    assert folder is not None
    return folder, lambda url: hecompile.load(folder, url)(**inputs)


def _sampler(folder: Path) -> Case:
    """A sampler's artifact, and two of its steps through a server."""
    sampler_artifact(folder)

    def ask(url: str) -> None:
        scheduler = load(make("ddim"), folder, url)
        draw(scheduler, scheduler.initial_noise(1), 2)
        scheduler.close()

    return folder, ask


FHE = [pytest.param(scheme, marks=pytest.mark.fhe) for scheme in ("ckks", "concrete")]


@pytest.fixture(scope="module", params=["bfv", "sampler_step", *FHE])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, frozenset[str]]:
    """A scheme, and all modules of a real server process that has answered requests under it."""
    scheme = str(request.param)
    if scheme == "sampler_step":
        case = _sampler(tmp_path_factory.mktemp("sampler") / "sampler.he")
    elif scheme == "ckks":
        case = _model(compiled("ckks")[0], {"sample": torch.zeros(1, 1, 4, 4), "timestep": torch.tensor(500.0)})
    else:
        case = _model(request.getfixturevalue({"bfv": "tiny", "concrete": "tiny_concrete"}[scheme]), tiny_inputs())
    return scheme, server_modules(*case)


@pytest.mark.promise("no-key-at-the-server")
def test_a_server_loads_the_modules_that_are_listed_and_no_other(served: tuple[str, frozenset[str]]) -> None:
    scheme, modules = served[0], own(served[1])
    assert sorted(modules - LOADED[scheme]) == []
    assert sorted(LOADED[scheme] - modules) == []


@pytest.mark.promise("no-key-at-the-server")
def test_no_module_of_a_server_has_a_name_for_a_secret_key(served: tuple[str, frozenset[str]]) -> None:
    """Not in a class, a function, an import, nor in what is imported for types alone."""
    named = {name: names_of(name) & HOLDS_A_KEY for name in own(served[1])}
    assert {name: keys for name, keys in named.items() if keys} == {}


def test_a_server_loads_no_compiler_and_none_of_its_tools(served: tuple[str, frozenset[str]]) -> None:
    modules = served[1]
    forbidden = (*COMPILES, *(f"backends.{scheme}.{room}" for scheme in SCHEMES for room in COMPILES_A_SCHEME))
    assert [name for name in sorted(own(modules)) if f"{name}.".startswith(tuple(f"{prefix}." for prefix in forbidden))] == []
    packages = {name.partition(".")[0] for name in modules}
    assert TOOLS & packages == set()
    assert OF_CKKS & packages == ({"seal"} if served[0] == "ckks" else set())


@pytest.mark.promise("no-key-at-the-server")
def test_a_front_and_its_workers_load_what_a_server_does_and_what_shares_the_work_out() -> None:
    """Without Ray's own modules, which are the operator's; what a worker loads of an artifact is in the lists above."""
    names = "cli", "runtime.server", "runtime.serving.cluster", "backends.bfv.shards"
    code = f"import json, sys, {', '.join(f'hecompile.{name}' for name in names)}; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = own(frozenset(json.loads(loaded)))
    assert modules >= SHARED_OUT
    assert sorted(modules - LOADED["bfv"] - SHARED_OUT) == []
    assert "ray" not in json.loads(loaded)
    assert {name: names_of(name) & HOLDS_A_KEY for name in SHARED_OUT if names_of(name) & HOLDS_A_KEY} == {}


def test_concretes_worker_process_loads_its_library_and_what_it_speaks_with() -> None:
    """It is the server's too: it holds evaluation keys, and never a secret one of a client's."""
    code = "import json, sys, hecompile.backends.concrete.worker; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert sorted(own(frozenset(json.loads(loaded)))) == sorted(WORKER)
    assert {name: names_of(name) & HOLDS_A_KEY for name in WORKER if names_of(name) & HOLDS_A_KEY} == {}


def test_a_client_loads_no_compiler(tiny: Compiled) -> None:
    """It loads policies and the table of rings, by which it judges an artifact, and nothing that makes one."""
    code = "import hecompile, json, sys; hecompile.load(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", code, str(tiny.artifact)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    modules = own(frozenset(json.loads(loaded)))
    kept = {"ir.graph", "ir.linear_ops", "panels", "policies", "security"}  # a client judges its own regions' graphs, and the ring
    forbidden = [part for part in COMPILES if part not in kept]
    forbidden += [f"backends.{scheme}.{room}" for scheme in SCHEMES for room in COMPILES_A_SCHEME]
    assert {"_core", "backends.bfv.client", "backends.bfv.places"} <= modules
    assert [name for name in sorted(modules) if f"{name}.".startswith(tuple(f"{prefix}." for prefix in forbidden))] == []
