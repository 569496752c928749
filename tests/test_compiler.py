"""Looking into a compilation: stopping on the way, the program's text after every pass, and what an observer is told."""

from __future__ import annotations

import gc
import json
import re
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from hecompile.compiler import Compiled, PassEvent, PassRecord, compile_model, pipeline
from hecompile.errors import CompileError
from hecompile.frontend.sources import Source
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.program_printing import program_text
from hecompile.ir.regions import Program
from hecompile.options import CompileOptions
from hecompile.passes.base import Pass
from tests.networks import Tiny, tiny_inputs

OPTIONS = CompileOptions(backend="clear", max_batch=2)
NAMES = [step.name for step in pipeline(OPTIONS, None)]


def tiny(output: Path | None = None, **changes: Any) -> Compiled:
    return compile_model(Tiny().eval(), output, options=OPTIONS, example_inputs=tiny_inputs(), **changes)


@dataclass(frozen=True)
class Own(Pass[ModelGraph, ModelGraph]):
    """A user's pass: before -> before."""

    def run(self, program: ModelGraph) -> ModelGraph:
        return program


def test_compiling_stops_after_a_pass_with_the_program_that_is_there() -> None:
    compiled = tiny(until="partition")
    assert isinstance(compiled.program, ModelGraph)
    assert [record.name for record in compiled.passes] == NAMES[: NAMES.index("partition") + 1]
    assert any(info(node).domain == "server_encrypted" for node in compiled.program.nodes)
    assert compiled.artifact is None


def test_compiling_stops_within_the_passes_on_regions() -> None:
    program = tiny(until="split").program
    assert isinstance(program, Program)
    assert all(region.lowered is None for region in program.calls.values())


def test_compiling_stops_after_a_pass_of_a_users_own() -> None:
    compiled = tiny(until="own", extra_passes={"canonicalize": [Own()]})
    assert [record.name for record in compiled.passes] == ["trace", "canonicalize", "own"]


def test_a_wrong_name_to_stop_at_lists_the_right_ones() -> None:
    with pytest.raises(CompileError, match=r"there is no pass 'splt'\n.*known: .*canonicalize.* split, trace"):
        tiny(until="splt")


def test_what_is_to_be_written_must_not_be_cut_off(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="is not written if compiling stops after 'partition'"):
        tiny(tmp_path / "artifact", until="partition")
    assert list(tmp_path.iterdir()) == []


def test_stopping_after_the_last_pass_writes(tmp_path: Path) -> None:
    assert tiny(tmp_path / "artifact", until="write").artifact == tmp_path / "artifact"
    assert (tmp_path / "artifact" / "manifest.json").is_file()


def on_meta(**changes: Any) -> Compiled:
    """A convolution without weights, compiled."""
    convolution = torch.nn.Conv2d(2, 2, 1, device="meta").eval()
    return compile_model(convolution, example_inputs=[torch.zeros(2, 2, 4, 4)], **changes)


def test_a_model_of_shapes_alone_goes_as_far_as_no_pass_reads_weights() -> None:
    graph = on_meta(until="check-secrecy").program
    assert isinstance(graph, ModelGraph)
    assert graph.is_meta


POLYNOMIALS = CompileOptions(activations="polynomial")


@pytest.mark.parametrize("stop", [{}, {"until": "split"}, {"until": "partition", "options": POLYNOMIALS}])
def test_a_model_of_shapes_alone_is_refused_where_weights_are_read(stop: Mapping[str, Any]) -> None:
    with pytest.raises(CompileError, match="has shapes but no weights"):
        on_meta(**stop)


def test_every_pass_leaves_a_text_in_its_place_and_twice_the_same(tmp_path: Path) -> None:
    programs = list[ModelGraph | Program]()
    tiny(dump_ir=tmp_path / "first", observer=lambda event: programs.append(event.after))
    tiny(dump_ir=tmp_path / "second")
    first, second = ({path.name: path.read_text() for path in (tmp_path / name).iterdir()} for name in ("first", "second"))
    assert sorted(first) == [f"{place:02d}-{name}.txt" for place, name in enumerate(NAMES)]
    assert first == second
    assert [first[name] for name in sorted(first)] == [program_text(program) for program in programs]


