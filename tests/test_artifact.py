"""Artifacts on disk: same input, same bytes; anything missing, changed or strange is refused and nothing is half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import hecompile
from hecompile.artifact_writing import checksums, write_folder
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError, InternalError, ProtocolError
from hecompile.options import CompileOptions
from hecompile.runtime.service import load_service
from tests.networks import Tiny, tiny_inputs


@pytest.fixture
def artifact(tmp_path: Path, tiny: Compiled) -> Path:
    assert tiny.artifact is not None
    return Path(shutil.copytree(tiny.artifact, tmp_path / "artifact"))


def test_same_input_same_bytes(tmp_path: Path, tiny: Compiled) -> None:
    options = CompileOptions(max_batch=3)
    compile_model(Tiny().eval(), tmp_path / "again", options=options, example_inputs=tiny_inputs())
    assert tiny.artifact is not None
    assert checksums(tmp_path / "again", skip="") == checksums(tiny.artifact, skip="")


def test_nothing_of_this_machine_is_in_it(artifact: Path) -> None:
    for path in artifact.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for trace in (str(Path.home()).encode() + b"/", str(Path(hecompile.__file__).parent).encode(), b"site-packages"):
                assert trace not in data, path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": 5},
            "artifact format 5, written by hecompile 0.1.0; this is .*, which reads format 7: compile it again: hecompile compile",
        ),
        ({"format": 3, "written_by": None}, "artifact format 3, written by hecompile"),
        ({"format": 99, "written_by": "7.0"}, "artifact format 99, written by hecompile 7.0; .*: use a newer hecompile"),
        ({"format": "4"}, "written by hecompile something else"),
        ({"format": True}, "written by hecompile something else"),
    ],
)
def test_another_format_names_who_wrote_it_and_the_way_out(artifact: Path, changes: dict[str, object], message: str) -> None:
    for folder, load in ((artifact, hecompile.load), (artifact / "server", load_service)):
        manifest = json.loads((folder / "manifest.json").read_text()) | changes
        manifest.pop("written_by") if "written_by" not in changes else None
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ProtocolError, match=message):
            load(folder)


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "mine", tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(CompileError, match=r"is not an artifact|cannot be written"):
            compile_model("nosuch", target)  # the name is looked up after the folder
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_artifact_that_cannot_be_loaded_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the writer must not reach the folder."""
    from hecompile.passes import write as module

    def damaged(graph_module: object, name: str) -> bytes:
        return b"not a network"

    monkeypatch.setattr(module, "to_onnx", damaged)
    with pytest.raises(InternalError, match="cannot be loaded"):
        compile_model(Tiny().eval(), tmp_path / "new", options=CompileOptions(max_batch=2), example_inputs=tiny_inputs())
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hecompile.onnx_export import EMITTERS

    monkeypatch.setitem(EMITTERS, "aten.silu.default", EMITTERS["aten.relu.default"])
    with pytest.raises(InternalError, match="differs from the program's"):
        compile_model(Tiny().eval(), tmp_path / "new", options=CompileOptions(max_batch=2), example_inputs=tiny_inputs())
    assert list(tmp_path.iterdir()) == []


def test_onnx_files_of_convolutions_hold_standard_operators_only(artifact: Path) -> None:
    import onnx

    for path in (artifact / "client").glob("*.onnx"):
        model = onnx.load(path)
        assert [item.domain for item in model.opset_import] == [""]
        assert not any(node.domain for node in model.graph.node)


@pytest.mark.parametrize("name", ["manifest.json", "client/call_01.json", "client/call_01.safetensors", "client/client_01.onnx"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_file_is_found_by_the_client(artifact: Path, name: str, damage: str) -> None:
    from hecompile.runtime.simulation import NoServer

    hecompile.load(artifact, NoServer())
    harm(artifact / name, damage)
    with pytest.raises(ProtocolError):
        hecompile.load(artifact, NoServer())


@pytest.mark.parametrize("name", ["manifest.json", "call_01.json", "call_01.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_file_is_found_by_the_server(artifact: Path, name: str, damage: str) -> None:
    harm(artifact / "server" / name, damage)
    with pytest.raises(ProtocolError):
        load_service(artifact / "server")


def harm(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def test_every_byte_counts(artifact: Path) -> None:
    """One flipped bit anywhere in any file of the server half."""
    for path in sorted((artifact / "server").iterdir()):
        if path.name == "manifest.json":
            continue
        data = path.read_bytes()
        for place in (0, len(data) // 3, len(data) - 1):
            changed = bytearray(data)
            changed[place] ^= 4
            path.write_bytes(changed)
            with pytest.raises(ProtocolError):
                load_service(artifact)
        path.write_bytes(data)
    load_service(artifact)


def test_a_file_outside_the_artifact_is_refused(artifact: Path) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"]["../outside"] = "0" * 64
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ProtocolError, match="outside"):
        hecompile.load(artifact)


def test_a_client_of_another_artifact_is_told_so(artifact: Path, tiny_clear: Compiled) -> None:
    from hecompile.runtime.transports import LocalTransport

    assert tiny_clear.artifact is not None
    with pytest.raises(ProtocolError, match=r"serves artifact .* load the client half of the artifact that is served"):
        hecompile.load(artifact, LocalTransport(load_service(tiny_clear.artifact)))


def test_a_folder_that_is_no_artifact_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    with pytest.raises(CompileError, match="not an artifact"):
        compile_model(Tiny().eval(), tmp_path / "mine", example_inputs=tiny_inputs())
    assert (tmp_path / "mine" / "file").read_text() == "precious"


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("written")
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_folder(tmp_path / "target", fail)
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_is_replaced_at_once(artifact: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "manifest.json").write_text("new")

    write_folder(artifact, fill)
    assert [path.name for path in artifact.iterdir()] == ["manifest.json"]
    assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]
