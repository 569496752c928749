"""The server of an artifact as a process of its own, started again where it has ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hecompile.errors import ProtocolError

__all__ = ["ServerProcess"]

COMMAND = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]
END_S = 10.0  # seconds that a server has to end before it is ended


class ServerProcess:
    """`hecompile serve` for one artifact, on a free port of loopback. Starts when its address is asked for; ends with `close`.

    What it says is written to a file beside the artifact, `strict.log` for `strict.he`.
    """

    def __init__(self, artifact: Path) -> None:
        self._artifact, self._log = artifact, artifact.with_suffix(".log")
        self._process: subprocess.Popen[str] | None = None
        self._url = ""

    @property
    def pid(self) -> int | None:
        """The process that runs; None if there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def url(self) -> str:
        """The server's address. The server is started first if it does not run.

        Raises:
            ProtocolError: if it does not start. Its log says why.
        """
        if self.pid is None:
            self.close()
            self._start()
        return self._url

    def _start(self) -> None:
        # a session of its own: Ctrl-C reaches this process alone, which ends the other in order
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, str(self._artifact), "--port", "0", "--json"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            self._url = str(json.loads(line)["url"])
        except (ValueError, KeyError, TypeError):
            self.close()
            raise ProtocolError(f"the server of {self._artifact} did not start: see {self._log}", status=503) from None

    def close(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
