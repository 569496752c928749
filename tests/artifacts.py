"""Artifacts that tests share: compiled once for all workers and stages, until a source, a helper of the tests or a package changes.

They lie in `.compiled`, which `make clean` removes; in a folder `.artifacts` Concrete leaves its own and clears it. A test that
changes one copies it before.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from filelock import FileLock
from torch import fx

from hecompile.artifact_writing import checksums
from hecompile.compiler import Compiled, compile_model
from hecompile.ir import own_ops as own_ops  # graphs that are read name its operators
from hecompile.options import CompileOptions

__all__ = ["compile_once", "shared"]

ROOT = Path(__file__).parents[1]
STORE = ROOT / ".compiled"
SOURCES = ("hecompile", "passes", "runtime", "models", "tests", "examples")
OLD_S = 86_400.0  # after which what other sources made is removed
Result = TypeVar("Result")
_held: dict[Path, object] = {}


@cache
def _state(ours: bool) -> str:
    """A digest of the packages that are installed and, where that is asked for, of our sources but for the tests themselves."""
    digest = hashlib.sha256(f"{sys.version} {platform.platform()} {os.cpu_count()}".encode())
    packages = Path(torch.__file__).parents[1].glob("*.dist-info")  # named with their versions
    digest.update(" ".join(sorted(path.name for path in packages)).encode())
    for path in sorted(path for folder in SOURCES if ours for path in (ROOT / folder).rglob("*")):
        if path.suffix in (".py", ".json", ".safetensors") and not path.name.startswith("test_") and "golden" not in path.parts:
            digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size} ".encode() + path.read_bytes())
    return f"{'sources' if ours else 'packages'}-{digest.hexdigest()[:32]}"


def compile_once(
    source: str | Callable[[], torch.nn.Module], options: CompileOptions, inputs: Mapping[str, torch.Tensor] | None = None
) -> Compiled:
    """A model of the zoo, or what `source` makes, compiled with these options for these example inputs."""

    def build(folder: Path) -> Compiled:
        model = source if isinstance(source, str) else source().eval()
        return compile_model(model, folder, options=options, example_inputs=inputs)

    examples = {name: (value.dtype, value.tolist()) for name, value in (inputs or {}).items()}
    name = source if isinstance(source, str) else source.__qualname__
    return shared(f"{name} {options} {examples}", build, *([] if isinstance(source, str) else [source]))


def shared(name: str, build: Callable[[Path], Result], *others: Callable[..., Any], ours: bool = True) -> Result:
    """What `build` returned for the folder that it was given to write into, in this process or an earlier one.

    The name must say everything that it depends on beside sources, its own file and those of `others` included. What it returns
    is pickled, modules of torch.fx too. A build that was interrupted, or whose folder was changed afterwards, is done again.
    `ours`: whether it depends on our sources; what others make of a module does not.
    """
    files = b"".join(
        Path(inspect.getfile(function)).read_bytes() for function in (build, *others)
    )  # tests are not among the sources
    place = STORE / _state(ours) / f"{name.split()[0]}-{hashlib.sha256(name.encode() + files).hexdigest()[:16]}"
    if place not in _held:
        if not place.parent.is_dir():
            _forget_old()
            place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(place.name + ".lock")):
            _held[place] = _read_or_build(place, build)
    return cast(Result, _held[place])


def _read_or_build(place: Path, build: Callable[[Path], object]) -> object:
    record, folder = place / "result.pickle", place / "artifact"
    if record.is_file():
        files, result = pickle.loads(record.read_bytes())
        if files == _files(folder):
            return result
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    result = build(folder)
    with (place / "unfinished").open("wb") as sink:
        _Pickler(sink).dump((_files(folder), result))
    os.replace(place / "unfinished", record)
    return pickle.loads(record.read_bytes())[1]


def _files(folder: Path) -> Mapping[str, str]:
    return checksums(folder, skip="") if folder.is_dir() else {}


def _forget_old() -> None:
    """Remove what other sources made long ago."""
    for path in STORE.glob("*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > OLD_S:
            shutil.rmtree(path, ignore_errors=True)


class _Pickler(pickle.Pickler):
    """Pickles modules of torch.fx with what their nodes know, which their own form leaves out."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, fx.GraphModule):
            parts = {key: dict(value.__dict__[key]) for key in ("_parameters", "_buffers", "_modules")}
            nodes = [(n.name, n.op, n.target, _named(n.args), _named(n.kwargs), n.meta) for n in value.graph.nodes]
            return _graph_module, (parts, nodes, type(value).__name__, dict(value.meta))
        if isinstance(value, torch._ops.OpOverload):
            return _overload, (value.namespace, value._schema.name.split("::")[1], value._overloadname)
        return NotImplemented


class _Named(str):
    """A node by its name."""


def _named(value: Any) -> Any:
    return _mapped(value, fx.Node, lambda node: _Named(node.name))


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The value with everything of a kind in it changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(item, kind, change) for item in value)
    if isinstance(value, list):
        return [_mapped(item, kind, change) for item in value]
    if isinstance(value, dict):
        return {key: _mapped(item, kind, change) for key, item in value.items()}
    return value


def _overload(namespace: str, name: str, overload: str) -> Any:
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)


def _graph_module(parts: dict[str, dict[str, Any]], nodes: list[Any], kind: str, meta: dict[str, Any]) -> fx.GraphModule:
    root, graph, known = torch.nn.Module(), fx.Graph(), dict[str, fx.Node]()
    root.__dict__.update(parts)
    for name, op, target, args, kwargs, about in nodes:
        args, kwargs = (_mapped(given, _Named, known.__getitem__) for given in (args, kwargs))
        known[name] = graph.output(args[0]) if op == "output" else graph.create_node(op, target, args, kwargs, name)
        known[name].meta = about
    module = fx.GraphModule(root, graph, kind)
    module.meta = meta
    return module
