"""What the comparison with other libraries says of its rows, and that a packing by hand computes the convolution."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peer_programs.coefficients import cheapest
from benchmarks.tables.peers import peers_table

SHAPE = (4, 4, 4)


def row(peer: str, all_s: float, counts: bool = True, key: str = "4_4") -> dict[str, Any]:
    return {"peer": peer, "key": key, "all_s": all_s, "counts": counts}


def program(folder: Path, text: str) -> peers.Peer:
    """A peer whose program has this text."""
    (folder / "some.py").write_text(text)
    return peers.Peer("some", "some")


def told(peer: peers.Peer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Its row, with programs taken from the folder."""
    monkeypatch.setattr(peers, "PROGRAMS", folder)
    return peers.row(peer, SHAPE, peers.Environments(folder), folder / "none.npz", 1)


def test_ahead_is_of_the_fastest_that_counts() -> None:
    rows = [row(peers.OURS, 2.0, False), row("slow", 9.0), row("fast", 6.0), row("dealer", 1.0, False), row("fast", 1.0, key="8_8")]
    assert peers.ahead(rows, "4_4") == 3.0


def test_without_a_peer_there_is_no_ratio() -> None:
    refused = {"peer": "some", "key": "4_4", "counts": False, "reason": "no"}
    assert peers.ahead([row(peers.OURS, 2.0, False), refused], "4_4") is None
    assert peers.ahead([row("fast", 2.0)], "4_4") is None


def test_an_exception_is_a_row_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = told(program(tmp_path, "import no_such_library"), tmp_path, monkeypatch)
    assert figures["reason"] == "ModuleNotFoundError: No module named 'no_such_library'"
    assert not figures["counts"]


def test_what_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LIMIT_S", 0.5)
    assert told(program(tmp_path, "import time; time.sleep(60)"), tmp_path, monkeypatch)["reason"] == "more than 0.5 s, stopped"


def test_a_signal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert told(program(tmp_path, text), tmp_path, monkeypatch)["reason"] == "ended by signal 11"


def test_a_program_has_so_much_memory_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MEMORY_GIB", 1)
    assert told(program(tmp_path, "bytearray(2 << 30)"), tmp_path, monkeypatch)["reason"] == "MemoryError"


def test_what_cannot_be_installed_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(command: list[str], *_: object) -> str:
        tried.append(command)
        raise peers.Refused("ERROR: no matching distribution")

    monkeypatch.setattr(peers, "interpreter", lambda version: sys.executable)
    monkeypatch.setattr(peers, "run", refuse)
    environments = peers.Environments(tmp_path)
    peer = peers.Peer("some", "some", requirements=("no-such-library==1",))
    for _ in range(2):
        assert peers.row(peer, SHAPE, environments, tmp_path, 1)["reason"] == "ERROR: no matching distribution"
    assert len(tried) == 1


def test_programs_run_on_one_core_and_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import json, os\n"
        "print('a log'), print(json.dumps({'security_bits': 127, 'cores': len(os.sched_getaffinity(0)), "
        "'threads': os.environ['OMP_NUM_THREADS']}))"
    )
    figures = told(program(tmp_path, text), tmp_path, monkeypatch)
    assert figures["cores"] == 1
    assert figures["threads"] == "1"
    assert not figures["counts"], "fewer bits than 128"


def test_the_line_of_the_exception_is_found_among_others() -> None:
    assert peers.reason("Traceback\nValueError: no\n  #0 a frame\n\n") == "ValueError: no"
    assert peers.reason("RuntimeError: what:\n  no memory\n  #0 a frame\n") == "RuntimeError: what: no memory"
    assert peers.reason("killed\n") == "killed"
    assert len(peers.reason("E" * 1000)) == 120


@pytest.mark.parametrize("dimension", [128, 256, 512])
@pytest.mark.parametrize("shape", [(5, 7, 8), (3, 4, 9), (4, 6, 12), (1, 1, 5)])
def test_the_packing_is_the_convolution(shape: tuple[int, int, int], dimension: int) -> None:
    channels, outputs, side = shape
    rng = np.random.default_rng(0)
    values, weights = rng.integers(-99, 100, (channels, side, side)), rng.integers(-9, 10, (outputs, channels, 3, 3))
    layout = cheapest(shape, dimension)
    sums = np.zeros((layout.counts[0], layout.counts[2], dimension), np.int64)
    polynomials = layout.weights(weights, dimension)
    for tile, uploads in enumerate(layout.uploads(values, dimension)):
        for reply, row_ in enumerate(polynomials):
            for upload, weight in zip(uploads, row_, strict=True):
                product = np.append(np.convolve(upload, weight), 0)
                sums[tile, reply] += product[:dimension] - product[dimension:]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (1, 3, 3))[..., 0, :, :]
    assert np.array_equal(layout.results(sums[:, :, layout.places()]), np.einsum("cyxab,ocab->oyx", windows, weights))


def test_the_table_has_every_row_and_reason() -> None:
    figures = {"client_s": None, "server_s": 1.0, "up_bytes": None, "down_bytes": 5, "key_bytes": 0, "largest_error": 0.0}
    facts = {"security_bits": 128, "security_source": "x", "settings": "y", "remark": "z", "shape": "conv"}
    rows = [
        row(peers.OURS, 2.0, False) | figures | facts,
        row("fast", 6.0) | figures | facts | {"extrapolated": "measured on 4 of 8 outputs, times 2"},
        row("dealer", 1.0, False) | figures | facts,
        {"peer": "late", "key": "4_4", "shape": "conv", "counts": False, "reason": "more than 120 s, stopped"},
    ]
    text = peers_table({"peers": rows, "ahead_4_4": 3.0, "runs": 5, "cpu": "a", "commit": "b", "limit_s": 120.0})
    assert "takes 3.0 times" in text
    assert "| fast | 6,000 (scaled) |  | 1,000 | 3.0 |" in text
    assert "| dealer * |" in text
    assert "| late | more than 120 s, stopped |" in text
    assert "measured on 4 of 8 outputs, times 2" in text
