"""A package with a backend, a policy and a pass of its own: installed, listed, run, and refused where nobody knows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hecompile
from hecompile.errors import CompileError, ProtocolError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "own-parts"
version = "1"

[project.entry-points."hecompile.backends"]
narrow = "own_backend:Narrow"
[project.entry-points."hecompile.policies"]
quiet = "own_parts:Quiet"
[project.entry-points."hecompile.passes"]
counting = "own_parts:Counting"

[tool.setuptools]
py-modules = ["own_backend", "own_parts"]
"""
PARTS = '''
from dataclasses import dataclass

from hecompile.ir.graph import ModelGraph
from hecompile.passes.base import Pass
from hecompile.policies.simulation import Simulation


class Quiet(Simulation):
    """A simulation by another name."""

    name = "quiet"


@dataclass(frozen=True)
class Counting(Pass[ModelGraph, ModelGraph]):
    """Count the nodes of the graph."""

    after = "canonicalize"

    def run(self, program: ModelGraph) -> ModelGraph:
        return program

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        return f"{len(list(after.nodes))} nodes"
'''
LOADING = """
import sys

import hecompile
from hecompile.errors import ProtocolError

try:
    hecompile.load(sys.argv[1], policy="simulation")
except ProtocolError as error:
    print(error)
print(sorted({"own_backend", "own_parts"} & set(sys.modules)))
"""
DRAWING = """
import sys

import numpy as np
import torch

import hecompile
from hecompile.models.digits.schedulers import make_scheduler
from hecompile.models.digits import SCHEDULER
from hecompile.models.digits.pipeline import ClassConditionalPipeline

unet = hecompile.load(sys.argv[1], policy=sys.argv[2], backends=["narrow"])
pipeline = ClassConditionalPipeline(unet, make_scheduler("ddim", dict(SCHEDULER)))
latents = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
np.save(sys.argv[3], pipeline([3, 7], 2, latents=latents, output_type="np").images)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed in."""
    folder = tmp_path_factory.mktemp("own")
    package = folder / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(PROJECT)
    (package / "own_parts.py").write_text(PARTS)
    (package / "own_backend.py").write_bytes((ROOT / "examples" / "own_backend.py").read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(folder / "site"), str(package)], check=True)
    return folder / "site"


def python(site: Path | None, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Python with the package, or on a machine that does not have it."""
    path = os.pathsep.join(map(str, [*([site] if site else []), ROOT]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def shell(site: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `hecompile` command."""
    return python(site, "-c", "from hecompile.cli import main; main()", *arguments)


@pytest.fixture(scope="module")
def narrow(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model under the package's backend, with its pass."""
    folder = tmp_path_factory.mktemp("narrow") / "artifact"
    done = shell(site, "compile", "digits", "--backend", "narrow", "--passes", "counting", "-o", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    names = [record["name"] for record in json.loads(done.stdout)["passes"]]
    assert names[:4] == ["trace", "canonicalize", "counting", "mark-secrets"]
    return folder


def test_the_example_has_at_most_sixty_lines() -> None:
    assert len((ROOT / "examples" / "own_backend.py").read_text().splitlines()) <= 60


def test_what_is_installed_is_listed(site: Path) -> None:
    wrong = shell(site, "compile", "digits", "--backend", "nothing", "-o", "nowhere")
    assert re.search(r"there is no backend 'nothing'\s+help: known: .*\bnarrow\b", wrong.stderr)
    wrong = shell(site, "compile", "digits", "--policy", "nothing", "-o", "nowhere")
    assert re.search(r"there is no policy 'nothing'\s+help: known: .*\bquiet\b", wrong.stderr)
    assert re.search(r"^counting +only with --passes counting, from own_parts:Counting$", shell(site, "passes").stdout, re.M)


def test_an_artifact_cannot_make_a_client_run_the_package(site: Path, narrow: Path) -> None:
    """None of its code ran before the refusal."""
    told, loaded = python(site, "-c", LOADING, str(narrow)).stdout.splitlines()
    assert "'narrow' comes from another package" in told
    assert loaded == "[]"


def test_a_client_that_names_the_backend_gets_what_clear_gives(
    site: Path, narrow: Path, digits_clear: Path, tmp_path: Path
) -> None:  # fmt: skip
    done = python(site, "-c", DRAWING, str(narrow), "simulation", str(tmp_path / "own.npy"))
    assert done.returncode == 0, done.stderr
    done = python(None, "-c", DRAWING, str(digits_clear), "simulation", str(tmp_path / "clear.npy"))
    assert done.returncode == 0, done.stderr
    own, clear = (np.load(tmp_path / f"{name}.npy") for name in ("own", "clear"))
    np.testing.assert_array_equal(own, clear)


def test_a_machine_without_the_package_says_what_is_missing(narrow: Path) -> None:
    with pytest.raises(ProtocolError, match=r"there is no backend 'narrow'"):
        hecompile.load(narrow, policy="simulation", backends=["narrow"])
    done = shell(None, "compile", "digits", "--passes", "counting", "--until", "canonicalize")
    assert "there is no installed pass 'counting'" in done.stderr


def test_a_policy_of_the_package_is_kept_and_insisted_on(site: Path, tmp_path: Path) -> None:
    done = shell(site, "compile", "digits", "--backend", "narrow", "--policy", "quiet", "-o", str(tmp_path / "quiet"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "quiet" / "manifest.json").read_text())["policy"] == "quiet"
    code = "import hecompile, sys; print(hecompile.load(sys.argv[1], policy='quiet', backends=['narrow']).encrypted)"
    done = python(site, "-c", code, str(tmp_path / "quiet"))
    assert done.stdout.strip() == "False", done.stderr
    with pytest.raises(CompileError, match="there is no policy 'quiet'"):
        hecompile.load(tmp_path / "quiet", policy="quiet")


def test_the_conformance_suite_passes_for_the_package(site: Path) -> None:
    done = python(site, "-m", "pytest", "tests/backends/test_conformance.py", "-k", "narrow", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-3000:]
    match = re.search(r"(\d+) passed", done.stdout)
    assert match is not None
    assert int(match[1]) >= 30
