"""What writing must not destroy: folders and files that are not ours, and what was there when a disk is full."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hecompile.artifact_files import digest
from hecompile.artifact_writing import check_target, checksums, remove, to_json, write_folder
from hecompile.calibration.calls import Calibration, Call, save_calibration
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError
from hecompile.machine import Machine, save_machine
from hecompile.outputs import check_file, write_file
from hecompile.sampler_artifact import SamplerOptions, compile_sampler

MAIN = "from hecompile.cli import main; main()"


def written(folder: Path, name: str) -> None:
    """Write a file that names itself."""
    (folder / name).write_text(name)


def copied(compiled: Compiled, folder: Path) -> None:
    """Copy an artifact into a folder that is there."""
    shutil.copytree(compiled.artifact or "", folder, dirs_exist_ok=True)


@pytest.fixture
def artifact(tmp_path: Path, tiny: Compiled) -> Path:
    assert tiny.artifact is not None
    return Path(shutil.copytree(tiny.artifact, tmp_path / "artifact"))


def snapshot(root: Path) -> dict[str, str]:
    """Every file, folder and link below, with what is in it."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else digest(path.read_bytes()) if path.is_file() else ""
        for path in sorted(root.rglob("*"))
    }


def refused(target: Path, message: str, root: Path) -> None:
    """By every way of writing there, before any work, with nothing changed."""
    before = snapshot(root)
    filled = list[Path]()
    with pytest.raises(CompileError, match=message) as first:
        check_target(target)
    assert len(str(first.value).splitlines()) == 2  # a sentence, and what helps
    with pytest.raises(CompileError, match=message):
        write_folder(target, filled.append)
    with pytest.raises(CompileError, match=message):
        compile_model("nosuch", target)  # the name is looked up after the folder
    with pytest.raises(CompileError, match=message):
        compile_sampler(target, (1, 8, 8), options=SamplerOptions(dynamic=False))  # a calibration is asked for after the folder
    assert filled == []
    assert snapshot(root) == before


FOREIGN = {
    "a browser extension": {"manifest.json": '{"name": "my extension"}', "src/thesis.tex": "ten years of work"},
    "a manifest that is no object": {"manifest.json": "[]", "thesis.tex": "ten years of work"},
    "a manifest that is no JSON": {"manifest.json": "{", "thesis.tex": "ten years of work"},
    "an empty manifest": {"manifest.json": ""},
    "a format and no more": {"manifest.json": '{"format": 6, "files": {}}', "thesis.tex": "ten years of work"},
    "no manifest": {"thesis.tex": "ten years of work"},
    "a hidden file alone": {".git/config": "years of work"},
    "a manifest in a folder below": {"server/manifest.json": "{}"},
    "a folder called manifest.json": {"manifest.json/thesis.tex": "ten years of work"},
}


