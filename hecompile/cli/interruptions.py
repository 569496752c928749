"""How a command ends early: signals become exceptions, so that what is half done is removed."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["CANNOT_WRITE", "STOPPED", "drop_unwritable_output", "own_exit_status", "signals_as_exits"]

ENDING = (signal.SIGTERM, signal.SIGHUP)
STOPPED = {
    128 + number: number.name for number in (signal.SIGINT, *ENDING)
}  # names of signals by the exit status of a command that they ended
CANNOT_WRITE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
)  # errors of a disk that is full or cannot be written


@contextmanager
def signals_as_exits() -> Iterator[None]:
    """Within the block SIGTERM raises `SystemExit(143)`, SIGHUP raises `SystemExit(129)`, and Ctrl-C raises `KeyboardInterrupt` as
    always.

    Only the first signal counts: later ones, such as a second Ctrl-C, are ignored while what is half done is removed. A signal that
    the caller ignores stays ignored, as under `nohup`. Outside the main thread this does nothing, since only that can handle
    signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked process has nothing to remove
            os._exit(128 + number)
        for handled in handlers:
            signal.signal(handled, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    handlers = {handled: signal.getsignal(handled) for handled in (signal.SIGINT, *ENDING)}
    for handled, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(handled, end)
    try:
        yield
    finally:
        for handled, handler in handlers.items():
            signal.signal(handled, handler)


def drop_unwritable_output() -> None:
    """Discard output that stdout does not accept, so that Python does not fail on it again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)


@contextmanager
def own_exit_status() -> Iterator[None]:
    """Within the block a command ends with its own exit status, even after the library of Concrete has run a circuit.

    That library ends the process with status 0 whatever the status should be, so a failed compilation would look like a success.
    """
    try:
        yield
    except SystemExit as end:
        if end.code and "concrete.fhe" in sys.modules:
            _leave(end.code if isinstance(end.code, int) else 1)
        raise
    except BaseException:
        if "concrete.fhe" in sys.modules:
            traceback.print_exc()
            _leave(1)
        raise


def _leave(status: int) -> None:
    """End the process at once, after writing what is buffered."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)
