"""The server half, copied to a machine that has only a wheel's base install and no compiler, serves a client."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

import hecompile
from release.environments import COMPILERS, Environment, new_environment, tools
from release.trial import NOT_AT_A_SERVER, serving
from release.wheels import build_wheel
from tests.backends.ckks.network import compiled

# what a server of `bfv` gets, whatever the machine: a package more is one more that everybody must trust
INSTALLED = {
    "annotated-doc", "annotated-types", "anyio", "cffi", "click", "cryptography", "fastapi", "h11", "hecompile", "idna",
    "markdown-it-py", "mdurl", "msgpack", "numpy", "opentelemetry-api", "prometheus-client", "pycparser", "pydantic",
    "pydantic-core", "pygments",
    "rich", "safetensors", "shellingham", "starlette", "threadpoolctl", "typer", "typing-extensions", "typing-inspection",
    "uvicorn",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("release")
    python, tool_folder = Path(sys.executable), tools(folder / "tools", Path(sys.executable))
    wheel = build_wheel(python, tool_folder, folder / "dist")
    assert "manylinux" in wheel.name
    made = new_environment(folder / "server", python, tool_folder)
    made.install(str(wheel))
    return made


@pytest.mark.slow
@pytest.mark.fhe
def test_a_wheel_in_a_fresh_environment_serves(server: Environment, digits: Path, digits_clear: Path) -> None:
    assert [name for name in COMPILERS if shutil.which(name, path=server.variables["PATH"])] == []
    copied = shutil.copytree(digits / "server", server.room / "half")
    with serving(server, copied) as url:
        unet = hecompile.load(digits, url)
        sample, label = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([4])
        served = unet(sample, 700, class_labels=label).sample
        unet.close()
    simulated = hecompile.load(digits_clear, policy="simulation")(sample, 700, class_labels=label).sample
    assert torch.equal(served, simulated)


@pytest.mark.slow
@pytest.mark.fhe
def test_the_base_install_is_what_a_server_needs(server: Environment) -> None:
    assert {package.split()[0].lower().replace("_", "-") for package in server.packages()} == INSTALLED
    assert NOT_AT_A_SERVER.isdisjoint(INSTALLED)
    refused = server.run("hecompile", "serve", str(compiled("ckks")[0].artifact), status=2)
    assert refused.stderr == "error: backend 'ckks' needs the extra 'ckks': pip install 'hecompile[ckks]'\n"
    code = "import hecompile; hecompile.load('x')"
    assert "needs the extra 'client'" in server.run("python", "-c", code, status=1).stderr
