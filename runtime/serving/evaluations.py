"""What is being evaluated, for whom: dropped when nobody waits for it, and found again by a client that sends its request again."""

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

Key = tuple[str, str]  # region, and the client's tag


@dataclass(frozen=True)
class Work:
    """What is to be done for a request, in a thread of its own; `cancel` gives it up, and `ended` is told when it is over."""

    run: Callable[[], Buffer]
    cancel: Callable[[], None]
    ended: Callable[[], None]


@dataclass(eq=False)
class Evaluation:
    """One request's work, and how many connections wait for its answer."""

    key: Key | None
    owner: str
    region: str
    work: Work
    task: asyncio.Task[Buffer] = field(init=False)
    waiting: int = 0
    running: bool = False
    cancelling: asyncio.Future[None] | None = None


class Evaluations:
    """As many at a time as a `FairQueue` gives turns, in its order. Answers of tagged requests are kept for a while."""

    def __init__(self, limits: Limits, queue: FairQueue, measured: Callable[[float], None], dropped: Callable[[], None]) -> None:
        self._limits, self._queue, self._measured, self._dropped = limits, queue, measured, dropped
        self._threads: list[Worker[Buffer]] = []  # those that have nothing to do; the one that was used last is the next
        self._under_way: dict[Key, Evaluation] = {}
        self._kept: OrderedDict[Key, tuple[Buffer, float]] = OrderedDict()
        self._kept_bytes = 0
        self._running: set[Evaluation] = set()
        self._background: set[asyncio.Task[None]] = set()

    def kept(self, key: Key) -> Buffer | None:
        """The answer to a request that was evaluated before."""
        self._forget()
        found = self._kept.get(key)
        return None if found is None else found[0]

    def under_way(self, key: Key) -> Evaluation | None:
        """The evaluation of a request that waits or runs."""
        return self._under_way.get(key)

    def start(self, key: Key | None, owner: str, region: str, work: Work) -> Evaluation:
        """Queue a request's work. `key`: None for requests that cannot be found again."""
        evaluation = Evaluation(key, owner, region, work)
        evaluation.task = asyncio.get_running_loop().create_task(self._run(evaluation))
        evaluation.task.add_done_callback(lambda _: self._ended(evaluation))
        if key is not None:
            self._under_way[key] = evaluation
        return evaluation

    async def answer(self, evaluation: Evaluation, incoming: Incoming, limit: int) -> Buffer:
        """The answer, for one of the connections that wait for it.

        Args:
            limit: bytes of a body that may still be on its way; it is read and not kept.

        Raises:
            RefusalError: as `Incoming.read` does, and 503 when the server is stopped.
            GoneError: if that connection is closed before. When it was the last one, work that waits is dropped at once, and work
                that runs is given up unless somebody asks for it within `abandoned_s`.
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
        """Within the block somebody waits for it, so that it is not given up."""
        evaluation.waiting += 1
        try:
            yield
        finally:
            evaluation.waiting -= 1
            if not evaluation.waiting and not evaluation.task.done():
                self._abandon(evaluation)

    async def _run(self, evaluation: Evaluation) -> Buffer:
        turn = await self._queue.turn(evaluation.owner, evaluation.region)
        thread = self._threads.pop() if self._threads else Worker[Buffer]("hecompile-evaluation")
        self._running.add(evaluation)
        evaluation.running, complete = True, False
        try:
            reply = await thread.run(evaluation.work.run)
            complete = True
        finally:
            self._running.discard(evaluation)
            self._threads.append(thread)
            if evaluation.cancelling is not None:  # later on it would give up the next one
                await asyncio.wait({evaluation.cancelling})
            self._queue.leave(turn, measured=complete)
        self._measured(time.monotonic() - turn.began)
        if evaluation.key is not None:
            self.keep(evaluation.key, reply)
        return reply

    def _ended(self, evaluation: Evaluation) -> None:
        evaluation.work.ended()
        self._lose(evaluation)
        if not evaluation.task.cancelled():
            evaluation.task.exception()  # nobody may be left to be told

    def _lose(self, evaluation: Evaluation) -> None:
        if evaluation.key is not None and self._under_way.get(evaluation.key) is evaluation:
            del self._under_way[evaluation.key]

    def _abandon(self, evaluation: Evaluation) -> None:
        if evaluation.running:
            self._spawn(self._give_up(evaluation, self._limits.abandoned_s))
        else:
            self._lose(evaluation)
            self._dropped()
            evaluation.task.cancel()

    async def _give_up(self, evaluation: Evaluation, after_s: float) -> None:
        await asyncio.wait({evaluation.task}, timeout=after_s)
        if not evaluation.task.done() and not evaluation.waiting:
            evaluation.cancelling = asyncio.ensure_future(asyncio.to_thread(evaluation.work.cancel))
            await evaluation.cancelling

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def close(self) -> None:
        """Give up what is still evaluated: the server ends. Those who wait for it are told to come again."""
        for evaluation in list(self._running):
            evaluation.task.cancel()
            evaluation.work.cancel()

    def keep(self, key: Key, reply: Buffer) -> None:
        """Have the answer to a request at hand for a while, also after its client got it: the way back may have failed."""
        replaced, _ = self._kept.pop(key, (b"", 0.0))
        self._kept_bytes -= len(replaced)
        self._kept[key] = (reply, time.monotonic())
        self._kept_bytes += len(reply)
        self._forget()

    def _forget(self) -> None:
        oldest = time.monotonic() - self._limits.kept_s
        while self._kept:
            reply, kept = next(iter(self._kept.values()))
            if kept >= oldest and self._kept_bytes <= self._limits.kept_bytes:
                return
            self._kept.popitem(last=False)
            self._kept_bytes -= len(reply)
