"""Workers on Ray Serve: several replicas of each shard, started and ended by the length of their queue, and replaced when they end.

The front's own process takes requests and keeps all that is known of clients: tokens, the queue, room, tags and answers. Ray gets
payloads that have passed the wire check, as bytes, with the name of one of our regions and a batch. A payload whose worker ends is
evaluated by another one: evaluation keeps nothing, and gives the same bytes each time.

Ray is started by us on loopback, with a random token, no dashboard and no usage statistics; or it is a cluster that somebody runs.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hecompile.errors import CompileError, InternalError, ProtocolError, needing
from hecompile.runtime.service import Service
from hecompile.runtime.serving.listening import family, listening_elsewhere
from hecompile.runtime.serving.refusals import RefusalError
from hecompile.runtime.serving.remote import RemoteRegion
from hecompile.runtime.serving.replica import Described, Refused, Replica, judge_stateless

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cluster", "ClusterOptions"]

LOG = logging.getLogger(__name__)
MOST_TRIES = 5  # of a payload whose workers end one after the other: it may be why they do
_PAUSE_S = 0.2  # before the next try
_ANSWER_S = 3600.0  # after which a worker that says nothing is given up
_STORED_BYTES = 1 << 16  # from which on a payload is put into the object store, once for all shards
_MOST_WORKERS = 10_000
_ALWAYS = {  # read by Ray when it is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a thread of its own that asks after the end starts another Ray, by its own defaults
}
_OURS = {  # the same, of a cluster that we start
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # it means loopback alone, on every system; else Linux listens on all interfaces
    "RAY_AUTH_MODE": "token",
}


@dataclass(frozen=True)
class ClusterOptions:
    """How many workers of which size there are.

    Raises:
        CompileError: for numbers that make no workers.
    """

    replicas: int = 0  # most of each shard; 0 for as many as this machine's processors allow
    idle_replicas: int = 1  # least, also while nobody asks
    threads: int = 1  # of a replica
    shards: int = 1  # of each region
    address: str | None = None  # of a cluster that is there; None starts one on this machine, for this process alone

    def __post_init__(self) -> None:
        self._judge("threads", "shards")
        if not self.replicas:
            fitting = len(os.sched_getaffinity(0)) // (self.threads * self.shards)
            object.__setattr__(self, "replicas", max(fitting, self.idle_replicas, 1))
        self._judge("replicas")
        if not 1 <= self.idle_replicas <= self.replicas:
            raise CompileError(f"--idle-replicas {self.idle_replicas}: between 1 and {self.replicas}, the most, are expected")

    def _judge(self, *names: str) -> None:
        for name in names:
            if not 1 <= getattr(self, name) <= _MOST_WORKERS:
                raise CompileError(f"--{name} {getattr(self, name)}: between 1 and {_MOST_WORKERS} are expected")

    def document(self) -> dict[str, Any]:
        """By name, as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        where = "Ray on this machine" if self.address is None else f"the Ray cluster at {self.address}"
        sharing = f", each evaluation by {self.shards} of them" if self.shards > 1 else ""
        least, most = self.idle_replicas * self.shards, self.replicas * self.shards
        return f"workers: {least} to {most} with {self.threads} threads each, on {where}{sharing}"


