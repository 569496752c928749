"""What the extras bring: each command, and each backend, says in one sentence which extra it misses."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hecompile.compiler import Compiled
from hecompile.report.installed import BASE, packages
from tests.backends.ckks.network import compiled

ROOT = Path(__file__).parents[1]
SEAL = "seal tenseal zstandard"
CLIENT = "onnxruntime onnx torch diffusers PIL scipy"
COMPILER = f"{CLIENT} jinja2 matplotlib ortools"


MAIN = "from hecompile.cli import main; main()"
# one call of an artifact whose inputs are zeros
CALL = """
from pathlib import Path
import numpy as np
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.executor import Executor
from hecompile.runtime.transports import open_transport
bundle = load_bundle(Path(sys.argv[1]))
zeros = lambda spec: np.zeros([1 if isinstance(size, str) else size for size in spec.shape], spec.dtype)
print(Executor(bundle, open_transport(bundle, None)).run({spec.name: zeros(spec) for spec in bundle.manifest.inputs}, 1)[0].shape)
"""


def without(missing: str, *arguments: str, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    """Run the command line, or other code, where these packages cannot be imported."""
    absent = f"import sys; sys.modules.update(dict.fromkeys({missing.split()!r})); "
    return subprocess.run([sys.executable, "-c", absent + code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        (COMPILER, ("compile", "digits", "-o", "never"), "compile"),
        (COMPILER, ("plan", "digits"), "compile"),
        (COMPILER, ("passes",), "compile"),
        (CLIENT, ("sample", "never"), "client"),
        pytest.param(SEAL, ("compile", "digits", "--backend", "ckks", "-o", "never"), "ckks", marks=pytest.mark.slow),
    ],
)
def test_a_command_names_the_extra_that_it_misses(missing: str, arguments: tuple[str, ...], extra: str, tmp_path: Path) -> None:
    named = tuple(str(tmp_path / word) if word == "never" else word for word in arguments)
    done = without(missing, *named)
    assert done.stderr.splitlines()[-1].endswith(f"needs the extra '{extra}': pip install 'hecompile[{extra}]'")
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_workers_without_ray_are_refused(digits: Path) -> None:
    done = without("ray", "serve", str(digits), "--ray", "--port", "0")
    assert done.stderr == "error: --ray needs the extra 'ray': pip install 'hecompile[ray]'\n"
    assert done.returncode == 2


@pytest.mark.fhe
def test_workers_of_an_artifact_of_ckks_are_refused_before_anything_is_started() -> None:
    done = without("ray", "serve", str(compiled("ckks")[0].artifact), "--ray", "--port", "0")
    assert "is of backend 'ckks', whose servers may store something for a client" in done.stderr
    assert done.returncode == 2


@pytest.mark.fhe
def test_a_server_without_seal_refuses_an_artifact_of_ckks() -> None:
    done = without(SEAL, "serve", str(compiled("ckks")[0].artifact), "--port", "0")
    assert done.stderr == "error: backend 'ckks' needs the extra 'ckks': pip install 'hecompile[ckks]'\n"
    assert done.returncode == 2


@pytest.mark.fhe
def test_a_client_without_seal_refuses_an_artifact_of_ckks() -> None:
    done = without(SEAL, str(compiled("ckks")[0].artifact), code="import hecompile; hecompile.load(sys.argv[1])")
    assert done.stderr.endswith("MissingExtraError: backend 'ckks' needs the extra 'ckks': pip install 'hecompile[ckks]'\n")


def test_the_doctor_says_which_backends_can_run() -> None:
    code = "from hecompile.report.doctor import examine; print(examine()['backends'])"
    assert without("", code=code).stdout == "{'bfv': 'ready', 'ckks': 'ready', 'concrete': 'ready'}\n"
    hidden = "from importlib import metadata; own = metadata.version; gone = metadata.PackageNotFoundError\n"
    hidden += "def version(name):\n    if name == 'tenseal': raise gone(name)\n    return own(name)\n"
    report = without("", code=f"pass\n{hidden}metadata.version = version\n{code}").stdout
    assert "'ckks': \"backend 'ckks' needs the extra 'ckks': pip install 'hecompile[ckks]'\"" in report


def test_what_is_installed_is_told_for_every_extra() -> None:
    """Of a source that was installed before an edit of pyproject.toml this fails: install it again."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(packages()) == {BASE, *project["optional-dependencies"]} - {"all"}
    assert "seal-python" in packages()["ckks"]
    assert not {"seal-python", "tenseal", "onnx", "onnxruntime", "torch"} & set(packages()[BASE])


def test_a_client_on_arrays_imports_no_torch(tiny: Compiled) -> None:
    done = without("torch diffusers PIL scipy", str(tiny.artifact), code=f"pass\n{CALL}")
    assert done.stderr == ""
    assert done.stdout.startswith("(1, ")
