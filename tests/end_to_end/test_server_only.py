"""The server half, copied to a machine that has only the base install, serves a client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hecompile

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.fhe
def test_a_fresh_environment_with_the_base_install_serves(digits: Path, digits_clear: Path, tmp_path: Path) -> None:
    environment, copied = tmp_path / "venv", tmp_path / "server"
    shutil.copytree(digits / "server", copied)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [
        str(environment / "bin" / "pip"),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        str(ROOT / "constraints.txt"),
    ]
    tools = [name for name in ("cmake", "ninja") if shutil.which(name) is None]
    subprocess.run([*pip, "scikit-build-core", "nanobind", *tools], check=True)
    subprocess.run([*pip, "--no-build-isolation", str(ROOT)], check=True)
    python = str(environment / "bin" / "python")
    listing = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True).stdout
    names = {package["name"].lower() for package in json.loads(listing)}
    assert "hecompile" in names
    assert not {"torch", "diffusers", "scikit-learn", "concrete-python"} & names
    refused = subprocess.run(
        [python, "-c", "import hecompile; hecompile.load('x')"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "needs the extra 'client'" in refused.stderr
    server = subprocess.Popen(
        [str(environment / "bin" / "hecompile"), "serve", str(copied), "--port", "0", "--json"],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        unet = hecompile.load(digits, json.loads(server.stdout.readline())["url"])
        sample, label = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([4])
        served = unet(sample, 700, class_labels=label).sample
        unet.close()
    finally:
        server.terminate()
        server.wait()
    simulated = hecompile.load(digits_clear, policy="simulation")(sample, 700, class_labels=label).sample
    assert torch.equal(served, simulated)
