"""What tests of reports share: pages of small artifacts, and texts that try to get out of their place in a page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hecompile.artifact import read_manifest
from hecompile.ir.modules import ModuleWork
from hecompile.machine import Machine
from hecompile.report.contents import Contents, Origin, Picture, Run, contents_of
from hecompile.report.costs import Costs

HOSTILE = "</script><script>window.taken=1</script><img src=x onerror=window.taken=1>\"'{{7*7}}"
LINK = '<a href="https://example.org/">here</a>'
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf50000003010100c9fe92ef"
)


@cache
def gathered(artifact: Path) -> Contents:
    """What the report of an artifact shows, predicted for a usual machine."""
    return contents_of(artifact, read_manifest(artifact), Machine(), Origin("hecompile inspect FOLDER --html report.html"))


def hostile(artifact: Path) -> Contents:
    """The same with every text that an artifact may bring replaced by one that tries to become a part of the page."""
    contents = gathered(artifact)
    plan = contents.manifest.plan
    signed = tuple(replace(spec, keyword=(HOSTILE,)) for spec in contents.manifest.inputs)
    manifest = replace(
        contents.manifest, name=HOSTILE, policy=HOSTILE, backend=LINK, reveals=(HOSTILE, LINK), inputs=signed, written_by=HOSTILE
    )
    modules = tuple(
        ModuleWork(work.region, f"{HOSTILE} {LINK}.{work.path}", work.operations, work.layers, work.shape, work.macs, work.entries)
        for work in contents.modules
    )
    rows = [replace(row, parameters=HOSTILE, proof=HOSTILE, modules=(HOSTILE + LINK,) * len(row.modules)) for row in contents.rows]
    costs = Costs(HOSTILE, True, 1.0, 2.0, 3, 4, 5, 6.0)
    run = Run(
        costs, HOSTILE, LINK, (Picture(HOSTILE, LINK, PNG, "server"),), figures={HOSTILE: HOSTILE}, compared=[(HOSTILE, LINK, LINK)]
    )
    assert plan.steps
    return replace(contents, manifest=manifest, modules=modules, rows=rows, run=run, origin=Origin(HOSTILE, HOSTILE, LINK))


def figures_of(page: str) -> dict[str, Any]:
    """The charts that a page holds, by name."""
    match = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    figures: dict[str, Any] = json.loads(match[1])
    return figures
