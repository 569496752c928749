"""What a process and its children listen on, from /proc: that nothing but this machine can reach them is looked at, not assumed."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["family", "listening_elsewhere"]

_PROC = Path("/proc")
_LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for path in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in children:
            yield from family(int(child))


def listening_elsewhere(pids: Iterator[int]) -> list[str]:
    """Addresses, with ports, beyond this machine's own at which these processes take TCP connections."""
    own = {inode for pid in pids for inode in _sockets(pid)}
    found = [(address, port) for address, port, inode in _listening() if inode in own and not _is_loopback(address)]
    return sorted(f"{address} port {port}" for address, port in found)


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _sockets(pid: int) -> Iterator[str]:
    """The inodes of a process's sockets; none of one that has ended."""
    try:
        names = os.listdir(_PROC / str(pid) / "fd")
    except OSError:
        return
    for name in names:
        try:
            match = _SOCKET.fullmatch(os.readlink(_PROC / str(pid) / "fd" / name))
        except OSError:
            continue
        if match:
            yield match[1]


def _listening() -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int, str]]:
    """Address, port and inode of every listening socket here."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:  # a machine without IPv6
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                address, _, port = fields[1].partition(":")
                yield _address(address), int(port, 16), fields[9]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Hexadecimal words of four bytes, each in this machine's order."""
    words = bytes.fromhex(text)
    octets = b"".join(
        int.from_bytes(words[start : start + 4], "big").to_bytes(4, sys.byteorder) for start in range(0, len(words), 4)
    )
    return ipaddress.IPv4Address(octets) if len(octets) == 4 else ipaddress.IPv6Address(octets)
