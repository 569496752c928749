"""Sessions of ONNX Runtime that print nothing, work in forked processes, and do not change the caller's own arithmetic."""

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
    """Import `onnxruntime` without the thread for telemetry that it starts otherwise, which keeps forked processes from ending."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the module is first imported
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


class OnnxSession:
    """A model that may be run in the process that loaded it and in every process forked from that one.

    The threads of a session do not survive a fork, so a forked process makes a session of its own when it first runs the model. It
    never destroys the inherited one, which would wait for those threads.
    """

    def __init__(self, data: bytes, threads: int | None = None, *, flush_denormals: bool = False) -> None:
        """Load a model from the bytes of an ONNX file. Raises what ONNX Runtime raises if it refuses the model.

        Args:
            threads: threads of the session; None for one per core.
            flush_denormals: compute with zero in place of numbers below 2^-126, in the session's threads and in the calling one.
        """
        self._data, self._threads, self._flush = data, threads, flush_denormals
        self._lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = self._made()
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())
        _SESSIONS.add(self)

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """Run the model and return the named outputs, or all if None. Several threads may call this at once."""
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
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads do not occupy a core
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
        """In a forked process: drop the inherited session without destroying it, which would never end."""
        self._lock = threading.Lock()
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None


_SHARED_BY: list[int] = []  # the id of the process whose sessions share their memory, or empty
_SHARING = threading.Lock()


def _shares_memory(runtime: Any) -> bool:
    """Return whether the sessions of this process share one memory arena, which is made with the first of them.

    Otherwise every session keeps the memory of its largest run, and a model has hundreds of sessions that run one after the other.
    In a forked process every session has its own memory, because another thread may have held the arena's lock during the fork.
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
    """Return whether this thread computes with zero in place of float32 numbers below 2^-126."""
    return bool(np.float32(1e-40) * np.float32(1) == 0)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """A context in which this thread computes with zero in place of numbers below 2^-126, which take a hundred times as long."""
    from hecompile import _core

    before = flushes_denormals()
    _core.flush_denormals(True)
    try:
        yield
    finally:
        _restore(before)


def _restore(before: bool) -> None:
    """Set this thread's mode to what it was before."""
    if flushes_denormals() != before:
        from hecompile import _core

        _core.flush_denormals(before)
