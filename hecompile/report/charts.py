"""The charts of a report, as figures of plotly: dictionaries that a page's script draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import isfinite
from typing import Any

from hecompile.ir.approximation import CurvePoint
from hecompile.report.tables import RegionRow
from hecompile.report.timeline import PARTS, Timeline, by_region
from hecompile.report.tree import Branch
from hecompile.wording import byte_text, seconds_text

__all__ = ["COLOURS", "Figure", "byte_bars", "curve", "module_map", "second_bars", "shown", "timeline_chart"]

Figure = dict[str, Any]
COLOURS: Mapping[str, str] = {
    "client": "#1f7a8c", "client-light": "#a9d3da", "client-mid": "#53a5b5",
    "server": "#b5532f", "server-light": "#d99a80", "neutral": "#8b919a", "both": "#e6e2da",
}  # fmt: skip
INKS: Mapping[str, str] = {"client": "#ffffff", "server": "#ffffff", "both": "#1c2126"}  # of what is written on a colour
ROW = 38  # pixels of a request's bar with its label
LARGE_BYTES, LARGE_S = 1e6, 1.0  # from which a request's bars are in MB, and in seconds
MOST_LABEL = 52  # characters of a label
WORKS = {"macs": "multiply-adds", "entries": "values computed"}


def shown(text: str) -> str:
    """A text as plotly shows it: its labels are a kind of HTML, and these texts may be anybody's."""
    return escape(text, quote=False)


def _shortened(text: str) -> str:
    """A label as plotly shows it; of a long one its start and, since that tells layers apart, its end."""
    return shown(text if len(text) <= MOST_LABEL else f"{text[: MOST_LABEL // 4]}…{text[-MOST_LABEL * 3 // 4 + 1 :]}")


