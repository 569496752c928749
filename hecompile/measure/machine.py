"""Measures this machine for a profile: each backend, what a client computes itself, and the overhead of a server's process."""

from __future__ import annotations

from hecompile.backends.registry import backend, backend_names, is_own
from hecompile.machine import Machine, machine_with

__all__ = ["measure_machine"]


def measure_machine(bandwidth_mbps: float = 1000.0, rtt_ms: float = 0.0, runs: int = 7) -> Machine:
    """Measure this machine, which takes about thirty seconds. The network is not measured: it is given.

    Concrete is measured only where it is installed.
    """
    from hecompile.measure.local import measure_local
    from hecompile.measure.server import measure_server_process

    fields = measure_local(runs) | measure_server_process()
    for name in backend_names():
        prices = backend(name).measure(runs)
        fields |= prices if is_own(name) else {f"{name}.{price}": value for price, value in prices.items()}
    return machine_with(fields | {"bandwidth_mbps": bandwidth_mbps, "rtt_ms": rtt_ms})
