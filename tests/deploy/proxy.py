"""nginx with the configuration of `deploy/nginx.conf`, in front of a `hecompile serve` that can be killed and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
CERTIFICATES = ROOT / "tests" / "runtime" / "certificates"
SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]
TOKEN = "a-token-for-tests-only"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def find_nginx() -> str | None:
    """nginx of the machine, or the one that `make nginx` unpacked."""
    places = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", str(ROOT / ".venv" / "nginx" / "usr" / "sbin")]
    return shutil.which("nginx", path=os.pathsep.join(places))


def free_port() -> int:
    """A port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Upstream:
    """`hecompile serve` of an artifact behind a proxy on loopback."""

    def __init__(self, artifact: Path, *options: str) -> None:
        self.port, self.options = free_port(), [str(artifact), "--trust-proxy", "127.0.0.1", *options]
        self._process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        command = [*SERVE, *self.options, "--port", str(self.port), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"].endswith(f":{self.port}")
        return process

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()

    def restart(self) -> None:
        """Start it again on the same port."""
        self._process = self._started()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


class Proxy:
    """nginx with what was shipped; only addresses and files are replaced."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        self.port, self.log = free_port(), folder / "error.log"
        config = folder / "nginx.conf"
        config.write_text(self._replaced(folder, upstream.port))
        nginx = find_nginx()
        assert nginx is not None
        command = [nginx, "-p", str(folder), "-c", str(config), "-g", "daemon off;", "-e", str(self.log)]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr.replace('the "user" directive', ""), checked.stderr
        self._process = subprocess.Popen(command)
        self._wait()

    def _replaced(self, folder: Path, upstream: int) -> str:
        """The shipped configuration, every replacement of which must find its place exactly once."""
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        for old, new in {
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "pid /run/nginx.pid": f"pid {folder}/nginx.pid",
            "/var/log/nginx/error.log": str(self.log),
            "/var/log/nginx/access.log": f"{folder}/access.log",
            "server 127.0.0.1:8100": f"server 127.0.0.1:{upstream}",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "listen [::]:443 ssl": f"listen 127.0.0.2:{self.port} ssl",
            "/etc/ssl/hecompile/server.pem": f"{CERTIFICATES}/server.pem",
            "/etc/ssl/hecompile/server.key": f"{CERTIFICATES}/server.key",
            "http {\n": "http {\n" + "".join(f"    {name}_temp_path {folder}/{name};\n" for name in TEMPORARY),
        }.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def connect(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """A connection with TLS from an address on loopback."""
        context = ssl.create_default_context(cafile=str(CERTIFICATES / "authority.pem"))
        plain = socket.create_connection(("127.0.0.1", self.port), 20, (source, 0))
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
