"""Whose turn it is: one thread at a time computes with a model, and a run belongs to the thread that opened it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from hecompile.runtime.arguments import InputError

__all__ = ["Turns"]


class Turns:
    """Calls of several threads wait for each other; what would mix the runs of two threads is refused at once.

    Args:
        one_thread: everything belongs to the first thread that calls, until that thread has ended.
    """

    def __init__(self, one_thread: bool = False) -> None:
        self._one_thread = one_thread
        self._lock = threading.RLock()
        self._first: threading.Thread | None = None
        self._runner: threading.Thread | None = None  # whose run is open
        self._caller: threading.Thread | None = None  # whose call is under way
        _TURNS.add(self)

    @property
    def in_run(self) -> bool:
        """Whether a run is open."""
        return self._runner is not None

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call, after those of other threads.

        Raises:
            InputError: within another thread's run, or within a call of this thread.
        """
        self._judge()
        if self._caller is threading.current_thread():
            raise InputError("a call of this model within a call of it")
        with self._lock:
            self._take()
            self._caller = threading.current_thread()
            try:
                yield
            finally:
                self._caller = None

    @contextmanager
    def run(self) -> Iterator[None]:
        """A run of this thread, after a call of another that is under way.

        Raises:
            InputError: if a run is open already, this thread's or another's.
        """
        self._judge()
        with self._lock:
            self._take()
            if self._runner is not None:
                raise InputError("a run is open already: runs do not nest")
            self._runner = threading.current_thread()
        try:
            yield
        finally:
            with self._lock:
                self._runner = None

    def start(self) -> None:
        """Start a run of this thread that has no end of its own, after a call that is under way; one that is open is over."""
        with self._lock:
            self._runner = threading.current_thread()

    @contextmanager
    def end(self) -> Iterator[None]:
        """What ends everything, a closing say: after a call that is under way, whoever's run it is in."""
        with self._lock:
            yield

    def _judge(self) -> None:
        """Raise `InputError` if this thread may not use the model now."""
        thread = threading.current_thread()
        runner = self._runner
        if runner is not None and runner is not thread:
            raise InputError(
                f"thread '{runner.name}' has a run open, and a run belongs to one thread: "
                "wait for its end, or load a model for each thread"
            )
        first = self._first
        if first is not None and first is not thread and first.is_alive():
            raise InputError(
                f"a model that reveals belongs to the first thread that calls it, '{first.name}': load one for each thread"
            )

    def _take(self) -> None:
        """Judge again with the lock held, since another thread may have been faster, and take what belongs to the first."""
        self._judge()
        if self._one_thread:
            self._first = threading.current_thread()

    def renew(self) -> None:
        """In a forked process, where only the forking thread goes on: whatever belongs to another is over."""
        self._lock = threading.RLock()
        self._caller = None
        if self._runner is not threading.current_thread():
            self._runner = None


_TURNS: weakref.WeakSet[Turns] = weakref.WeakSet()


def _renew_turns() -> None:
    for turns in list(_TURNS):
        turns.renew()


os.register_at_fork(after_in_child=_renew_turns)
