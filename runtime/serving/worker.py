"""A thread for work that the server's event loop must not wait for."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

__all__ = ["Worker"]

Result = TypeVar("Result")


class Worker(Generic[Result]):
    """Runs one job after the other in one thread. Unlike the threads of `ThreadPoolExecutor` it does not delay the end of the
    process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, job: Callable[[], Result]) -> Result:
        """Return what the job returns, or raise what it raises. If the caller is cancelled, a job that has not begun is skipped."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def work() -> None:
            if done.cancelled():
                return
            tell: Callable[[], None]
            try:
                result = job()
            except BaseException as error:
                tell = partial(done.set_exception, error)
            else:
                tell = partial(done.set_result, result)
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                loop.call_soon_threadsafe(lambda: None if done.cancelled() else tell())

        self._jobs.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return await done

    def _work(self) -> None:
        while True:
            self._jobs.get()()
