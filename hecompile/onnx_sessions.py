"""ONNX Runtime as this library uses it: silent, safe to fork, and without an effect on the caller's own arithmetic."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnxruntime

    from hecompile.ir.halves import Array

__all__ = ["OnnxSession", "denormals_as_zero", "flushes_denormals", "import_onnxruntime"]


def import_onnxruntime() -> Any:
    """The module `onnxruntime`, without the thread for telemetry that its import else starts.

    That thread also keeps a forked process from ending.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the module is first imported
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


class OnnxSession:
    """A model of ONNX Runtime that may be run in the process that made it and in every process forked from that one.

    The threads of a session do not survive a fork, so another process makes a session of its own when it first runs the model. It
    never destroys the inherited one, which would wait for those threads.
    """

    def __init__(self, data: bytes, threads: int | None = None, *, flush_denormals: bool = False) -> None:
        """Raises what ONNX Runtime raises for a model that it does not take.

        Args:
            threads: of the session; None for one per core.
            flush_denormals: take numbers below 2^-126 for zero, in the session's threads and in the one that calls `run`.
        """
        self._data, self._threads, self._flush = data, threads, flush_denormals
        self._lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = self._made()
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())
        _SESSIONS.add(self)

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """The named outputs, or all. May be called by several threads at once."""
        session = self._session
        if session is None:
            with self._lock:
                session = self._session = self._session or self._made()
        names = None if outputs is None else list(outputs)
        if not self._flush:
            return list(session.run(names, dict(feeds)))
        with denormals_as_zero():
            return list(session.run(names, dict(feeds)))

    def _made(self) -> onnxruntime.InferenceSession:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave the core to others
        if self._flush:
            options.add_session_config_entry("session.set_denormal_as_zero", "1")
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        if _shares_memory(runtime):
            options.add_session_config_entry("session.use_env_allocators", "1")
        before = flushes_denormals()
        try:
            return runtime.InferenceSession(self._data, options, providers=["CPUExecutionProvider"])
        finally:
            _restore(before)  # the first session of a process sets this thread's own mode

    def leave(self) -> None:
        """In a forked process: give up the inherited session, which must never be destroyed there."""
        self._lock = threading.Lock()
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None


_SHARED_BY: list[int] = []  # the process whose sessions share their memory, once there is one
_SHARING = threading.Lock()


def _shares_memory(runtime: Any) -> bool:
    """Whether sessions of this process share one arena, which is made with the first of them.

    Each session would else keep the memory of its largest run, and a model has hundreds of sessions that run one after the other.
    In a forked process sessions have memory of their own: another thread may have held the arena's lock when it was forked.
    """
    with _SHARING:
        if not _SHARED_BY:
            kind, place = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, runtime.OrtMemType.DEFAULT
            grow_as_asked = 1
            settings = runtime.OrtArenaCfg(0, grow_as_asked, -1, -1)
            runtime.create_and_register_allocator(runtime.OrtMemoryInfo("Cpu", kind, 0, place), settings)
            _SHARED_BY.append(os.getpid())
    return _SHARED_BY[0] == os.getpid()


_SESSIONS: weakref.WeakSet[OnnxSession] = weakref.WeakSet()


def _leave_sessions() -> None:
    global _SHARING
    _SHARING = threading.Lock()
    for session in list(_SESSIONS):
        session.leave()


os.register_at_fork(after_in_child=_leave_sessions)


def flushes_denormals() -> bool:
    """Whether this thread takes float32 numbers below 2^-126 for zero."""
    return bool(np.float32(1e-40) * np.float32(1) == 0)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Within it this thread takes numbers below 2^-126 for zero, with which a product takes a hundred times as long."""
    from hecompile import _core

    before = flushes_denormals()
    _core.flush_denormals(True)
    try:
        yield
    finally:
        _restore(before)


def _restore(before: bool) -> None:
    """Put this thread's mode back to what it was."""
    if flushes_denormals() != before:
        from hecompile import _core

        _core.flush_denormals(before)