@pytest.mark.promise("own-folders")
@pytest.mark.parametrize("files", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    refused(tmp_path / "mine", "is not an artifact", tmp_path)
    with pytest.raises(CompileError, match="is not an artifact"):
        remove(tmp_path / "mine")
    assert len(snapshot(tmp_path)) > len(files)


def add_file(artifact: Path) -> str:
    (artifact / "notes.txt").write_text("mine")
    return "'notes.txt' does not belong to it"


def add_hidden(artifact: Path) -> str:
    (artifact / "client" / ".notes").write_text("mine")
    return "'client/.notes' does not belong to it"


def add_folder(artifact: Path) -> str:
    (artifact / "pictures").mkdir()
    return "'pictures' does not belong to it"


def add_link(artifact: Path) -> str:
    (artifact / "server" / "model").symlink_to("/etc")
    return "'server/model' does not belong to it"


def add_pipe(artifact: Path) -> str:
    os.mkfifo(artifact / "pipe")
    return "'pipe' does not belong to it"


def edit(artifact: Path) -> str:
    with (artifact / "report.html").open("a") as stream:
        stream.write("<p>a remark of mine</p>")
    return r"'report.html' was changed since it was compiled"


def edit_manifest(artifact: Path) -> str:
    path = artifact / "manifest.json"
    path.write_text(path.read_text().replace('"name"', '"remark": "mine",\n "name"', 1))
    return "is not an artifact"


def take_away(artifact: Path) -> str:
    (artifact / "client" / "call_01.json").unlink()
    return "'client/call_01.json' is missing"


def replace_by_link(artifact: Path) -> str:
    path = artifact / "report.html"
    path.rename(artifact.parent / "elsewhere.html")
    path.symlink_to(artifact.parent / "elsewhere.html")
    return "'report.html' is missing or cannot be read"


def replace_by_folder(artifact: Path) -> str:
    (artifact / "report.html").unlink()
    (artifact / "report.html").mkdir()
    return "'report.html' does not belong to it"


CHANGES = [
    add_file, add_hidden, add_folder, add_link, add_pipe, edit, edit_manifest, take_away, replace_by_link, replace_by_folder,
]  # fmt: skip


@pytest.mark.promise("own-folders")
@pytest.mark.parametrize("change", CHANGES)
def test_an_artifact_with_anything_of_the_users_is_refused(artifact: Path, change: Callable[[Path], str]) -> None:
    message = change(artifact)
    refused(artifact, message, artifact.parent)
    before = snapshot(artifact.parent)
    with pytest.raises(CompileError, match=message):
        remove(artifact)
    assert snapshot(artifact.parent) == before


@pytest.mark.promise("own-folders")
def test_what_is_added_while_it_is_compiled_is_kept(artifact: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "new").write_text("new")
        (artifact / "notes.txt").write_text("mine")

    with pytest.raises(CompileError, match=r"notes\.txt"):
        write_folder(artifact, fill)
    assert (artifact / "notes.txt").read_text() == "mine"
    assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]


@pytest.mark.promise("own-folders")
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(143)])
def test_what_fails_at_the_last_moment_keeps_the_old_artifact(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before, replace = snapshot(artifact.parent), os.replace

    def fail(source: Path, target: Path) -> None:
        if source.name == "new":
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CompileError if isinstance(error, OSError) else type(error)):
        write_folder(artifact, lambda folder: written(folder, "new"))
    assert snapshot(artifact.parent) == before


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_an_artifact_of_any_format_so_far_is_replaced(artifact: Path, version: int) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text()) | {"format": version}
    if version < 5:
        for key in ("written_by", "signature"):
            del manifest[key]
    (artifact / "manifest.json").write_bytes(to_json(manifest))
    write_folder(artifact, lambda folder: written(folder, "new"))
    assert snapshot(artifact.parent) == {"artifact": "", "artifact/new": digest(b"new")}


@pytest.mark.parametrize("version", [0, -1, 99, "5", True, 5.0, None])
def test_an_artifact_of_another_format_is_not(artifact: Path, version: object) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text()) | {"format": version}
    (artifact / "manifest.json").write_bytes(to_json(manifest))
    refused(artifact, "is not an artifact", artifact.parent)


def test_an_empty_folder_is_filled_and_an_artifact_is_removed(tmp_path: Path, tiny: Compiled) -> None:
    assert tiny.artifact is not None
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", lambda folder: copied(tiny, folder))
    assert checksums(tmp_path / "empty") == checksums(tiny.artifact)
    write_folder(tmp_path / "empty" / "", lambda folder: copied(tiny, folder))
    remove(tmp_path / "empty")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise("own-folders", "whole-files")
def test_links_are_neither_followed_nor_replaced(artifact: Path) -> None:
    root = artifact.parent
    (root / "link").symlink_to(artifact)
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "loop").symlink_to(root / "loop")
    for name in ("link", "dangling", "loop", "link/"):
        refused(Path(f"{root}/{name}"), "is a link", root)
    with pytest.raises(CompileError):
        remove(root / "link")
    assert artifact.is_dir()


def test_a_folder_behind_a_link_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_folder(tmp_path / "link" / "new", lambda folder: written(folder, "x"))
    assert (tmp_path / "real" / "new" / "x").read_text() == "x"


