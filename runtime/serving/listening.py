"""Finds the addresses on which a process and its children listen, from /proc, in order to check that only this machine reaches
them."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["listening_elsewhere", "process_tree"]

_PROC = Path("/proc")
_LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def process_tree(pid: int) -> Iterator[int]:
    """Yield the id of a process and of all its descendants."""
    yield pid
    for path in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in children:
            yield from process_tree(int(child))


def listening_elsewhere(pids: Iterator[int]) -> list[str]:
    """Return the addresses and ports, other than loopback, on which these processes accept TCP connections."""
    own = {inode for pid in pids for inode in _sockets(pid)}
    outside = [(address, port) for address, port, inode in _listening() if inode in own and not _is_loopback(address)]
    return sorted(f"{address} port {port}" for address, port in outside)


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _sockets(pid: int) -> Iterator[str]:
    """Yield the inodes of a process's sockets; nothing for a process that has ended."""
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
    """Yield address, port and inode of every listening TCP socket of this machine."""
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
    """Parse an address of /proc/net/tcp: words of four bytes in hexadecimal, each in this machine's byte order."""
    words = bytes.fromhex(text)
    octets = b"".join(
        int.from_bytes(words[start : start + 4], "big").to_bytes(4, sys.byteorder) for start in range(0, len(words), 4)
    )
    return ipaddress.IPv4Address(octets) if len(octets) == 4 else ipaddress.IPv6Address(octets)
