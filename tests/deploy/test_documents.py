"""What is said of limits and metrics is what the server has; the unit and the board name what exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from hecompile.cli.app import app
from hecompile.runtime.service import Service
from hecompile.runtime.serving import limits
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.request_handler import RequestHandler
from tests.deploy.proxy import ROOT
from tests.runtime.keyed import KeyedServer

TEXT = (ROOT / "docs" / "deployment.md").read_text()
UNIT = ROOT / "deploy" / "hecompile.service"
BOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text())
UNITS = {"": 1, "s": 1, "KiB/s": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
HISTOGRAM = ("_bucket", "_sum", "_count")


def table(head: str) -> dict[str, list[str]]:
    """The rows of a table by their first column, without its backquotes."""
    _, _, rest = TEXT.partition(f"| {head} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0].strip("`"): row[1:] for row in cells}


def serve_options() -> set[str]:
    """Options of `hecompile serve`."""
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.fixture(scope="module")
def families() -> dict[str, set[str]]:
    """Every metric that a server tells, with the names of its labels."""
    metrics = RequestHandler(Service("keyed", "d" * 64, True, {"call_01": KeyedServer()}), Limits()).metrics
    metrics.requests.labels("route", "200").inc()
    metrics.request_s.labels("route").observe(1)
    for counter in (metrics.refusals, metrics.closed, metrics.sessions_ended):
        counter.labels("reason").inc()
    known = dict[str, set[str]]()
    for family in text_string_to_metric_families(metrics.text().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        known[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    return {name: labels for name, labels in known.items() if not name.endswith("_created")}


def test_every_limit_is_explained_with_its_default() -> None:
    rows = table("limit")
    assert list(rows) == [field.name for field in fields(Limits)]
    most = Limits().document() | {"connections": limits._MOST_CONNECTIONS}  # these fit the machine, up to that
    for name, (default, option, *_) in rows.items():
        number, _, unit = default.removesuffix("*").strip().partition(" ")
        assert float(number) * UNITS[unit] == most[name], name
        assert not option or option.strip("`") in serve_options(), name


def test_every_metric_is_explained(families: dict[str, set[str]]) -> None:
    rows = table("metric")
    assert set(rows) == set(families)
    for name, (labels, _) in rows.items():
        assert set(filter(None, labels.split(", "))) == families[name], name


def test_the_board_shows_what_exists(families: dict[str, set[str]]) -> None:
    queries = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in BOARD["templating"]["list"]]
    shown = {name for query in queries for name in re.findall(r"\b(?:hecompile|process)_\w+", query)}
    bases = {name if name in families else re.sub(rf"({'|'.join(HISTOGRAM)})$", "", name) for name in shown}
    assert bases <= set(families)
    assert {name for name in families if name.startswith("hecompile_")} <= bases
    for query in queries:
        assert query.count("(") == query.count(")")
        for labels in re.findall(r"by \((\w+)\)", query):
            assert any(labels == "le" or labels in families.get(base, ()) for base in bases)


def test_the_board_is_laid_out() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
              for panel in panels for dx in range(panel["gridPos"]["w"]) for dy in range(panel["gridPos"]["h"])]  # fmt: skip
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
    assert {panel["datasource"]["uid"] for panel in panels} == {f"${{{BOARD['__inputs'][0]['name']}}}"}


def command_of_unit() -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.M)
    return shlex.split(line)


def test_the_unit_starts_the_server_with_options_that_exist() -> None:
    program, command, _artifact, *options = command_of_unit()
    assert (Path(program).name, command) == ("hecompile", "serve")
    named = {option for option in options if option.startswith("-")}
    assert {"--trust-proxy", "--token-file"} <= named <= serve_options()


def test_the_unit_waits_longer_than_the_server() -> None:
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.M)
    assert int(timeout) > Limits().stop_s
    (files,) = re.findall(r"^LimitNOFILE=(\d+)$", UNIT.read_text(), re.M)
    assert int(files) >= limits._MOST_CONNECTIONS + limits._OWN_DESCRIPTORS


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: apt install systemd)"
)
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    copied = tmp_path / UNIT.name
    copied.write_text(UNIT.read_text().replace(command_of_unit()[0], sys.executable))  # a program that exists
    process = subprocess.run(["systemd-analyze", "verify", str(copied)], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
