"""Artifacts and requests that were written once: those of today's formats give the same bits, older ones are refused.

`format-N` was written by the library when N was its format, of the network in `golden_artifacts`, which also writes that of today.
`format-N-wire-M` holds requests for it and their replies, `wire-3` a request of the wire format before.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import hecompile
from hecompile import artifact_files
from hecompile.artifact_files import FORMAT
from hecompile.artifact_writing import checksums
from hecompile.errors import ProtocolError
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.service import load_service
from hecompile.runtime.wire import FORMAT as WIRE
from hecompile.runtime.wire import unpack_request
from tests.golden_artifacts import FOLDER, Recorder, calls, inputs, wire_folder
from tests.test_cli import run

KINDS = ("", "-run")  # a seed for each request, and one for those of a run
OLDER = [pytest.param(FOLDER / f"format-{number}", number, id=f"format-{number}") for number in range(1, FORMAT)]


def recorded() -> dict[str, torch.Tensor]:
    """A call, and what the backend `clear` returned for it when the artifact was written."""
    call = json.loads((FOLDER / f"format-{FORMAT}.json").read_text())
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in call.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_todays_format_gives_the_result_of_then_bit_for_bit(kind: str) -> None:
    artifact, wire, expected = FOLDER / f"format-{FORMAT}{kind}", wire_folder(FOLDER, kind), recorded()
    before, recorder = checksums(artifact, skip=""), Recorder(load_service(artifact / "server"))
    assert all(expected[name].equal(value) for name, value in inputs().items())
    for result in calls(artifact, recorder):
        assert result.numpy().tobytes() == expected["result"].numpy().tobytes()
    assert set(recorder.requests) == {path.stem for path in wire.glob("*.request")}
    for call, body in recorder.requests.items():
        request, reply = ((wire / f"{call}.{what}").read_bytes() for what in ("request", "reply"))
        header = 2 + int.from_bytes(request[:2], "little")
        assert body[:header] == request[:header]
        assert len(body) == len(request)
        assert len(recorder.replies[call]) == len(reply)
    assert checksums(artifact, skip="") == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_request_gets_the_recorded_reply(kind: str) -> None:
    """Seeds expand and sums are computed as they were: the server has no randomness of its own."""
    service, paths = load_service(FOLDER / f"format-{FORMAT}{kind}"), sorted(wire_folder(FOLDER, kind).glob("*.request"))
    assert [path.stem for path in paths] == ["call_01.1", "call_01.2", "call_02.1", "call_02.2"]
    for path in paths:
        request = path.read_bytes()
        assert unpack_request(request)[:2] == (2, "")
        assert service.answer(service.digest, path.name.split(".")[0], request) == path.with_suffix(".reply").read_bytes()


def test_later_requests_of_a_run_were_recorded_without_seeds() -> None:
    sizes = {kind: [(wire_folder(FOLDER, kind) / f"call_01.{call}.reply").stat().st_size for call in (1, 2)] for kind in KINDS}
    assert sizes[""][0] == sizes[""][1]
    assert sizes["-run"][1] < sizes["-run"][0]


def test_every_format_so_far_is_kept() -> None:
    documented = re.findall(r"^\| (\d+) \|", (Path(__file__).parents[1] / "docs" / "artifact.md").read_text(), re.MULTILINE)
    assert sorted(int(number) for number in documented) == list(range(1, FORMAT + 1))
    for number in range(1, FORMAT + 1):
        for half in ("", "server"):
            assert json.loads((FOLDER / f"format-{number}" / half / "manifest.json").read_text())["format"] == number


@pytest.mark.parametrize(("folder", "number"), OLDER)
def test_an_older_format_is_refused_by_its_manifest_alone(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read, before = list[Path](), checksums(folder, skip="")

    def reading(path: Path, limit: int) -> bytes:
        read.append(path)
        return path.read_bytes()

    monkeypatch.setattr(artifact_files, "read_file", reading)
    way_out = "compile it again: hecompile compile MODEL -o FOLDER"
    told = rf"format {number}, written by hecompile 0\.1\.0; this is .* {FORMAT}: {way_out}"
    for load, place in ((hecompile.load, folder), (load_bundle, folder), (load_service, folder), (load_service, folder / "server")):
        with pytest.raises(ProtocolError, match=told):
            load(place)
    for command in ("inspect", "serve", "sample"):
        ended = run(command, str(folder))
        assert ended.returncode != 0
        assert re.search(told, " ".join(ended.stderr.split())), ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.stdout == ""
    assert {path.relative_to(folder).as_posix() for path in read} == {"manifest.json", "server/manifest.json"}
    assert checksums(folder, skip="") == before


def test_a_request_of_the_last_wire_format_is_refused_by_it() -> None:
    service = load_service(FOLDER / f"format-{FORMAT}")
    with pytest.raises(ProtocolError, match=f"wire format 3, this server speaks format {WIRE}") as refusal:
        service.answer(service.digest, "call_01", (FOLDER / "wire-3" / "call_01.request").read_bytes())
    assert refusal.value.status == 422
