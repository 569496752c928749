"""One file for a browser: the contents of a report as HTML, its charts, and the library that draws them. Nothing is fetched.

The library is plotly's, packed; the page unpacks it, and a page without charts does not hold it. A policy in the page lets the
browser run these two scripts and no other, by their digests, and load nothing from anywhere: names of an artifact may be anybody's.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import struct
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from hecompile.policies import WATERMARK
from hecompile.report.activations import section
from hecompile.report.charts import COLOURS, Figure, byte_bars, curve, module_map, second_bars, timeline_chart
from hecompile.report.contents import Contents
from hecompile.report.costs import cost_lines
from hecompile.report.plan_steps import plan_steps
from hecompile.report.timeline import PARTS, Timeline
from hecompile.report.tree import module_tree
from hecompile.report.words import (
    documents,
    headline,
    input_text,
    lead,
    margin_text,
    proof_text,
    reveals_text,
    security_text,
    shape_text,
)
from hecompile.version import __version__
from hecompile.wording import byte_text

__all__ = ["page"]

TEMPLATE, STYLE, SCRIPT = "report.html", "report.css", "report.js"
WIDE = 3  # times as wide as high


def page(contents: Contents) -> str:
    """The whole file as a text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(loader=jinja2.PackageLoader("hecompile.report", "."), autoescape=True, trim_blocks=True)
    environment.filters |= {"bytes": byte_text, "margin": margin_text, "shape": shape_text, "base64": _base64}
    figures = _figures(contents)
    plotly, plotly_digest = _plotly() if figures else ("", "")
    script, style = _text(SCRIPT), _text(STYLE)
    return environment.get_template(TEMPLATE).render(
        contents=contents, manifest=contents.manifest, run=contents.run, origin=contents.origin, version=__version__,
        watermark=WATERMARK.capitalize(), figures=figures, plotly=Markup(plotly), script=Markup(script), style=Markup(style),
        scripts=" ".join(filter(None, (_digest(script), plotly_digest))), **_said(contents),
    )  # fmt: skip


def _said(contents: Contents) -> Mapping[str, Any]:
    """The sentences of a report, and its tables."""
    manifest, calls, run = contents.manifest, contents.calls, contents.run
    approximation = contents.approximation
    return {
        "headline": (run and run.headline) or headline(manifest, sum(row.layers for row in calls)),
        "lead": (run and run.lead) or lead(manifest, manifest.plan.rounds),
        "bill": list(cost_lines(contents.costs)) if contents.costs else [],
        "revealed": reveals_text(manifest),
        "security": security_text(manifest, calls),
        "inputs": [(spec, input_text(spec, manifest, contents.told)) for spec in manifest.inputs],
        "plan": plan_steps(contents),
        "proofs": proof_text(calls),
        "documents": documents(calls),
        "legend": _legend(contents.timeline),
        "colours": COLOURS,
        "wide": any(_is_wide(picture.png) for picture in run.pictures) if run else False,
        "activations": approximation and section(approximation),
    }


def _legend(timeline: Timeline | None) -> list[tuple[str, str]]:
    """The words and the colour of each kind of bar."""
    return [(PARTS[part].words, COLOURS[PARTS[part].colour]) for part in timeline.parts] if timeline else []


def _is_wide(png: bytes) -> bool:
    """Whether a picture is a strip, several times as wide as high; its sizes stand in the file's first chunk."""
    width, height = struct.unpack(">II", png[16:24])
    return bool(width > WIDE * height)


def _figures(contents: Contents) -> dict[str, Figure]:
    """The charts by the names that the template and the script know."""
    calls, timeline, figures = contents.calls, contents.timeline, dict[str, Figure]()
    if contents.modules:
        server = {row.region for row in calls}
        figures["map"] = module_map(module_tree(contents.manifest.name, contents.modules, server))
    if timeline and timeline.bars:
        figures["timeline"] = timeline_chart(timeline, {row.region: row.label for row in contents.rows})
    if calls:
        figures["bytes"] = byte_bars(calls)
    if calls and timeline and timeline.bars:
        figures["seconds"] = second_bars(calls, timeline)
    if contents.approximation and contents.approximation.curve:
        figures["curve"] = curve(contents.approximation.curve)
    return figures


@cache
def _plotly() -> tuple[str, str]:
    """Plotly's library, packed by gzip and in base64, and its digest as the page's policy names it."""
    from plotly.offline import get_plotlyjs

    text = get_plotlyjs()
    return _base64(gzip.compress(text.encode(), 6, mtime=0)), _digest(text)


def _text(name: str) -> str:
    return (files("hecompile.report") / name).read_text(encoding="utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _digest(script: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(script.encode()).digest())}'"
