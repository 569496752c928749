"""What is done otherwise for models that are too large to run after every pass, or to be held twice: shown on a small one."""

from __future__ import annotations

import gc
import json
import mmap
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

import hecompile
from hecompile import compiler, rehearsal
from hecompile.artifact_files import read_server_half
from hecompile.artifact_server import read_server
from hecompile.artifact_tensors import mapped_tensors
from hecompile.compiler import compile_model
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.layers import secret_layers
from hecompile.ir.linear import Array
from hecompile.ir.linear_ops import QuantizedLinearOp
from hecompile.ir.regions import CallRegion, Program
from hecompile.options import CompileOptions
from hecompile.passes.base import Pass
from hecompile.progress import Progress
from tests.networks import Tiny, tiny_inputs

OPTIONS = CompileOptions(max_batch=2)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model counts as large."""
    monkeypatch.setattr(compiler, "VERIFY_GMAC", 0.0)
    monkeypatch.setattr(rehearsal, "CALLED_GMAC", 0.0)


def tiny(output: Path | None = None, **changes: Any) -> compiler.Compiled:
    torch.manual_seed(0)
    return compile_model(Tiny().eval(), output, options=OPTIONS, example_inputs=tiny_inputs(), **changes)


@dataclass(frozen=True)
class Spoil(Pass[Program, Program]):
    """Turn the signs of all weights of every layer."""

    def run(self, program: Program) -> Program:
        def spoiled(linear_op: Any) -> Any:
            return replace(linear_op, weights=-linear_op.weights) if isinstance(linear_op, QuantizedLinearOp) else linear_op

        return program.with_calls(lambda region: region.with_linear_ops(spoiled) if isinstance(region, CallRegion) else region)


@pytest.mark.usefixtures("large")
def test_a_pass_that_breaks_layers_of_a_large_model_is_noticed() -> None:
    with pytest.raises(InternalError, match="spoil changed"):
        tiny(extra_passes={"quantize": [Spoil()]})


@pytest.mark.usefixtures("large")
def test_products_of_a_large_model_are_compared_with_the_nodes_they_are_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from hecompile.passes import split

    def larger(make: Callable[[], Array]) -> Array:
        return make() * 1.01

    def turned(graph: Any) -> Any:
        layers = secret_layers(graph)
        return [
            replace(layer, linear_op=replace(layer.linear_op, make_weights=partial(larger, layer.linear_op.make_weights)))
            for layer in layers
        ]

    monkeypatch.setattr(split, "secret_layers", turned)
    with pytest.raises(InternalError, match="split, in region"):
        tiny(until="split")


@pytest.mark.usefixtures("large")
def test_some_regions_of_a_large_artifact_are_asked_as_client_and_server_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hecompile.backends.bfv.server import BfvServer

    asked, evaluate = list[int](), BfvServer.evaluate

    def noted(self: BfvServer, payload: bytes, batch: int, session: Any = None) -> Any:
        asked.append(batch)
        return evaluate(self, payload, batch, session)

    monkeypatch.setattr(BfvServer, "evaluate", noted)
    tiny(tmp_path / "model.he")
    assert asked == [1, 1]


@pytest.mark.usefixtures("large")
def test_an_artifact_whose_server_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hecompile.backends.bfv import lowering

    make = lowering.lower_layers

    def spoiled(*arguments: Any) -> Any:
        lowered = make(*arguments)
        tensors = {name: -tensor for name, tensor in lowered.server.tensors.items()}
        return replace(lowered, server=replace(lowered.server, tensors=tensors))

    monkeypatch.setattr("hecompile.backends.bfv.lowering.lower_layers", spoiled)
    with pytest.raises(InternalError, match="differs from the program's"):
        tiny(tmp_path / "model.he")
    assert not (tmp_path / "model.he").exists()


def test_float_weights_exist_only_while_they_are_read() -> None:
    program = tiny(until="split").program
    assert isinstance(program, Program)
    linear_op: Any = program.linear_ops[0]
    first, second = linear_op.weights, linear_op.weights
    assert first is not second
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, second)


def test_progress_is_told_region_by_region() -> None:
    told = list[Progress]()
    tiny(progress=told.append)
    quantized = [progress for progress in told if progress.work == "quantize"]
    assert [progress.done for progress in quantized] == list(range(1, len(quantized) + 1))
    assert {progress.total for progress in quantized} == {len(quantized)}


def test_weights_of_a_server_are_views_of_its_files(tmp_path: Path) -> None:
    tiny(tmp_path / "model.he")
    manifest, _, root = read_server(tmp_path / "model.he")
    half = read_server_half(root, manifest.files, manifest.regions[0])
    for tensor in half.tensors.values():
        base: Any = tensor
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base.obj, mmap.mmap)
        assert not tensor.flags.writeable


def header(entries: Mapping[str, Any], data: bytes) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "I8", "shape": [2, 3], "data_offsets": [0, 6]}


def test_mapped_tensors_are_those_that_were_saved() -> None:
    arrays: dict[str, Array] = {
        "a": np.arange(6, dtype=np.int8).reshape(2, 3),
        "b": np.array([[1.5]], np.float64),
        "c": np.zeros((0, 4), np.int8),
    }
    mapped = mapped_tensors(save(arrays), "file")
    assert set(mapped) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(mapped[name], array)
        assert mapped[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("entries", "size"),
    [
        ({"a": ENTRY | {"data_offsets": [0, 7]}}, 7),
        ({"a": ENTRY | {"data_offsets": [1, 7]}}, 7),
        ({"a": ENTRY}, 5),
        ({"a": ENTRY}, 7),
        ({"a": ENTRY, "b": ENTRY}, 6),
        ({"a": ENTRY | {"shape": [2, -3]}}, 6),
        ({"a": ENTRY | {"shape": [True, 6]}}, 6),
        ({"a": ENTRY | {"shape": [6] + [1] * 8}}, 6),
        ({"a": ENTRY | {"dtype": "BF16"}}, 6),
        ({"a": ENTRY | {"dtype": ["I8"]}}, 6),
        ({"a": ENTRY | {"more": 1}}, 6),
        ({"a": [0, 6]}, 6),
        ({"a": ENTRY | {"data_offsets": [0, 1 << 60], "shape": [1 << 60]}}, 6),
    ],
)
def test_a_header_that_lies_about_its_tensors_is_refused(entries: Mapping[str, Any], size: int) -> None:
    with pytest.raises(ProtocolError, match="file"):
        mapped_tensors(header(entries, bytes(size)), "file")


def test_values_are_given_up_after_their_last_reader(tmp_path: Path) -> None:
    tiny(tmp_path / "model.he")
    unet = hecompile.load(tmp_path / "model.he")
    plan, alive = unet._executor.bundle.manifest.plan, dict[str, weakref.ref[Any]]()
    held = dict[str, set[str]]()  # at each request, of what earlier steps made
    for name, client in unet._executor.bundle.calls.items():
        unet._executor.bundle.calls[name].encrypt = _noting(name, client, alive, held, plan)  # type: ignore[method-assign]
    unet(**tiny_inputs())
    unet.close()
    places = {step.region: place for place, step in enumerate(plan.steps)}
    assert len(held) == sum(step.kind == "call" for step in plan.steps)
    for region, names in held.items():
        needed = {*plan.inputs, *(name for step in plan.steps[places[region] :] for name in step.inputs)}
        assert names <= needed, region


def _noting(name: str, client: Any, alive: dict[str, Any], held: dict[str, set[str]], plan: Any) -> Any:
    """A region's `encrypt` that notes which inputs of earlier requests still exist."""
    encrypt, inputs = client.encrypt, next(step.inputs for step in plan.steps if step.region == name)

    def noted(values: Any, *arguments: Any) -> Any:
        gc.collect()
        held[name] = {source for source, reference in alive.items() if reference() is not None}
        alive.update({source: weakref.ref(value) for source, value in zip(inputs, values, strict=True)})
        return encrypt(values, *arguments)

    return noted


def test_sessions_of_a_process_share_one_arena_also_when_threads_make_the_first(tmp_path: Path) -> None:
    tiny(tmp_path / "model.he")
    failures = list[BaseException]()

    def load() -> None:
        try:
            with hecompile.load(tmp_path / "model.he")._executor._transport:
                pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
