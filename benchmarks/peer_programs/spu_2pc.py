"""A convolution by two parties of SPU, in two threads: `python spu_2pc.py SEMI2K` or `CHEETAH`.

The client shares the picture and gets the shares of the result; the weights are the server's and are shared before. SPU 0.9.5
crashes with rings of 32 bits.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import spu
from spu import libspu
from spu.utils import frontend
from task import measure, read, write

CLIENT, SERVER = 0, 1
REMARKS = {
    "SEMI2K": "triples come from a trusted first party",
    "CHEETAH": "packing of replies off: it takes more CPU time than it saves",
}

task, protocol = read(), sys.argv[1]
values, weights = task.values[None].astype(np.int32), task.weights.astype(np.int32)


def config() -> libspu.RuntimeConfig:
    made = libspu.RuntimeConfig(protocol=getattr(libspu.ProtocolKind, protocol), field=libspu.FieldType.FM64)
    made.max_concurrency = 1
    made.experimental_enable_colocated_optimization = True
    made.cheetah_2pc_config.disable_matmul_pack = True
    made.enable_pphlo_profile = True  # tells the bytes
    return made


def conv(picture: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(picture, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NCHW", "OIHW", "NCHW"))


def both(job: Callable[[int], Any]) -> list[Any]:
    """What both parties return, each in a thread. If one fails, the other is not waited for."""
    results: list[Any] = [None, None]
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = job(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in (CLIENT, SERVER)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not errors:
        threads[CLIENT].join(0.01) if threads[CLIENT].is_alive() else threads[SERVER].join(0.01)
    if errors:
        raise errors[0]
    return results


secret = libspu.Visibility.VIS_SECRET
executable, _ = frontend.compile(frontend.Kind.JAX, conv, (values, weights), {}, ["x", "w"], [secret] * 2, lambda _: ["y"])


class Parties:
    """Two parties connected through memory, with the weights shared."""

    def __init__(self) -> None:
        self.config, link = config(), libspu.link.Desc()  # SPU reads the configuration as long as it runs
        link.recv_timeout_ms = 600_000
        self.io = spu.Io(2, self.config)
        for rank in (CLIENT, SERVER):
            link.add_party(f"party {rank}", f"thread {rank}")
        self.links = both(lambda rank: libspu.link.create_mem(link, rank))
        self.runtimes = both(lambda rank: spu.Runtime(self.links[rank], self.config))
        self.weights = self.io.make_shares(weights, secret, SERVER)

    def share(self) -> list[Any]:
        return self.io.make_shares(values, secret, CLIENT)

    def evaluate(self, shares: list[Any]) -> list[Any]:
        def run(rank: int) -> Any:
            runtime = self.runtimes[rank]
            runtime.set_var("x", shares[rank])
            runtime.set_var("w", self.weights[rank])
            runtime.run(executable)
            return runtime.get_var("y")

        return both(run)

    def reconstruct(self, shares: list[Any]) -> npt.NDArray[Any]:
        return self.io.reconstruct(shares)[0].astype(np.int64)


@contextmanager
def streams() -> Iterator[Any]:
    """A file to which the standard streams go in the meantime: SPU writes its profile there."""
    kept = [os.dup(stream) for stream in (1, 2)]
    with tempfile.TemporaryFile() as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            yield file
        finally:
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)


try:
    parties = Parties()
    with streams() as file:
        row = measure(task, parties.share, parties.evaluate, parties.reconstruct)
        file.seek(0)
        profile = file.read().decode(errors="replace")
except Exception:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # the other party may wait for ever
links = re.findall(r"Link details: total send bytes (\d+), recv bytes (\d+), send actions (\d+), recv actions (\d+)", profile)
one, other, *messages = map(int, links[-1])  # of the last run and one party: which one, is not told
write(
    row
    | {"client_s": None, "server_s": None, "up_bytes": min(one, other), "down_bytes": max(one, other)}
    | {
        "key_bytes": 0,
        "security_bits": 128,
        "security_source": "SPU's choice of parameters, by its documentation",
        "settings": f"{protocol}, ring of 64 bits, {sum(messages)} messages",
        "rounds": 1,
        "remark": REMARKS[protocol] + "; both parties in one process, so sides are not told apart",
    }
)
