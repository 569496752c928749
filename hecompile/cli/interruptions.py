"""How a command ends early: signals become exceptions, so that whatever is half done is removed on the way out."""

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
STOPPED = {128 + number: number.name for number in (signal.SIGINT, *ENDING)}  # exit status of a command that a signal ended
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # what a disk says, whatever is written


@contextmanager
def signals_as_exits() -> Iterator[None]:
    """Within it SIGTERM raises `SystemExit(143)` and SIGHUP `SystemExit(129)`; Ctrl-C raises `KeyboardInterrupt`, as always.

    The first one counts: others, a second Ctrl-C too, are ignored while what is half done is removed. A signal that the caller
    ignores stays ignored, as under `nohup`. Does nothing outside the main thread, which alone may handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked process has nothing of its own to remove
            os._exit(128 + number)
        for each in handlers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, *ENDING)}
    for each, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, end)
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


def drop_unwritable_output() -> None:
    """Give up what the standard output does not take, so that the interpreter does not fail on it once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)


@contextmanager
def own_exit_status() -> Iterator[None]:
    """Within it a command ends with its own status, also after Concrete's library has run a circuit.

    Its end of the process is a 0 whatever the status was, so a compilation that failed would look like one that did not.
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
    """End at once, with what was written."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)