class Marked(torch.nn.Module):
    """Weights of every kind, which are all the same unmistakable number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(2, 2, 1), torch.nn.GroupNorm(1, 2)
        self.rectifier, self.gain = torch.nn.PReLU(), torch.nn.Parameter(torch.tensor(0.0))
        self.register_buffer("shift", torch.zeros(1, 2, 1, 1))
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data.fill_(0.738291)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.rectifier(self.norm(self.conv(sample))) * self.gain + self.shift
        return result


def test_no_text_shows_a_weight_or_an_example(tmp_path: Path) -> None:
    example = {"sample": torch.full((2, 2, 4, 4), 0.519283)}
    compile_model(Marked().eval(), options=OPTIONS, example_inputs=example, dump_ir=tmp_path / "ir")
    texts = [path.read_text() for path in (tmp_path / "ir").iterdir()]
    assert len(texts) == len(NAMES)
    assert not [text for text in texts if re.search(r"0\.738|0\.519|0\.0058", text)]  # the last is a scale of int8 weights


@dataclass(frozen=True)
class Refusing(Own):
    """A pass that refuses every model: before -> an error."""

    def run(self, program: ModelGraph) -> ModelGraph:
        raise CompileError("not this one")


def test_the_texts_before_a_refusal_stay(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="not this one"):
        tiny(dump_ir=tmp_path / "ir", extra_passes={"mark-secrets": [Refusing()]})
    assert sorted(path.name for path in (tmp_path / "ir").iterdir()) == [
        "00-trace.txt",
        "01-canonicalize.txt",
        "02-mark-secrets.txt",
    ]


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("file", "exists and is no folder"),
        ("file/ir", "no folder can be made in"),
        ("full", "is not empty"),
        ("bad\0name", "embedded null"),
        ("artifact", "must not be the same folder"),
        ("artifact/ir", "must not be the same folder"),
    ],
)
def test_a_folder_that_takes_no_texts_is_refused_before_the_work(tmp_path: Path, folder: str, reason: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    started = list[PassRecord]()
    with pytest.raises(CompileError, match=reason):
        tiny(tmp_path / "artifact", dump_ir=tmp_path / folder, observer=started.append)
    assert started == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "notes"]


def test_an_artifact_takes_no_texts(tmp_path: Path) -> None:
    tiny(tmp_path / "artifact")
    with pytest.raises(CompileError, match="lies in the artifact"):
        tiny(dump_ir=tmp_path / "artifact" / "ir")


def test_an_observer_sees_the_programs_before_and_after_every_pass() -> None:
    events = list[PassEvent]()
    compiled = tiny(observer=events.append)
    assert [event.name for event in events] == NAMES
    assert isinstance(events[0].before, Source)
    assert all(later.before is earlier.after for earlier, later in pairwise(events))
    assert events[-1].after is compiled.program


def test_an_event_counts_as_the_record_of_its_pass() -> None:
    events = list[PassEvent]()
    compiled = tiny(until="mark-secrets", observer=events.append)
    assert [asdict(event) for event in events] == [asdict(record) for record in compiled.passes]
    assert json.dumps([asdict(event) for event in events])


def test_what_was_compiled_keeps_no_program_between_passes_alive() -> None:
    seen = list[weakref.ref[Any]]()
    compiled = tiny(observer=lambda event: seen.append(weakref.ref(event.after)))
    gc.collect()
    kept = {id(program) for program in (reference() for reference in seen) if program is not None}
    assert kept == {id(compiled.program)}


def test_every_pass_says_in_a_line_what_it_does() -> None:
    lines = [step.help for step in pipeline(OPTIONS, Path("unused"))]
    assert all(re.fullmatch(r"[A-Z].{10,130}\.", line) for line in lines), lines
