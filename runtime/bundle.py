"""The client's half of an artifact, loaded and judged by the client's own terms: see `hecompile.runtime.judge`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hecompile.artifact import Manifest, read_manifest
from hecompile.artifact_files import checked, read_client_half
from hecompile.backends.region_client import RegionClient
from hecompile.ir.signature import Keyword
from hecompile.policies import WATERMARK
from hecompile.runtime.judge import Judge, Terms
from hecompile.runtime.judge_graph import judge_graph
from hecompile.runtime.local_region import LocalRegion

__all__ = ["Bundle", "load_bundle"]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """Everything the client runs: the ONNX files of its own regions, clients of the others.

    `clear`: the public inputs that requests tell the server. `places`: how many rows the tables have whose places an input holds.
    """

    manifest: Manifest
    sessions: Mapping[str, LocalRegion]
    calls: Mapping[str, RegionClient]
    folder: Path
    clear: tuple[Keyword, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)


def load_bundle(
    folder: Path,
    policy_name: str = "strict",
    security_bits: int = 128,
    threads: int | None = None,
    *,
    public: Sequence[str] = (),
    backends: Sequence[str] = (),
    sampler: bool = False,
) -> Bundle:
    """Load and judge the client's half.

    Args:
        policy_name: what the client insists on, whatever the artifact says.
        security_bits: the least it accepts, by its own table.
        public: names of inputs that the server may see, besides `timestep` and `time_ids`.
        backends: names of backends from elsewhere that the caller knows and lets compute.
        sampler: whether this is a sampler's step, for `EncryptedScheduler`.

    Raises:
        ProtocolError: if a file is missing, changed or malformed, or the artifact is weaker than what the client insists on.
    """
    manifest = read_manifest(folder)
    judge = Judge(folder, manifest, Terms(policy_name, security_bits, frozenset(public), frozenset(backends), sampler))
    calls, sessions = dict[str, RegionClient](), dict[str, LocalRegion]()
    places = dict[str, int]()
    for step in manifest.plan.steps:
        prefix = f"client/{step.region}"
        if step.kind == "client":
            graph = judge_graph(checked(folder, manifest.files, f"{prefix}.onnx"), step.region, manifest.max_batch)
            judge.graph(step, graph)
            places |= {name: min(rows, places.get(name, rows)) for name, rows in graph.places.items()}
            sessions[step.region] = LocalRegion(graph.data, step.region, threads)
            continue
        half = read_client_half(folder, manifest.files, prefix)
        calls[step.region] = judge.region(step, half).load_client(half)
        judge.client(step, calls[step.region])
    clear = judge.finish()
    if manifest.reveals:
        LOG.warning(
            "%s: '%s' shows parts of %d values to the server (see its manifest)", WATERMARK, manifest.name, len(manifest.reveals)
        )
    return Bundle(manifest, sessions, calls, folder, clear, places)