class Cluster:
    """The workers of one artifact, from `open` to `close`."""

    def __init__(self, folder: Path, options: ClusterOptions, retried: Callable[[], None] = lambda: None) -> None:
        """`retried` is called when a payload is evaluated once more.

        Raises:
            CompileError: if the artifact's backends keep anything of clients.
            MissingExtraError: if Ray is not installed.
            ProtocolError: if the artifact is not one.
        """
        self._folder, self.options, self.retried = folder.resolve(), options, retried
        self._name, self._digest, self._encrypted = judge_stateless(folder)
        self._handles: list[Any] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._ray, self._serve = _imported(options.address is None)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    @property
    def places(self) -> int:
        """Evaluations at a time: as many as there may be replicas. What waits for one makes Serve start it."""
        return self.options.replicas

    def open(self) -> Service:
        """Start Ray and the workers; the artifact's service, evaluated by them.

        Raises:
            ProtocolError: if a worker cannot load the artifact.
            CompileError: if there is no cluster at the address.
        """
        options = self.options
        with _handlers_kept():
            if options.address is None:
                memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
                self._ray.init(
                    _node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
                    num_cpus=2 * options.shards * options.replicas * options.threads,  # a restart has old and new ones at once
                    num_gpus=0, _temp_dir=self._private_folder(), object_store_memory=min(2 << 30, max(128 << 20, memory // 8)),
                )  # fmt: skip
            else:
                try:
                    self._ray.init(options.address, log_to_driver=False, logging_level=logging.ERROR)
                except (ConnectionError, ValueError, RuntimeError) as error:
                    raise CompileError(f"there is no Ray cluster at {options.address}: {error}") from error
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            self._serve.start(proxy_location="Disabled")  # no HTTP but ours
            self.restart()
        if options.address is None and (found := listening_elsewhere(family(os.getpid()))):
            raise InternalError(f"Ray listens for other machines, on {', '.join(found)}: this version is not one to be used")
        described = self._described()
        return Service(
            self._name, self._digest, self._encrypted,
            {name: RemoteRegion(name, region, self) for name, region in described.regions.items()},
        )  # fmt: skip

    def restart(self) -> None:
        """Start new workers beside those that there are, which end when they have answered; returns when the new ones work."""
        targets = [
            self._serve.RunTarget(self._deployment(index), name=f"hecompile-{self._digest[:12]}-{index}", route_prefix=None)
            for index in range(self.options.shards)
        ]
        self._handles = self._serve.run_many(targets)

    def _deployment(self, index: int) -> Any:
        options, threads = self.options, str(self.options.threads)
        environment = dict.fromkeys(("HECOMPILE_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        deployment = self._serve.deployment(
            _worker(options.address is None),
            name="Replica",
            ray_actor_options={"num_cpus": options.threads, "runtime_env": {"env_vars": environment}},
            max_ongoing_requests=1,
            max_surge_percent=100,
            health_check_period_s=2.0,
            health_check_timeout_s=30.0,
            graceful_shutdown_timeout_s=60.0,
            autoscaling_config={
                "min_replicas": options.idle_replicas, "max_replicas": options.replicas, "target_ongoing_requests": 1.0,
                "upscale_delay_s": 1.0, "downscale_delay_s": 60.0, "metrics_interval_s": 0.5, "look_back_period_s": 2.0,
            },
            logging_config={"enable_access_log": False, "log_level": "WARNING"},
        )  # fmt: skip
        return deployment.bind(str(self._folder), index, options.shards)

    def _described(self) -> Described:
        found = [handle.describe.remote().result(timeout_s=_ANSWER_S) for handle in self._handles]
        for each in found:
            if isinstance(each, Refused):
                raise ProtocolError(f"a worker of Ray cannot load {self._folder}: {each.reason}")
            if each.digest != self._digest:
                raise ProtocolError(f"a worker of Ray finds another artifact in {self._folder}: {each.digest[:12]}")
        first: Described = found[0]
        return first

    def evaluate(self, shards: Sequence[int], region: str, payload: bytes, batch: int) -> dict[int, bytes | Refused]:
        """One reply of each shard, whatever happens to single workers.

        Raises:
            RefusalError: 503 if the workers ended `MOST_TRIES` times, or there are none.
        """
        given = payload if len(payload) < _STORED_BYTES else self._ray.put(payload)

        def send(shard: int) -> Any:
            return self._handles[shard].evaluate.remote(region, given, batch)

        waiting = {shard: send(shard) for shard in shards}
        return {shard: self._answered(response, partial(send, shard)) for shard, response in waiting.items()}

    def _answered(self, response: Any, again: Callable[[], Any]) -> bytes | Refused:
        for left in reversed(range(MOST_TRIES)):
            try:
                reply: bytes | Refused = response.result(timeout_s=_ANSWER_S)
            except self._ray.exceptions.RayTaskError as error:
                raise InternalError(f"a worker failed: {error}") from error
            except (self._ray.exceptions.RayError, self._serve.exceptions.RayServeException, TimeoutError) as error:
                LOG.warning("a worker ended while it evaluated: %s", type(error).__name__)
                if left:
                    self.retried()
                    time.sleep(_PAUSE_S)
                    response = again()
            else:
                return reply
        raise RefusalError("the workers that evaluate this request end", 503, "workers", 5.0)

    def _private_folder(self) -> str:
        """For Ray's sockets, logs and what its store has no room for: for this user alone, and gone at the end.

        Ray opens its own folder to everybody, so that lies in another one.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="hecompile-ray-", ignore_cleanup_errors=True)
        return str(Path(self._temporary.name) / "ray")

    def close(self) -> None:
        """End the workers, and Ray where we started it."""
        if not self._ray.is_initialized():
            return
        for name in ("ray", "ray.serve"):  # its threads go on asking for a moment, and tell that nobody answers
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        if self.options.address is not None:
            for index in range(self.options.shards):
                self._serve.delete(f"hecompile-{self._digest[:12]}-{index}", _blocking=False)
        with _handlers_kept():
            self._ray.shutdown()
        if self._temporary is not None:
            self._temporary.cleanup()


def _imported(own: bool) -> tuple[Any, Any]:
    """Ray and Ray Serve, told before they are loaded what a cluster of our own is like. Raises `MissingExtraError` without them."""
    os.environ.update(_ALWAYS)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if own:
        os.environ.update(_OURS | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    with needing("--ray", "ray"):
        import ray
        import ray.serve.exceptions
    return ray, ray.serve


def _worker(on_loopback: bool) -> type[Replica]:
    return LoopbackReplica if on_loopback else Replica


class LoopbackReplica(Replica):
    """A replica of Ray Serve that only this machine can reach.

    Serve lets every replica listen on all interfaces for other deployments, after its user's class was made, and has no setting
    for it. Nothing of ours is reached that way.
    """

    def __init__(self, folder: str, index: int, count: int) -> None:
        from ray.serve._private import replica

        listen = replica.add_port_to_grpc_server
        replica.add_port_to_grpc_server = lambda server, address: listen(server, "127.0.0.1:0")
        super().__init__(folder, index, count)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Within it Ray sets handlers of signals; afterwards they are those from before."""
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {
        each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
