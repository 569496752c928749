"""Logs that a stranger cannot fill: the same kind of line is written once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Seldom", "quieten"]

PERIOD_S = 60.0
_LOGGERS = ("uvicorn.error", "uvicorn.asgi", "asyncio", "hecompile.runtime.serving.app")
_KINDS = 256  # that are told apart; beyond that all lines of a logger are one kind


class Seldom(logging.Filter):
    """Lets one record of a kind through in a minute, and says with the next one how many there were. Debug records always pass."""

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


def quieten() -> None:
    """Filter the server's own logs, and those of the libraries that it runs on."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(each, Seldom) for each in logger.filters):
            logger.addFilter(Seldom())
