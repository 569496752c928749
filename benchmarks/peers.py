"""A private convolution end to end against other libraries, in one run on one thread: CPU seconds of all parties from numbers to
numbers, bytes, keys, errors, security.

Every peer is a program of its own (`benchmarks/peer_programs`), in an environment that pip makes for it in a temporary folder. All
get the same integers. What cannot be installed or run, or takes longer than the limit, is a row with its reason.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from benchmarks.harness import arguments, finish, machine

PROGRAMS = Path(__file__).parent / "peer_programs"
SHAPES = ((16, 16, 8), (64, 64, 32), (320, 320, 64))  # input channels, output channels, side
LIMIT_S = 120.0  # of wall time for a peer and a shape, its setup included
MEMORY_GIB = 12  # of a program: one peer at the largest shape takes what there is
BUDGET_S = 20.0  # of CPU time: no run is begun after that
INSTALL_S = 300.0
BITS = 128  # of security, for a peer that counts
OURS = "hecompile bfv"
OPENFHE = ("openfhe==1.6.1.0.22.4", "numpy==2.2.6")  # the build for Python 3.10


@dataclass(frozen=True)
class Peer:
    """A library, its program, and where that runs: a Python and what pip installs, or this environment where nothing is named."""

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    python: str = "3.11"
    requirements: tuple[str, ...] = ()
    shapes: int = len(SHAPES)  # the first so many
    two_parties: bool = True  # client and server alone, without a dealer, with something hidden
    smoke: bool = False
    bounded: bool = True  # in memory


PEERS = (
    Peer(OURS, "hecompile_bfv", smoke=True),
    Peer("Cheetah's packing on SEAL", "cheetah_seal", requirements=("seal-python==4.4.0", "numpy==1.26.4"), smoke=True),
    Peer("Cheetah's packing on OpenFHE", "cheetah_openfhe", python="3.10", requirements=OPENFHE),
    Peer("OpenFHE BFV, rotations", "openfhe_bfv", python="3.10", requirements=OPENFHE),
    Peer("SPU Cheetah", "spu_2pc", ("CHEETAH",), requirements=("spu==0.9.5", "numpy==1.26.4")),
    Peer("SPU SEMI2K", "spu_2pc", ("SEMI2K",), requirements=("spu==0.9.5", "numpy==1.26.4"), two_parties=False),
    Peer("Concrete, linear circuit", "hecompile_concrete", shapes=1, bounded=False),  # its compiler sets aside more than it uses
    Peer("TenSEAL CKKS", "tenseal_ckks", requirements=("tenseal==0.3.18", "numpy==1.26.4"), shapes=1),
    Peer("concrete-ml-extensions GLWE", "glwe", shapes=1),
    Peer("float32, in the clear", "float32", two_parties=False, smoke=True),
)


class Refused(Exception):  # noqa: N818
    """Why there is no figure."""


def interpreter(version: str) -> str:
    """A Python of this version: on the path, or pyenv's."""
    for command in ([f"python{version}"], ["pyenv", "exec", f"python{version}"]):
        if shutil.which(command[0]) is None:
            continue
        environment = os.environ | ({"PYENV_VERSION": _pyenv_version(version)} if command[0] == "pyenv" else {})
        asked = subprocess.run(
            [*command, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, env=environment
        )
        if asked.returncode == 0:
            return asked.stdout.strip()
    raise Refused(f"there is no Python {version}")


def _pyenv_version(version: str) -> str:
    listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True).stdout.split()
    return next((installed for installed in listed if installed.startswith(version + ".")), version)


@dataclass
class Environments:
    """One for every set of requirements, made when it is first wanted."""

    folder: Path
    made: dict[tuple[str, ...], str | Refused] = field(default_factory=dict)

    def python(self, peer: Peer) -> str:
        if not peer.requirements:
            return sys.executable
        key = (peer.python, *peer.requirements)
        if key not in self.made:
            try:
                self.made[key] = self._make(peer, self.folder / str(len(self.made)))
            except Refused as refused:
                self.made[key] = refused
        python = self.made[key]
        if isinstance(python, Refused):
            raise python
        return python

    def _make(self, peer: Peer, folder: Path) -> str:
        python = str(folder / "bin" / "python")
        run([interpreter(peer.python), "-m", "venv", str(folder)], INSTALL_S)
        run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements], INSTALL_S)
        return python


def run(command: Sequence[str], limit_s: float, text: str = "", core: int | None = None, bounded: bool = True) -> str:
    """What a command says, on one thread, and on this core alone if one is given; with so much memory, if `bounded`.

    Raises:
        Refused: if it ends otherwise than well, or not in time.
    """
    threads = ("OMP", "OPENBLAS", "MKL", "RAYON", "HECOMPILE")
    environment = os.environ | {f"{name}_THREADS" if name == "HECOMPILE" else f"{name}_NUM_THREADS": "1" for name in threads}
    environment.pop("PYTHONPATH", None)

    def confine() -> None:
        if bounded:
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_GIB << 30, MEMORY_GIB << 30))
        if core is not None:
            os.sched_setaffinity(0, {core})

    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            env=environment,
            preexec_fn=confine,
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"more than {limit_s:g} s, stopped") from None
    if done.returncode < 0:
        raise Refused(f"ended by signal {-done.returncode}")
    if done.returncode:
        raise Refused(reason(done.stderr))
    return done.stdout


