"""The drawings of docs/how-it-works.md: their numbers are the compiler's, and the files are what the script draws."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hecompile.compiler import pipeline
from hecompile.ir.linear import Array
from hecompile.options import CompileOptions

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PAGE = (ROOT / "docs" / "how-it-works.md").read_text("utf-8")


def script() -> ModuleType:
    """docs/images/drawings.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("drawings", IMAGES / "drawings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["drawings"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


drawings = script()


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_a_file_is_what_the_script_draws(name: str) -> None:
    assert (IMAGES / name).read_text("utf-8") == drawings.DRAWINGS[name]().svg(), "python docs/images/drawings.py"


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_a_drawing_is_shown_on_the_page_with_a_description(name: str) -> None:
    (described,) = re.findall(rf"!\[([^\]]+)\]\(images/{name}\)", PAGE)
    assert len(described) > 50


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_a_drawing_is_readable_in_light_and_dark_and_loads_nothing(name: str) -> None:
    text = (IMAGES / name).read_text("utf-8")
    assert "prefers-color-scheme: dark" in text
    assert not re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?(?!#)", text)


def answer() -> Array:
    """All 16 coefficients of the drawing's answer."""
    return drawings.product(drawings.upload(), drawings.weight_polynomial())


def test_the_answer_holds_both_outputs_of_the_convolution() -> None:
    layout, padded = drawings.small_layout(), np.pad(drawings.CHANNELS, ((0, 0), (0, 1)))
    convolved = [
        [sum(int(kernel[c, tap]) * int(padded[c, x + tap]) for c in range(2) for tap in range(2)) for x in range(3)]
        for kernel in drawings.WEIGHTS
    ]
    gathered = layout.gather(answer()[layout.gather_indices].reshape(1, 1, -1))
    assert gathered.tolist() == [[[output] for output in convolved]]


def test_the_numbers_of_the_drawing_are_the_answers() -> None:
    cells = re.findall(r'font-size="17" text-anchor="middle">([^<]+)<', (IMAGES / "packing.svg").read_text("utf-8"))
    shown = [int(cell.replace("\u2212", "-")) for cell in cells]
    assert shown == [*drawings.upload().tolist(), *answer().tolist()]


def test_coefficients_that_are_not_read_are_not_all_zero() -> None:
    rest = np.delete(answer(), drawings.small_layout().gather_indices)
    assert np.any(rest)  # so that the page's sentence about what is left over is about something


def test_the_table_of_symbols_has_the_packings_numbers() -> None:
    layout = drawings.small_layout()
    named = dict(re.findall(r"^\|[^|]*\| `(\w+)` \|[^|]*\| (\d+) \|$", PAGE, re.M))
    packing = layout.packing
    assert {name: int(number) for name, number in named.items()} == {
        "dimension": packing.dimension,
        "row_stride": layout.row_stride,
        "images_per_poly": packing.images_per_poly,
        "channel_stride": layout.channel_stride,
        "p_in": packing.p_in,
        "output_stride": layout.output_stride,
        "p_out": packing.p_out,
    }


def test_the_page_tells_the_passes_in_the_pipelines_order(tmp_path: Path) -> None:
    told = re.findall(r"^\d+\. \*\*([\w-]+)\*\*", PAGE, re.M)
    assert told == [step.name for step in pipeline(CompileOptions(), tmp_path / "model.he")]
