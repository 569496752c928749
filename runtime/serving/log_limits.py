"""Limits the server's logs, so that clients cannot fill them: lines of the same kind are written once per minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["OncePerMinute", "limit_logs"]

PERIOD_S = 60.0
_LOGGERS = ("uvicorn.error", "uvicorn.asgi", "asyncio", "hecompile.runtime.serving.app")
_KINDS = 256  # beyond so many kinds, all lines of a logger count as one kind


class OncePerMinute(logging.Filter):
    """Lets one record of each kind through per minute, and adds to the next one how many were left out. Debug records always
    pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        first = str(record.msg).partition("\n")[0][:80]
        kind = (record.name, record.lineno, first)
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            kind = (record.name, 0, "")
        last, left_out = self._kinds.get(kind, (float("-inf"), 0))
        now = self._clock()
        if now - last < PERIOD_S:
            self._kinds[kind] = (last, left_out + 1)
            return False
        self._kinds[kind] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like this in the meantime)", None
        return True


def limit_logs() -> None:
    """Limit the logs of the server and of the libraries that it uses."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(installed, OncePerMinute) for installed in logger.filters):
            logger.addFilter(OncePerMinute())
