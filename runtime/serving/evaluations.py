"""Evaluations under way: stopped when no client waits any more, and found again when a client repeats its request."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hecompile.buffers import Buffer
from hecompile.runtime.serving.incoming import Incoming
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.queue import FairQueue
from hecompile.runtime.serving.refusals import GoneError, RefusalError
from hecompile.runtime.serving.worker import Worker

__all__ = ["Evaluation", "Evaluations", "Work"]

Key = tuple[str, str]  # the region, and the client's tag for the request


@dataclass(frozen=True)
class Work:
    """The work of a request: `run` computes the reply in a thread, `cancel` stops that, and `ended` is called when it is over."""

    run: Callable[[], Buffer]
    cancel: Callable[[], None]
    ended: Callable[[], None]


@dataclass(eq=False)
class Evaluation:
    """The work of one request, and how many connections wait for its reply."""

    key: Key | None
    client_id: str
    region: str
    work: Work
    task: asyncio.Task[Buffer] = field(init=False)
    waiting: int = 0
    running: bool = False
    cancelling: asyncio.Future[None] | None = None


class Evaluations:
    """Runs the work of requests in the order of a `FairQueue`, as many at a time as it allows. Replies of tagged requests are kept
    for a while."""

    def __init__(self, limits: Limits, queue: FairQueue, measured: Callable[[float], None], dropped: Callable[[], None]) -> None:
        self._limits, self._queue, self._measured, self._dropped = limits, queue, measured, dropped
        self._threads: list[Worker[Buffer]] = []  # idle threads; the one that was used last is used next
        self._under_way: dict[Key, Evaluation] = {}
        self._kept: OrderedDict[Key, tuple[Buffer, float]] = OrderedDict()
        self._kept_bytes = 0
        self._running: set[Evaluation] = set()
        self._background: set[asyncio.Task[None]] = set()

    def kept(self, key: Key) -> Buffer | None:
        """Return the reply to a request that was evaluated before; None if there is none."""
        self._forget()
        kept = self._kept.get(key)
        return None if kept is None else kept[0]

    def under_way(self, key: Key) -> Evaluation | None:
        """Return the evaluation of a request that waits or runs; None if there is none."""
        return self._under_way.get(key)

    def start(self, key: Key | None, client_id: str, region: str, work: Work) -> Evaluation:
        """Queue the work of a request. `key` is None for requests without a tag, which cannot be recognised when they are
        repeated."""
        evaluation = Evaluation(key, client_id, region, work)
        evaluation.task = asyncio.get_running_loop().create_task(self._run(evaluation))
        evaluation.task.add_done_callback(lambda _: self._ended(evaluation))
        if key is not None:
            self._under_way[key] = evaluation
        return evaluation

    async def answer(self, evaluation: Evaluation, incoming: Incoming, limit: int) -> Buffer:
        """Return the reply, for one of the connections that wait for it.

        Args:
            limit: largest size in bytes of the body of a repeated request, which is read and thrown away.

        Raises:
            RefusalError: as `Incoming.read` does, and 503 when the server is stopped.
            GoneError: if this connection is closed first. If it was the last one, work that waits is dropped at once, and work that
                runs is stopped unless somebody asks for it within `abandoned_s`.
        """
        with self._awaited(evaluation):
            await incoming.read(limit, keep=False)
            gone = asyncio.ensure_future(incoming.gone())
            try:
                await asyncio.wait({evaluation.task, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
            if not evaluation.task.done():
                raise GoneError
            if evaluation.task.cancelled():
                raise RefusalError("this server is being stopped", 503, "stopping")
            return evaluation.task.result()

    @contextmanager
    def _awaited(self, evaluation: Evaluation) -> Iterator[None]:
        """Count one more connection that waits for an evaluation, within the block."""
        evaluation.waiting += 1
        try:
            yield
        finally:
            evaluation.waiting -= 1
            if not evaluation.waiting and not evaluation.task.done():
                self._abandon(evaluation)

    async def _run(self, evaluation: Evaluation) -> Buffer:
        """Wait for a turn, run the work in a thread, and keep the reply."""
        turn = await self._queue.turn(evaluation.client_id, evaluation.region)
        thread = self._threads.pop() if self._threads else Worker[Buffer]("hecompile-evaluation")
        self._running.add(evaluation)
        evaluation.running, complete = True, False
        try:
            reply = await thread.run(evaluation.work.run)
            complete = True
        finally:
            self._running.discard(evaluation)
            self._threads.append(thread)
            if evaluation.cancelling is not None:  # a later `cancel` would stop the next evaluation
                await asyncio.wait({evaluation.cancelling})
            self._queue.leave(turn, measured=complete)
        self._measured(time.monotonic() - turn.began)
        if evaluation.key is not None:
            self.keep(evaluation.key, reply)
        return reply

    def _ended(self, evaluation: Evaluation) -> None:
        """Release what a finished evaluation holds."""
        evaluation.work.ended()
        self._lose(evaluation)
        if not evaluation.task.cancelled():
            evaluation.task.exception()  # mark the error as seen, since nobody may be waiting

    def _lose(self, evaluation: Evaluation) -> None:
        """Remove an evaluation, so that a repeated request starts a new one."""
        if evaluation.key is not None and self._under_way.get(evaluation.key) is evaluation:
            del self._under_way[evaluation.key]

    def _abandon(self, evaluation: Evaluation) -> None:
        """Drop an evaluation that nobody waits for, or stop it after a while if it runs."""
        if evaluation.running:
            self._spawn(self._give_up(evaluation, self._limits.abandoned_s))
        else:
            self._lose(evaluation)
            self._dropped()
            evaluation.task.cancel()

    async def _give_up(self, evaluation: Evaluation, after_s: float) -> None:
        """Stop an evaluation after `after_s` seconds, unless it ends or somebody waits for it by then."""
        await asyncio.wait({evaluation.task}, timeout=after_s)
        if not evaluation.task.done() and not evaluation.waiting:
            evaluation.cancelling = asyncio.ensure_future(asyncio.to_thread(evaluation.work.cancel))
            await evaluation.cancelling

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def close(self) -> None:
        """Stop all evaluations, since the server ends. Clients that wait are told to try again."""
        for evaluation in list(self._running):
            evaluation.task.cancel()
            evaluation.work.cancel()

    def keep(self, key: Key, reply: Buffer) -> None:
        """Keep a reply for a while, even after it was sent: the connection may have failed on the way back."""
        replaced, _ = self._kept.pop(key, (b"", 0.0))
        self._kept_bytes -= len(replaced)
        self._kept[key] = (reply, time.monotonic())
        self._kept_bytes += len(reply)
        self._forget()

    def _forget(self) -> None:
        """Forget replies that are too old or take too much memory."""
        oldest = time.monotonic() - self._limits.kept_s
        while self._kept:
            reply, kept = next(iter(self._kept.values()))
            if kept >= oldest and self._kept_bytes <= self._limits.kept_bytes:
                return
            self._kept.popitem(last=False)
            self._kept_bytes -= len(reply)
