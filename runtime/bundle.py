"""The client's half of an artifact, loaded and judged by the client's own policy and parameter table.

The client does not trust the artifact: whoever compiled it may be the server.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.artifact import Manifest, checked, read_half, read_manifest
from hecompile.backends.base import RegionClient
from hecompile.backends.registry import backend, backend_of
from hecompile.errors import CompileError, ProtocolError
from hecompile.policies import WATERMARK, policy
from hecompile.runtime.results import judge_results

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Bundle", "load_bundle"]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """Everything the client runs: ONNX sessions of its own regions, clients of the others."""

    manifest: Manifest
    sessions: Mapping[str, onnxruntime.InferenceSession]
    calls: Mapping[str, RegionClient]
    folder: Path


def load_bundle(folder: Path, policy_name: str = "strict", security_bits: int = 128, threads: int | None = None) -> Bundle:
    """Load and check the client's half.

    Args:
        policy_name: what the client insists on, whatever the artifact says.
        security_bits: the least it accepts, by its own table.

    Raises:
        ProtocolError: if a file is missing or changed, or the artifact is weaker than what the client insists on.
    """
    manifest = read_manifest(folder)
    _judge_policy(manifest, policy_name)
    if manifest.encrypted and manifest.security_bits < security_bits:
        raise ProtocolError(f"{folder}: {manifest.security_bits} bits of security, this client insists on {security_bits}")
    try:
        if backend(manifest.backend).encrypts != manifest.encrypted:
            raise ProtocolError(f"{folder}: the manifest is wrong about whether backend '{manifest.backend}' encrypts")
    except CompileError as error:
        raise ProtocolError(f"{folder}: {error}") from error
    judge_results(manifest.signature.results, len(manifest.plan.outputs))
    reveals = dict[str, None]()
    calls, sessions = dict[str, RegionClient](), dict[str, "onnxruntime.InferenceSession"]()
    for step in manifest.plan.steps:
        prefix = f"client/{step.region}"
        if step.kind == "client":
            sessions[step.region] = _session(checked(folder, manifest.files, f"{prefix}.onnx"), step.region, threads)
            _judge_names(step.region, step.inputs, [value.name for value in sessions[step.region].get_inputs()])
            _judge_names(step.region, step.outputs, [value.name for value in sessions[step.region].get_outputs()])
            continue
        half = read_half(folder, manifest.files, prefix)
        chosen = backend_of(half)
        if manifest.encrypted and not chosen.encrypts:
            raise ProtocolError(f"{folder}: region '{step.region}' runs under '{chosen.name}', which does not encrypt")
        reveals.update(dict.fromkeys(chosen.reveals(half)))
        if policy(policy_name).needs_encryption and (reasons := chosen.check_security(half, security_bits)):
            raise ProtocolError(f"{folder}: {reasons[0]}")
        calls[step.region] = chosen.load_client(half)
        _judge_names(step.region, step.inputs, calls[step.region].inputs)
        _judge_names(step.region, step.outputs, calls[step.region].outputs)
    _judge_reveals(manifest, tuple(reveals), policy_name)
    return Bundle(manifest, sessions, calls, folder)


def _judge_policy(manifest: Manifest, policy_name: str) -> None:
    """The artifact must keep the promise that the client insists on."""
    own = policy(policy_name)
    if own.needs_encryption and not manifest.encrypted:
        raise ProtocolError(
            f"'{manifest.name}' is a simulation, nothing in it is encrypted: this client insists on policy '{policy_name}' "
            "(policy='simulation' accepts it)"
        )
    if own.needs_encryption and manifest.policy != policy_name:
        raise ProtocolError(
            f"'{manifest.name}' was compiled under policy '{manifest.policy}', this client insists on '{policy_name}'"
        )


def _judge_reveals(manifest: Manifest, found: tuple[str, ...], policy_name: str) -> None:
    """What requests would show must be what the manifest declares, and nothing unless the policy shows something."""
    told = dict.fromkeys((*manifest.reveals, *found))
    if told and not policy(policy_name).may_reveal:
        raise ProtocolError(f"'{manifest.name}' reveals {', '.join(told)}: not under policy '{policy_name}'")
    if set(found) != set(manifest.reveals):
        said = ", ".join(manifest.reveals) or "nothing"
        raise ProtocolError(f"'{manifest.name}' reveals {', '.join(found) or 'nothing'}, its manifest says {said}")
    if found:
        LOG.warning("%s: '%s' shows parts of %d values to the server (see its manifest)", WATERMARK, manifest.name, len(found))


def _judge_names(region: str, plan: tuple[str, ...], found: tuple[str, ...] | list[str]) -> None:
    if tuple(found) != plan:
        raise ProtocolError(f"region '{region}': the plan says {plan}, its file {tuple(found)}")


def _session(data: bytes, region: str, threads: int | None) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave the core to others
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ProtocolError(f"region '{region}': not a runnable ONNX file") from error