def reason(text: str) -> str:
    """The exception's line, or else the last one, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    named = [place for place, line in enumerate(lines) if re.match(r"[\w.]*(Error|Exception|ERROR)\b", line)]
    line = lines[named[-1] if named else -1]
    if named and line.endswith(":"):  # what it says begins on the next
        line = " ".join(lines[named[-1] : named[-1] + 2])
    return line[:120]


def problem(shape: tuple[int, int, int], folder: Path) -> Path:
    """Values, weights and sums of a layer as `bfv` quantises it, in a file that every program reads."""
    import torch

    from benchmarks.linear import Shape, encrypted, layer
    from hecompile.ir.dequantizer import quantize_picture

    channels, outputs, side = shape
    made = layer(Shape("conv", channels, (outputs,), (side, side), 3))
    packed = encrypted(made.linear_op()).packed
    quantized, limit = packed.parameterized.quantized, packed.parameterized.parameters.limit
    values = quantize_picture(packed.geometry.to_picture(made.value[:1].numpy()), limit)[0][0]
    weights = np.zeros((outputs, channels, 3, 3), np.int64)
    for place, (dy, dx) in enumerate(packed.geometry.taps):
        weights[:, :, dy + 1, dx + 1] = quantized.weights[:, :, place]
    picture, kernel = torch.from_numpy(values[None]).double(), torch.from_numpy(weights).double()
    sums = torch.nn.functional.conv2d(picture, kernel, padding=1)[0].numpy().astype(np.int64)  # exact below 2^53
    path = folder / f"{channels}.npz"
    np.savez(path, values=values, weights=weights, sums=sums)
    return path


def measured(peer: Peer, shape: tuple[int, int, int], python: str, data: Path, runs: int) -> dict[str, Any]:
    """What a peer's program says of one shape."""
    task = {"data": str(data), "shape": shape, "runs": runs, "budget_s": BUDGET_S}
    command = [python, str(PROGRAMS / f"{peer.program}.py"), *peer.arguments]
    said = run(command, LIMIT_S, json.dumps(task), max(os.sched_getaffinity(0)), peer.bounded)
    rows = [line for line in said.splitlines() if line.startswith("{")]
    if not rows:
        raise Refused("the program gave no row")
    return dict(json.loads(rows[-1]))


def row(peer: Peer, shape: tuple[int, int, int], environments: Environments, data: Path, runs: int) -> dict[str, Any]:
    """A row of figures, or of the reason why there are none."""
    channels, outputs, side = shape
    figures: dict[str, Any] = {"shape": f"conv {channels}->{outputs} 3x3 {side}x{side}", "key": key(shape), "peer": peer.name}
    try:
        figures |= measured(peer, shape, environments.python(peer), data, runs)
    except Refused as refused:
        return figures | {"counts": False, "reason": str(refused)}
    return figures | {"counts": peer.name != OURS and peer.two_parties and figures["security_bits"] >= BITS}


def key(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]}_{shape[2]}"


def ahead(rows: Sequence[dict[str, Any]], which: str) -> float | None:
    """CPU seconds of the fastest peer that counts over ours, for the shape with this key; None if there is no such peer."""
    here = [entry for entry in rows if entry["key"] == which and "reason" not in entry]
    ours = [entry["all_s"] for entry in here if entry["peer"] == OURS]
    peers = [entry["all_s"] for entry in here if entry["counts"]]
    return min(peers) / ours[0] if ours and peers else None


def told(figures: dict[str, Any]) -> str:
    what = figures.get("reason") or f"{figures['all_s'] * 1e3:10.2f} ms, largest error {figures['largest_error']:g}"
    return f"{figures['shape']:24} {figures['peer']:30} {what}\n"


def main() -> None:
    options = arguments(__doc__)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        environments = Environments(Path(folder))
        for place, shape in enumerate(SHAPES[:1] if options.smoke else SHAPES):
            data = problem(shape, Path(folder))
            for peer in PEERS:
                if place >= peer.shapes or (options.smoke and not peer.smoke):
                    continue
                if options.smoke:  # in this environment, whatever it has
                    peer = Peer(peer.name, peer.program, two_parties=peer.two_parties)
                rows.append(row(peer, shape, environments, data, options.runs))
                if not options.json:
                    sys.stdout.write(told(rows[-1]))
                    sys.stdout.flush()
    figures = {
        "benchmark": "peers",
        "smoke": options.smoke,
        "threads": 1,
        "limit_s": LIMIT_S,
        "budget_s": BUDGET_S,
        "memory_gib": MEMORY_GIB,
        "bits": BITS,
        "runs": options.runs,
        **{f"ahead_{key(shape)}": ahead(rows, key(shape)) for shape in SHAPES},
        "peers": rows,
        "versions": {peer.name: list(peer.requirements) for peer in PEERS},
    }
    finish(figures | machine(), options.json)


if __name__ == "__main__":
    main()
