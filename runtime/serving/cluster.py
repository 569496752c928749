"""Workers on Ray Serve: several replicas of each shard, started and ended by the length of their queue, and replaced when they end.

The server process accepts requests and keeps everything that belongs to clients: tokens, the queue, memory for requests, tags and
replies. Ray receives the bytes of payloads that passed the checks of the request format, with the name of a region and a batch
size. A payload whose worker ends is evaluated by another one, since evaluation stores nothing and gives the same bytes each time.

Ray is started by the server on loopback, with a random token, no dashboard and no usage statistics; or the server uses a cluster
that is running already.
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
from hecompile.runtime.serving.listening import listening_elsewhere, process_tree
from hecompile.runtime.serving.refusals import RefusalError
from hecompile.runtime.serving.remote import RemoteRegion
from hecompile.runtime.serving.replica import Replica, WorkerDescription, WorkerRefusal, check_stateless

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cluster", "ClusterOptions"]

LOG = logging.getLogger(__name__)
MOST_TRIES = 5  # evaluations of a payload whose workers end one after the other: the payload may be the reason
_PAUSE_S = 0.2  # before the next attempt
_ANSWER_S = 3600.0  # after which a worker that does not reply is given up
_STORED_BYTES = 1 << 16  # a larger payload is put into Ray's object store, once for all shards
_MOST_WORKERS = 10_000
_ALWAYS = {  # environment variables that Ray reads when it is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # otherwise one of Ray's threads could start another Ray after the end, with Ray's own defaults
}
_OURS = {  # further ones for a cluster that the server starts
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # makes Ray listen on loopback only; otherwise it listens on all interfaces on Linux
    "RAY_AUTH_MODE": "token",
}


@dataclass(frozen=True)
class ClusterOptions:
    """How many workers there are, and of which size. Raises `CompileError` for numbers that make no workers.

    Raises:
        CompileError: for numbers that make no workers.
    """

    replicas: int = 0  # most workers of each shard; 0 for as many as this machine's processors allow
    idle_replicas: int = 1  # least workers of each shard, even without requests
    threads: int = 1  # per worker
    shards: int = 1  # parts into which the output channels of each region are divided
    address: str | None = None  # of a cluster that is running; None starts one on this machine, for this process only

    def __post_init__(self) -> None:
        self._check_counts("threads", "shards")
        if not self.replicas:
            fitting = len(os.sched_getaffinity(0)) // (self.threads * self.shards)
            object.__setattr__(self, "replicas", max(fitting, self.idle_replicas, 1))
        self._check_counts("replicas")
        if not 1 <= self.idle_replicas <= self.replicas:
            raise CompileError(
                f"--idle-replicas {self.idle_replicas}: it must be between 1 and {self.replicas}, which is --replicas"
            )

    def _check_counts(self, *names: str) -> None:
        for name in names:
            if not 1 <= getattr(self, name) <= _MOST_WORKERS:
                raise CompileError(f"--{name} {getattr(self, name)}: it must be between 1 and {_MOST_WORKERS}")

    def document(self) -> dict[str, Any]:
        """Return the options by name, to be printed as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        where = "Ray on this machine" if self.address is None else f"the Ray cluster at {self.address}"
        sharing = f", each evaluation by {self.shards} of them" if self.shards > 1 else ""
        least, most = self.idle_replicas * self.shards, self.replicas * self.shards
        return f"workers: {least} to {most} with {self.threads} threads each, on {where}{sharing}"


