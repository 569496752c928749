"""Honest clients: one thread and one loaded model each, in several processes, which take one sampler step (a run) after another.

`python -m benchmarks.serving.honest FOLDER CASES`. Each load begins with the line `{"url", "processes", "concurrent"}` on stdin,
answered by `{}` when that many models are loaded; then `{"start", "counted", "end"}` in seconds of `time.monotonic` are answered by
what was seen. Processes are forked for each load: what they import takes 8 s of CPU.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import diffusers.models.unets.unet_2d  # noqa: F401  # `load` would import it in every process
import numpy as np
import torch

import hecompile


@dataclass(frozen=True)
class Cases:
    """Inputs of the model and what `clear` answers to each: samples and answers (N, 1, C, H, W), timesteps and labels (N,)."""

    samples: torch.Tensor
    timesteps: list[int]
    labels: torch.Tensor  # (N, 1)
    answers: list[bytes]

    @classmethod
    def read(cls, path: Path) -> Cases:
        with np.load(path) as arrays:
            samples, labels = torch.from_numpy(arrays["samples"]), torch.from_numpy(arrays["labels"])[:, None]
            return cls(samples, arrays["timesteps"].tolist(), labels, [answer.tobytes() for answer in arrays["answers"]])


@dataclass
class Seen:
    """What the clients of one process counted in one load: runs, answers, and the seconds of each request."""

    runs: int = 0
    wrong: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # texts of errors
    requests_ms: list[float] = field(default_factory=list)  # of those that were answered while they count

    def __iadd__(self, other: Seen) -> Seen:
        self.runs, self.wrong = self.runs + other.runs, self.wrong + other.wrong
        self.lost.update(other.lost)
        self.requests_ms += other.requests_ms
        return self


class Client:
    """A loaded model, whose requests are timed."""

    def __init__(self, folder: Path, url: str, cases: Cases) -> None:
        self._unet, self._cases = hecompile.load(folder, url, threads=1), cases
        self._unet.meter.observers.append(self._note)
        self._waited_s, self._requests = 0.0, list[tuple[float, float]]()  # of each: when it was answered, and how long it took

    def _note(self, region: str) -> None:
        waited_s, self._waited_s = self._waited_s, self._unet.meter.wait_s
        self._requests.append((time.monotonic(), self._waited_s - waited_s))

    def work(self, first: int, start: float, counted: float, end: float, seen: Seen) -> None:
        """Begin runs from `start` to `end`, from the case `first` on, and end those that were begun."""
        place = first
        time.sleep(max(start - time.monotonic(), 0))
        while time.monotonic() < end:
            case = place % len(self._cases.answers)
            place += 1
            try:
                answer = self._unet(self._cases.samples[case], self._cases.timesteps[case], class_labels=self._cases.labels[case])
            except Exception as error:
                seen.lost[f"{type(error).__name__}: {error}"] += 1
                continue
            seen.runs += 1
            seen.wrong += answer.sample.numpy().tobytes() != self._cases.answers[case]
        seen.requests_ms += [seconds * 1000 for when, seconds in self._requests if counted <= when < end]
        self._unet.close()


def take_part(clients: list[Client], first: int, start: float, counted: float, end: float) -> Seen:
    """Let all clients work at once; what they saw together."""
    parts = [Seen() for _ in clients]
    threads = [
        threading.Thread(target=client.work, args=(first + place, start, counted, end, part))
        for place, (client, part) in enumerate(zip(clients, parts, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Seen()
    for part in parts:
        total += part
    return total


def work(pipe: Connection, folder: Path, url: str, cases: Cases, threads: int, first: int) -> None:
    """A process of clients: tells when its models are loaded, is told the moments, and tells what it saw."""
    torch.set_num_threads(1)
    clients = [Client(folder, url, cases) for _ in range(threads)]
    pipe.send(None)
    pipe.send(take_part(clients, first, *pipe.recv()))


def fork(folder: Path, url: str, cases: Cases, processes: int, concurrent: int) -> list[Connection]:
    """Processes with as many clients in all; a connection to each."""
    pipes, context = list[Connection](), multiprocessing.get_context("fork")
    for place in range(processes):
        ours, theirs = context.Pipe()
        threads = (concurrent + place) // processes
        context.Process(target=work, args=(theirs, folder, url, cases, threads, place), daemon=True).start()
        theirs.close()
        pipes.append(ours)
    return pipes


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    folder, cases = Path(sys.argv[1]), Path(sys.argv[2])
    for line in sys.stdin:
        pipes = fork(folder, cases=Cases.read(cases), **json.loads(line))
        for pipe in pipes:
            pipe.recv()
        say({})
        moments = json.loads(sys.stdin.readline())
        for pipe in pipes:
            pipe.send((moments["start"], moments["counted"], moments["end"]))
        total = Seen()
        for pipe in pipes:
            total += pipe.recv()
            pipe.close()
        say(asdict(total))


if __name__ == "__main__":
    main()
