"""Bars: where they are shown, what they say, and that they are taken away."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import ModuleType
from typing import Any

import pytest

import hecompile
from hecompile import bars
from hecompile.compiler import Compiled
from hecompile.progress import Progress
from tests.networks import Tiny, tiny_inputs


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Within it, stderr is a terminal."""
    with redirect_stderr(Terminal()) as screen:
        yield screen


class ZMQInteractiveShell:
    """A notebook's kernel, by its name."""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The bars that are made in a notebook."""
    module = ModuleType("IPython")
    module.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    made: list[Any] = []

    class Bar:
        def __init__(self, total: int, **rest: object) -> None:
            self.total, self.n, self.text, self.closed = total, 0, "", False
            made.append(self)

        def set_description(self, text: str, refresh: bool) -> None:
            self.text = text

        def refresh(self) -> None:
            return None

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    return made


def test_nobody_is_told_where_nobody_looks() -> None:
    with bars.watching() as watcher:
        assert watcher is None


def test_a_terminal_has_a_bar() -> None:
    with terminal() as screen, bars.watching() as watcher:
        assert watcher is not None
        watcher(Progress("compiling", 3, 14, "split"))
    assert "compiling: split" in screen.getvalue()
    assert "3/14" in screen.getvalue()


def test_a_terminal_has_none_if_that_is_wanted() -> None:
    with terminal() as screen, bars.watching(False) as watcher:
        assert watcher is None
    assert not screen.getvalue()


def test_a_function_is_called_itself() -> None:
    told: list[Progress] = []
    with bars.watching(told.append) as watcher:
        assert watcher == told.append


def test_a_notebook_has_bars_of_its_own(notebook: list[Any]) -> None:
    with bars.watching() as watcher:
        assert watcher is not None
        watcher(Progress("compiling", 1, 14, "trace"))
        watcher(Progress("reading layers", 5, 9))
        watcher(Progress("writing", 1, 2))
    assert [(bar.text, bar.n, bar.total) for bar in notebook] == [
        ("compiling: trace", 1, 14),
        ("reading layers", 5, 9),
        ("writing", 1, 2),
    ]
    assert all(bar.closed for bar in notebook)


def test_compiling_tells_every_pass() -> None:
    told: list[Progress] = []
    compiled = hecompile.compile(Tiny().eval(), example_inputs=tiny_inputs(), backend="clear", progress=told.append)
    passes = [state.part for state in told if state.work == "compiling"]
    assert passes == [record.name for record in compiled.passes]


def test_a_short_call_shows_nothing(tiny: Compiled) -> None:
    with terminal() as screen:
        tiny.load()(**tiny_inputs())
    assert not screen.getvalue()


def test_a_long_call_shows_its_requests_and_bytes(tiny: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "SHOWN_AFTER_S", 0.0)
    with terminal() as screen:
        tiny.load()(**tiny_inputs())
    assert "requests" in screen.getvalue()
    assert "MB" in screen.getvalue()


def test_a_long_call_shows_nothing_if_that_is_wanted(tiny: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "SHOWN_AFTER_S", 0.0)
    with terminal() as screen:
        tiny.load(progress=False)(**tiny_inputs())
    assert not screen.getvalue()


def test_nobody_watches_a_call_that_has_ended(tiny: Compiled) -> None:
    unet = tiny.load(progress=True)
    unet(**tiny_inputs())
    assert not unet.meter.observers