class Cluster:
    """The workers of one artifact, from `open` to `close`."""

    def __init__(self, folder: Path, options: ClusterOptions, retried: Callable[[], None] = lambda: None) -> None:
        """Import Ray and check that the artifact can be shared by workers.

        Args:
            retried: called when a payload is evaluated once more.

        Raises:
            CompileError: if the artifact's backends store anything for clients.
            MissingExtraError: if Ray is not installed.
            ProtocolError: if the folder is not an artifact.
        """
        self._folder, self.options, self.retried = folder.resolve(), options, retried
        self._name, self._digest, self._encrypted = check_stateless(folder)
        self._handles: list[Any] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._ray, self._serve = _imported(options.address is None)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    @property
    def places(self) -> int:
        """How many evaluations run at the same time: as many as there can be replicas. A request that waits makes Serve start
        another one."""
        return self.options.replicas

    def open(self) -> Service:
        """Start Ray and the workers, and return the artifact's service, whose regions they evaluate.

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
                    num_cpus=2 * options.shards * options.replicas * options.threads,  # twice, for restarts: old and new at once
                    num_gpus=0, _temp_dir=self._private_folder(), object_store_memory=min(2 << 30, max(128 << 20, memory // 8)),
                )  # fmt: skip
            else:
                try:
                    self._ray.init(options.address, log_to_driver=False, logging_level=logging.ERROR)
                except (ConnectionError, ValueError, RuntimeError) as error:
                    raise CompileError(f"there is no Ray cluster at {options.address}: {error}") from error
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            self._serve.start(proxy_location="Disabled")  # clients reach the server only, not Ray
            self.restart()
        if options.address is None and (addresses := listening_elsewhere(process_tree(os.getpid()))):
            raise InternalError(f"Ray listens to other machines, on {', '.join(addresses)}: this version of Ray cannot be used")
        described = self._described()
        return Service(
            self._name, self._digest, self._encrypted,
            {name: RemoteRegion(name, region, self) for name, region in described.regions.items()},
        )  # fmt: skip

    def restart(self) -> None:
        """Start new workers beside the old ones, which end after their last reply. Returns when the new ones work."""
        targets = [
            self._serve.RunTarget(self._deployment(index), name=f"hecompile-{self._digest[:12]}-{index}", route_prefix=None)
            for index in range(self.options.shards)
        ]
        self._handles = self._serve.run_many(targets)

    def _deployment(self, index: int) -> Any:
        """Return the deployment of Ray Serve for one shard."""
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

    def _described(self) -> WorkerDescription:
        """Return what the workers loaded. Raises `ProtocolError` if one could not load the artifact."""
        descriptions = [handle.describe.remote().result(timeout_s=_ANSWER_S) for handle in self._handles]
        for description in descriptions:
            if isinstance(description, WorkerRefusal):
                raise ProtocolError(f"a worker of Ray cannot load {self._folder}: {description.reason}")
            if description.digest != self._digest:
                raise ProtocolError(f"a worker of Ray finds another artifact in {self._folder}: {description.digest[:12]}")
        first: WorkerDescription = descriptions[0]
        return first

    def evaluate(self, shards: Sequence[int], region: str, payload: bytes, batch: int) -> dict[int, bytes | WorkerRefusal]:
        """Return the reply of each shard, even if single workers end meanwhile.

        Raises:
            RefusalError: 503 if the workers ended `MOST_TRIES` times, or there are no workers.
        """
        given = payload if len(payload) < _STORED_BYTES else self._ray.put(payload)

        def send(shard: int) -> Any:
            return self._handles[shard].evaluate.remote(region, given, batch)

        waiting = {shard: send(shard) for shard in shards}
        return {shard: self._answered(response, partial(send, shard)) for shard, response in waiting.items()}

    def _answered(self, response: Any, again: Callable[[], Any]) -> bytes | WorkerRefusal:
        """Wait for a worker's reply; if the worker ends, send the payload again."""
        for left in reversed(range(MOST_TRIES)):
            try:
                reply: bytes | WorkerRefusal = response.result(timeout_s=_ANSWER_S)
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
        raise RefusalError("the workers that evaluate this request ended", 503, "workers", 5.0)

    def _private_folder(self) -> str:
        """Make a temporary folder, readable by this user only, for Ray's sockets, logs and spilled objects.

        Ray makes its own folder readable for everybody, so that one is placed inside another.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="hecompile-ray-", ignore_cleanup_errors=True)
        return str(Path(self._temporary.name) / "ray")

    def close(self) -> None:
        """End the workers, and Ray if the server started it."""
        if not self._ray.is_initialized():
            return
        for name in ("ray", "ray.serve"):  # Ray's threads log for a moment that nobody answers
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        if self.options.address is not None:
            for index in range(self.options.shards):
                self._serve.delete(f"hecompile-{self._digest[:12]}-{index}", _blocking=False)
        with _handlers_kept():
            self._ray.shutdown()
        if self._temporary is not None:
            self._temporary.cleanup()


def _imported(own: bool) -> tuple[Any, Any]:
    """Import Ray and Ray Serve, after setting the environment variables that they read. Raises `MissingExtraError` without them."""
    os.environ.update(_ALWAYS)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if own:
        os.environ.update(_OURS | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    with needing("--ray", "ray"):
        import ray
        import ray.serve.exceptions
    return ray, ray.serve


def _worker(on_loopback: bool) -> type[Replica]:
    """Return the class of workers."""
    return LoopbackReplica if on_loopback else Replica


class LoopbackReplica(Replica):
    """A replica of Ray Serve that only this machine can reach.

    Serve makes every replica listen on all interfaces for other deployments, and has no setting for that. Nothing of hecompile is
    reached that way. The function that opens the port is replaced before Serve calls it.
    """

    def __init__(self, folder: str, index: int, count: int) -> None:
        from ray.serve._private import replica

        listen = replica.add_port_to_grpc_server
        replica.add_port_to_grpc_server = lambda server, address: listen(server, "127.0.0.1:0")
        super().__init__(folder, index, count)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Within the block Ray may replace signal handlers; afterwards the old ones are set again."""
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