def test_places_that_take_no_artifact(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = artifact.parent
    (root / "file").write_text("mine")
    os.mkfifo(root / "pipe")
    refused(root / "file", "it is a file", root)
    refused(root / "pipe", "it is a file", root)
    refused(root / "file" / "below", "cannot be written", root)
    refused(artifact / "new", "lies in the artifact", root)
    refused(artifact / "client" / "deeper" / "new", "lies in the artifact", root)
    refused(artifact / "server", "lies in the artifact", root)
    refused(root / ("x" * 300), "cannot be written: File name too long", root)
    refused(root / "nul\0", "cannot be written: embedded null", root)
    refused(Path("/"), "current folder", root)
    monkeypatch.chdir(artifact)
    for here in (Path(), Path("."), artifact, root, Path("..")):
        refused(here, "is the current folder, or holds it", root)
    monkeypatch.chdir(artifact / "client")
    refused(Path(".."), "is the current folder, or holds it", root)


def test_a_closed_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who is not root, whom nothing is closed to."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    refused(tmp_path / "new", "no folder can be made in", tmp_path)
    with pytest.raises(CompileError, match="cannot be written"):
        check_file(tmp_path / "picture.png")


def test_what_cannot_be_replaced_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's folder, and a volume that is mounted there."""
    target = tmp_path / "target"
    target.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: Path(path) != target)
        refused(target, "cannot be written: it belongs to somebody else", tmp_path)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == target)
    refused(target, "is the root of a mounted volume", tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence() -> None:
    with pytest.raises(CompileError, match=r"/proc/new/artifact cannot be written: No such file"):
        write_folder(Path("/proc/new/artifact"), lambda folder: None)


def test_folders_made_on_the_way_are_removed_when_writing_fails(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        write_folder(tmp_path / "a" / "b" / "c", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_with_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    path.chmod(0o640)
    write_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)
    (tmp_path / "link").symlink_to("report.html")
    write_file(tmp_path / "link", b"newer")
    assert (path.read_bytes(), os.readlink(tmp_path / "link")) == (b"newer", "report.html")
    assert len(list(tmp_path.iterdir())) == 2


def test_devices_are_written_to_and_stay(tmp_path: Path) -> None:
    write_file(Path("/dev/null"), b"nothing")
    assert not Path("/dev/null").is_file()
    with pytest.raises(CompileError, match="/dev/full cannot be written: No space left on device"):
        write_file(Path("/dev/full"), b"too much")


def test_a_pipe_behind_dev_stdout_is_written_to() -> None:
    code = "from hecompile.outputs import *; path = Path('/dev/stdout'); check_file(path); write_file(path, b'data')"
    code = f"from pathlib import Path; {code}"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=100)
    assert (process.stdout, process.stderr) == (b"data", b"")


def test_long_names_in_any_script_are_written(tmp_path: Path) -> None:
    for letter in ("a", "\u7535", "\U0001f511"):  # of one, three and four bytes
        name = letter * (255 // len(letter.encode()))
        write_file(tmp_path / name, b"data")
        assert (tmp_path / name).read_bytes() == b"data"
        (tmp_path / name).unlink()
        write_folder(tmp_path / name, lambda folder: written(folder, "x"))
        assert (tmp_path / name / "x").is_file()


def test_a_file_in_a_closed_folder_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is there and open itself, and one behind a link: it is replaced by a file that is written beside it."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "picture.png").write_text("old")
    (tmp_path / "link.png").symlink_to(closed / "picture.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "absent" / "picture.png")
    with pytest.raises(CompileError, match="there is no folder"):
        check_file(tmp_path / "dangling.png")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
    for path in (closed / "picture.png", tmp_path / "link.png", closed / "new.png"):
        with pytest.raises(CompileError, match="cannot be written"):
            check_file(path)


@pytest.mark.parametrize("name", ["absent/file", "folder", "nul\0", "x" * 300, "file/below"])
def test_files_that_cannot_be_written_are_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    before = snapshot(tmp_path)
    for write in (check_file, lambda path: write_file(path, b"data")):
        with pytest.raises(CompileError) as error:
            write(tmp_path / name)
        assert len(str(error.value).splitlines()) == 2
    assert snapshot(tmp_path) == before


def on_a_small_disk(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a process whose files may have 1000 bytes: writing more fails as on a full disk, after a part was written."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    command = [sys.executable, "-B", "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=limit)


@pytest.mark.promise("whole-files")
def test_a_full_disk_keeps_the_old_artifact_and_leaves_nothing(artifact: Path) -> None:
    shutil.rmtree(artifact)
    compile_sampler(artifact, (1, 8, 8), options=SamplerOptions(dynamic=True, most_clear=0.9))
    before = snapshot(artifact.parent)
    process = on_a_small_disk(MAIN, "compile-sampler", "-o", artifact, "--dynamic", "--most-clear", "0.8", "--shape", "1x8x8")
    assert process.returncode == 2, process.stderr
    assert process.stderr.splitlines()[0] == f"error: {artifact} cannot be written: File too large"
    assert "Traceback" not in process.stderr
    assert snapshot(artifact.parent) == before
    process = on_a_small_disk(MAIN, "compile-sampler", "-o", artifact.parent / "new", "--dynamic", "--shape", "1x8x8")
    assert process.returncode == 2
    assert snapshot(artifact.parent) == before


WRITERS = """
import sys
from pathlib import Path
import numpy as np
from hecompile.errors import CompileError

def calibration(path):
    from hecompile.calibration.calls import Calibration, Call, save_calibration
    inputs = {"sample": np.ones((1, 4, 32, 32), np.float32), "timestep": np.asarray(1.0, np.float32)}
    save_calibration(Calibration((Call(inputs),)), path)

def fronts(path):
    from hecompile.planner import pareto
    pareto.plot = lambda fronts: b"p" * 5000
    pareto.write((), path)

def picture(path):
    from PIL import Image
    from hecompile.outputs import write_file
    from hecompile.sampling.pictures import encoded
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    write_file(path, encoded(Image.fromarray(noise), path.suffix))

try:
    globals()[sys.argv[1]](Path(sys.argv[2]))
except CompileError as error:
    print(error)
"""


@pytest.mark.promise("whole-files")
@pytest.mark.parametrize(("writer", "name"), [("calibration", "calls.safetensors"), ("fronts", "fronts.png"), ("picture", "x.png")])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, writer: str, name: str) -> None:
    (tmp_path / name).write_text("old")
    process = on_a_small_disk(WRITERS, writer, tmp_path / name)
    assert process.stdout.startswith(f"error: {tmp_path / name} cannot be written: File too large"), process.stderr
    assert (tmp_path / name).read_text() == "old"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_profile_is_written_whole(tmp_path: Path) -> None:
    save_machine(Machine(), tmp_path / "machine.json")
    with pytest.raises(CompileError, match="No space left on device"):
        save_machine(Machine(), Path("/dev/full"))
    assert [path.name for path in tmp_path.iterdir()] == ["machine.json"]
    inputs = {"sample": np.ones((1, 2), np.float32), "timestep": np.asarray(1.0, np.float32)}
    save_calibration(Calibration((Call(inputs),)), tmp_path / "calls.safetensors")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.promise("whole-files")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        (tmp_path / "report.html").write_text("old")
        with pytest.raises(CompileError, match="No space left on device"):
            write_file(tmp_path / "report.html", bytes(1 << 20))
        with pytest.raises(CompileError, match="No space left on device"):
            compile_sampler(tmp_path / "new", (1, 8, 8), options=SamplerOptions(dynamic=True))
        assert snapshot(tmp_path) == {"report.html": digest(b"old")}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("arguments", [["doctor", "--json"], ["doctor"]])
def test_output_that_nobody_takes(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=100
        )
    assert (process.returncode, process.stderr) == (2, "error: cannot write: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=100
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (1, "")
