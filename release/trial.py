"""Does a wheel work where it is installed? A server and a client in environments of their own, with no compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from release.environments import COMPILERS, ROOT, Environment, new_environment

__all__ = ["Artifacts", "compile_artifacts", "serving", "try_wheel", "write_sbom"]

NOT_AT_A_SERVER = {"torch", "diffusers", "onnx", "onnxruntime", "tenseal", "seal-python", "zstandard", "scipy", "scikit-learn"}
LABEL, STEPS = 7, 4
# the picture's bytes as a checksum, by the loop that needs no torch
DRAW = (
    "import hashlib, sys; from pathlib import Path; from numpy_loop import draw; import numpy\n"
    f"picture = draw(Path(sys.argv[1]), sys.argv[2] or None, {LABEL}, {STEPS}, policy=sys.argv[3])\n"
    "assert 'torch' not in sys.modules; print(hashlib.sha256(picture.tobytes()).hexdigest(), numpy.__version__)"
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Artifacts:
    """The digits model, compiled under three backends."""

    bfv: Path
    clear: Path
    ckks: Path


def compile_artifacts(folder: Path) -> Artifacts:
    """Compile them with the environment that this runs in."""
    import hecompile

    made = Artifacts(folder / "bfv.he", folder / "clear.he", folder / "ckks.he")
    for backend, path in vars(made).items():
        hecompile.compile("digits", path, options=hecompile.CompileOptions(backend=backend))
    return made


@contextmanager
def serving(environment: Environment, folder: Path) -> Iterator[str]:
    """A server of an environment: its URL. It is stopped at the end."""
    process = environment.serve(str(folder))
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait()


def try_wheel(
    wheel: Path, python: Path, artifacts: Artifacts, work: Path, tool_folder: Path, sbom: Path | None, with_torch: bool, say: Say
) -> None:
    """Install a wheel, serve and sample with it, and say what came out.

    Args:
        sbom: the file for the server's SBOM, with the extra `ckks`; none if None.
        with_torch: whether the client also samples by `hecompile sample`, with the extra `client`.

    Raises:
        RuntimeError: if something does not work, or a picture is not the one of `clear`.
    """
    server = new_environment(work / "server", python, tool_folder)
    timed(say, "a server's base install", lambda: server.install(str(wheel)))
    _check_base(server)
    say(f"there, and at the client: none of {', '.join(COMPILERS)} is found, CC and CXX are 'false'")
    _list(server, "a server", say)
    refused = server.run("hecompile", "serve", str(artifacts.ckks / "server"), status=2).stderr.strip()
    if "needs the extra 'ckks'" not in refused:
        raise RuntimeError(f"a server without SEAL says of an artifact of ckks: {refused}")
    say(f"an artifact of ckks there: {refused}")
    half = Path(shutil.copytree(artifacts.bfv / "server", server.room / "half"))
    _sample(server, half, wheel, python, artifacts, work, tool_folder, with_torch, say)
    timed(say, "the extra 'ckks'", lambda: server.install(f"{wheel}[ckks]"))
    _list(server, "a server with the extra 'ckks'", say)
    with serving(server, artifacts.ckks / "server") as url:
        say(f"an artifact of ckks is served there on {url}")
    if sbom is not None:
        write_sbom(server, wheel, tool_folder, sbom)
        say(f"{sbom.name}: {len(json.loads(sbom.read_text())['components'])} components")


def write_sbom(server: Environment, wheel: Path, tool_folder: Path, sbom: Path) -> None:
    """What is installed in an environment, as CycloneDX. Where the wheel lies on this machine is left out."""
    program = [str(tool_folder / "bin" / "cyclonedx-py"), "environment", "--output-reproducible", "--of", "JSON", "-o", str(sbom)]
    subprocess.run([*program, str(server.python)], check=True, capture_output=True)
    sbom.write_text(sbom.read_text().replace(f"{wheel.parent.as_uri()}/", ""))


def _sample(
    server: Environment, half: Path, wheel: Path, python: Path, artifacts: Artifacts, work: Path, tool_folder: Path,
    with_torch: bool, say: Say,
) -> None:  # fmt: skip
    """Sample through the server and in clear, by NumPy and, if asked for, by torch and diffusers."""
    client, extra = new_environment(work / "client", python, tool_folder), "client" if with_torch else "arrays"
    timed(say, f"a client's install, extra '{extra}'", lambda: client.install(f"{wheel}[{extra}]"))
    _list(client, f"a client with the extra '{extra}'", say)
    shutil.copy2(ROOT / "examples" / "numpy_loop.py", client.room)
    with serving(server, half) as url:
        served = client.run("python", "-c", DRAW, str(artifacts.bfv), url, "strict").stdout.split()
        clear = client.run("python", "-c", DRAW, str(artifacts.clear), "", "simulation").stdout.split()
        _check_equal(served[0], clear[0], f"examples/numpy_loop.py, NumPy {served[1]}, no torch", say)
        if with_torch:
            pictures = [client.room / "served.png", client.room / "clear.png"]
            own = ["--label", str(LABEL), "--steps", str(STEPS), "--json", "-o"]
            client.run("hecompile", "sample", str(artifacts.bfv), "--server", url, *own, str(pictures[0]))
            client.run("hecompile", "sample", str(artifacts.clear), "--policy", "simulation", *own, str(pictures[1]))
            served_png, clear_png = (picture.read_bytes().hex() for picture in pictures)
            _check_equal(served_png, clear_png, "hecompile sample, torch and diffusers", say)


def _check_base(server: Environment) -> None:
    """No compiler is found, and nothing is installed that a server of `bfv` does not need."""
    compilers = [name for name in COMPILERS if shutil.which(name, path=server.variables["PATH"])]
    installed = {package.split()[0].lower().replace("_", "-") for package in server.packages()}
    if compilers or NOT_AT_A_SERVER & installed:
        raise RuntimeError(f"compilers {compilers}; installed beside what a server needs: {sorted(NOT_AT_A_SERVER & installed)}")


def _check_equal(served: str, clear: str, how: str, say: Say) -> None:
    if served != clear:
        raise RuntimeError(f"{how}: the picture is not the one of backend 'clear'")
    say(f"{how}: {STEPS} steps, the picture equals the one of backend 'clear' bit for bit")


def _list(environment: Environment, what: str, say: Say) -> None:
    packages = environment.packages()
    say(f"{what}: {len(packages)} packages, {environment.mebibytes:.0f} MiB installed: {', '.join(packages)}")


def timed(say: Say, what: str, task: Callable[[], object]) -> None:
    """Run a task, and say how long it took."""
    started = time.perf_counter()
    task()
    say(f"{what}: {time.perf_counter() - started:.0f} s")
