"""Lets one thread at a time compute with a model, and reserves a run for the thread that started it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from hecompile.runtime.arguments import InputError

__all__ = ["CallLock"]


class CallLock:
    """A lock around the calls of a model: calls of several threads wait for each other, and what would mix two runs is refused at
    once.

    Args:
        one_thread: whether the model belongs to the first thread that calls it, until that thread ends.
    """

    def __init__(self, one_thread: bool = False) -> None:
        self._one_thread = one_thread
        self._lock = threading.RLock()
        self._first: threading.Thread | None = None
        self._runner: threading.Thread | None = None  # the thread whose run is open
        self._caller: threading.Thread | None = None  # the thread whose call is under way
        _LOCKS.add(self)

    @property
    def in_run(self) -> bool:
        """Whether a run is open."""
        return self._runner is not None

    @contextmanager
    def call(self) -> Iterator[None]:
        """Hold the lock for one call, after calls of other threads have ended.

        Raises:
            InputError: during a run of another thread, or within a call of this thread.
        """
        self._check_thread()
        if self._caller is threading.current_thread():
            raise InputError("the model was called within one of its own calls")
        with self._lock:
            self._claim()
            self._caller = threading.current_thread()
            try:
                yield
            finally:
                self._caller = None

    @contextmanager
    def run(self) -> Iterator[None]:
        """Open a run of this thread, after a call of another thread that is under way.

        Raises:
            InputError: if a run is open already, of this thread or another.
        """
        self._check_thread()
        with self._lock:
            self._claim()
            if self._runner is not None:
                raise InputError("a run is open already: runs do not nest")
            self._runner = threading.current_thread()
        try:
            yield
        finally:
            with self._lock:
                self._runner = None

    def start(self) -> None:
        """Start a run of this thread that lasts until the next `start`, after a call that is under way. A run that was open
        ends."""
        with self._lock:
            self._runner = threading.current_thread()

    @contextmanager
    def end(self) -> Iterator[None]:
        """Hold the lock in order to close the model: after a call that is under way, whichever thread's run is open."""
        with self._lock:
            yield

    def _check_thread(self) -> None:
        """Raise `InputError` if this thread may not use the model now."""
        thread = threading.current_thread()
        runner = self._runner
        if runner is not None and runner is not thread:
            raise InputError(
                f"thread '{runner.name}' has a run open, which no other thread can use: "
                "wait for its end, or load a model for each thread"
            )
        first = self._first
        if first is not None and first is not thread and first.is_alive():
            raise InputError(
                f"a model that reveals values belongs to the first thread that calls it, '{first.name}': load one for each thread"
            )

    def _claim(self) -> None:
        """Check again with the lock held, since another thread may have been faster; then record the first thread."""
        self._check_thread()
        if self._one_thread:
            self._first = threading.current_thread()

    def reset_after_fork(self) -> None:
        """Reset the lock in a forked process, in which only the forking thread exists."""
        self._lock = threading.RLock()
        self._caller = None
        if self._runner is not threading.current_thread():
            self._runner = None


_LOCKS: weakref.WeakSet[CallLock] = weakref.WeakSet()


def _reset_locks() -> None:
    for lock in list(_LOCKS):
        lock.reset_after_fork()


os.register_at_fork(after_in_child=_reset_locks)