def _layout(height: int, **more: Any) -> Figure:
    usual = {"height": height, "margin": {"l": 8, "r": 16, "t": 8, "b": 32}, "showlegend": False, "hovermode": "closest"}
    return {**usual, "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"size": 13}, **more}


def module_map(tree: Branch) -> Figure:
    """The modules as nested boxes, each coloured by the side that computes it; a click shows one of them alone."""
    rows = list(tree.walk())
    places = {own: str(place) for place, (own, _, _) in enumerate(rows)}
    values = {kind: [sum(getattr(branch, kind).values()) for _, _, branch in rows] for kind in WORKS}
    sides = [branch.side for _, _, branch in rows]
    texts = [
        f"<b>{shown(branch.path or branch.name)}</b><br>{_side_text(branch)}<br>"
        f"{sum(branch.macs.values()):,} multiply-adds, {sum(branch.entries.values()):,} values computed{_own_text(branch)}"
        for _, _, branch in rows
    ]
    trace = {
        "type": "icicle", "ids": list(places.values()), "parents": [places.get(parent, "") for _, parent, _ in rows],
        "labels": [shown(branch.name) for _, _, branch in rows], "values": values["entries"],
        "branchvalues": "total", "sort": False,
        "marker": {"colors": [COLOURS[side] for side in sides], "line": {"width": 1}}, "leaf": {"opacity": 1},
        "textfont": {"color": [INKS[side] for side in sides]}, "hovertext": texts, "hoverinfo": "text",
        "tiling": {"orientation": "h", "pad": 1}, "pathbar": {"visible": True, "thickness": 24}, "maxdepth": 6,
    }  # fmt: skip
    layout = _layout(620, margin={"l": 0, "r": 0, "t": 28, "b": 0}, uniformtext={"minsize": 9, "mode": "hide"})
    return {"data": [trace], "layout": {**layout, "meta": {"values": values, "sides": sides}}}


def _side_text(branch: Branch) -> str:
    if branch.side != "both":
        return "at the server, on ciphertexts" if branch.side == "server" else "at the client"
    total = sum(branch.macs.values())
    return f"{branch.macs['server'] / total:.0%} of its multiply-adds at the server" if total else "at both"


def _own_text(branch: Branch) -> str:
    return f"<br>{shown(', '.join(branch.operations))}, makes {shown(branch.shape)}" if branch.operations else ""


def timeline_chart(timeline: Timeline, labels: Mapping[str, str]) -> Figure:
    """One step from left to right, a lane for each side. `labels`: what a region is made of, by its name."""
    long = sum(bar.seconds for bar in timeline.bars) >= LARGE_S
    unit, scale, traces = "s" if long else "ms", 1.0 if long else 1e3, list[Figure]()
    for part in timeline.parts:
        kind, bars = PARTS[part], [bar for bar in timeline.bars if bar.part == part]
        texts = [f"{kind.words}: {seconds_text(bar.seconds)}<br>{_shortened(labels.get(bar.region, bar.region))}" for bar in bars]
        traces.append(
            {
                "type": "bar", "orientation": "h", "name": kind.words, "y": [kind.lane] * len(bars),
                "base": [bar.start_s * scale for bar in bars], "x": [bar.seconds * scale for bar in bars],
                "marker": {"color": COLOURS[kind.colour], "line": {"width": 0}}, "hovertext": texts, "hoverinfo": "text",
                "width": 0.8,
            }
        )  # fmt: skip
    lanes = list(dict.fromkeys(PARTS[part].lane for part in PARTS if part in timeline.parts))
    layout = _layout(
        70 * len(lanes) + 40, barmode="overlay", dragmode="zoom",
        xaxis={"ticksuffix": f" {unit}", "rangemode": "tozero", "zeroline": False},
        yaxis={"categoryorder": "array", "categoryarray": lanes[::-1], "fixedrange": True, "automargin": True,
               "ticks": "outside", "ticklen": 8, "tickcolor": "rgba(0,0,0,0)", "showgrid": False},
    )  # fmt: skip
    return {"data": traces, "layout": layout}


def byte_bars(rows: Sequence[RegionRow]) -> Figure:
    """The bytes of every request and its answer."""
    series = [
        ("up", COLOURS["client"], [row.up_bytes for row in rows]),
        ("down", COLOURS["server"], [row.down_bytes for row in rows]),
    ]
    large = max(row.up_bytes + row.down_bytes for row in rows) >= LARGE_BYTES
    unit, scale = ("MB", 1e-6) if large else ("kB", 1e-3)
    return _bars([row.label for row in rows], series, unit, scale, byte_text)


def second_bars(rows: Sequence[RegionRow], timeline: Timeline) -> Figure:
    """The seconds of every request by part, as the timeline has them."""
    series = [
        (PARTS[part].words, COLOURS[PARTS[part].colour], [seconds.get(row.region, 0.0) for row in rows])
        for part, seconds in by_region(timeline)
    ]
    slowest_s = max(map(sum, zip(*(amounts for _, _, amounts in series), strict=True)))
    unit, scale = ("s", 1.0) if slowest_s >= LARGE_S else ("ms", 1e3)
    return _bars([row.label for row in rows], series, unit, scale, seconds_text)


def _bars(
    labels: Sequence[str], series: Sequence[tuple[str, str, Sequence[float]]], unit: str, scale: float, text: Callable[[float], str]
) -> Figure:
    """Bars that are stacked, one row a label, the label above its bar so that narrow screens have room for both."""
    places = list(range(len(labels)))
    traces = [
        {
            "type": "bar", "orientation": "h", "name": name, "y": places, "x": [amount * scale for amount in amounts],
            "marker": {"color": colour}, "width": 0.34, "offset": 0.02, "hoverinfo": "text",
            "hovertext": [f"{shown(label)}<br>{name}: {text(amount)}" for label, amount in zip(labels, amounts, strict=True)],
        }
        for name, colour, amounts in series
    ]  # fmt: skip
    layout = _layout(
        ROW * len(labels) + 44, barmode="stack", dragmode=False, margin={"l": 12, "r": 16, "t": 36, "b": 8},
        xaxis={"ticksuffix": f" {unit}", "fixedrange": True, "rangemode": "tozero", "side": "top", "zeroline": False},
        yaxis={"range": [len(labels) - 0.4, -0.6], "fixedrange": True, "visible": False},
        annotations=[
            {
                "text": _shortened(label), "x": 0, "xref": "paper", "xanchor": "left", "y": place, "yanchor": "bottom",
                "showarrow": False, "font": {"size": 12},
            }
            for place, label in enumerate(labels)
        ],
    )  # fmt: skip
    return {"data": traces, "layout": layout}


def curve(points: Sequence[CurvePoint]) -> Figure:
    """PSNR over the total depth of polynomials: a line for one degree everywhere, and one for degrees by the error budget."""
    lines: dict[str, list[CurvePoint]] = {}
    for point in points:
        if isfinite(point.psnr_db):
            lines.setdefault("one degree everywhere" if point.degree is not None else "degrees by the error budget", []).append(
                point
            )
    traces = [
        {
            "type": "scatter", "mode": "lines+markers", "name": name, "x": [point.total_depth for point in line],
            "y": [point.psnr_db for point in line], "line": {"color": COLOURS[colour]},
        }
        for (name, line), colour in zip(lines.items(), ("client", "server"), strict=False)
    ]  # fmt: skip
    axes = {"xaxis": {"title": {"text": "total depth"}}, "yaxis": {"title": {"text": "PSNR (dB)"}, "automargin": True}}
    legend = {"showlegend": True, "legend": {"orientation": "h", "y": 1.12}}
    return {"data": traces, "layout": _layout(340, margin={"l": 8, "r": 16, "t": 8, "b": 48}, **axes, **legend)}
