"""Checks a written artifact before compiling reports success: it is loaded as client and server do, and called if it is small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.registry import backend_names, backend_of
from hecompile.buffers import Buffer
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.regions import AnyCall, Program
from hecompile.ir.signature import nested, text_of
from hecompile.ir.verify import example_inputs
from hecompile.ir.verify_sampled import random_values, sampled_regions

if TYPE_CHECKING:
    from hecompile.runtime.bundle import Bundle

__all__ = ["check_artifact"]

CALLED_GMAC = 1.0  # 10^9 multiply-adds: models up to this size are called
# Client regions run in ONNX Runtime in an artifact and in torch in a program. Their last bits differ, so that some values are
# rounded in the other direction. A wrong name, order or shape changes the result much more.
MOST_CHANGE = 0.05  # largest difference relative to the root mean square of the result


def check_artifact(folder: Path, program: Program, policy: str) -> None:
    """Load both halves of an artifact and compare what they compute with the program.

    A small model is called once without encryption: the client's regions run as they were written, the server's regions as they are
    in the program. Of a large model some regions, drawn by a seed, are asked as a client asks a server.

    Raises:
        InternalError: if the artifact cannot be loaded, or computes something else than the program.
    """
    from hecompile.runtime.bundle import load_bundle
    from hecompile.runtime.results import check_structure
    from hecompile.runtime.service import check_service

    try:
        public = [text_of(spec.keyword) for spec in program.inputs if spec.public]  # as the user who compiles declared
        bundle = load_bundle(folder, policy, public=public, backends=backend_names())
        check_structure(bundle.manifest.signature.results, len(bundle.manifest.plan.outputs))
        check_service(folder)
    except ProtocolError as error:
        raise InternalError(f"what was compiled cannot be loaded: {error}") from error
    if program.gmac <= CALLED_GMAC:
        _call(bundle, program)
    else:
        _ask_some(folder, bundle, program)


def _call(bundle: Bundle, program: Program) -> None:
    """Call the loaded model by its own signature, and compare the result with the program's."""
    import torch

    from hecompile.runtime.client import EncryptedUNet
    from hecompile.runtime.simulation import NoServer

    inputs = example_inputs(program, min(2, bundle.manifest.max_batch))
    values = program.run(inputs)
    expected = [values[name] for name in program.plan.outputs]
    calls = {name: _InClear(bundle.calls[name], region) for name, region in program.calls.items()}
    manifest = replace(bundle.manifest, reveals=())  # nothing is sent, so any latents may be used
    unet = EncryptedUNet(replace(bundle, calls=calls, manifest=manifest), NoServer())
    leaves: dict[Any, Any] = {spec.keyword: torch.from_numpy(inputs[spec.name]) for spec in program.inputs}
    leaves |= {constant.keyword: constant.value for constant in program.signature.constants if not constant.optional}
    results = _leaves(unet(**nested(leaves)))
    wanted = [expected[place] for place in program.signature.results.places]
    if len(results) != len(wanted):
        raise InternalError(f"the loaded model returns {len(results)} tensors, the program {len(wanted)}")
    for place, (result, value) in enumerate(zip(results, wanted, strict=True)):
        _compare(np.asarray(result), value, f"result {place} of the loaded model")


def _ask_some(folder: Path, bundle: Bundle, program: Program) -> None:
    """Encrypt, evaluate and decrypt random values in a few regions that need no keys, and compare with the program's results."""
    from hecompile.artifact_files import read_server_half
    from hecompile.artifact_server import read_server

    manifest, _, root = read_server(folder)
    for region in sampled_regions(program, "rehearsal"):
        client, values = bundle.calls[region.name], random_values(program, region)
        if client.key_sizes():
            continue
        half = read_server_half(root, manifest.files, region.name)
        inputs = [values[name] for name in region.inputs]
        payload, pending = client.encrypt(inputs, 1)
        reply = backend_of(half).load_server(half).evaluate(b"".join(payload), 1)
        for name, result, expected in zip(region.outputs, client.decrypt(reply, pending), region.reference(inputs), strict=True):
            _compare(result, expected, f"'{name}' of region '{region.name}'")


def _compare(result: Array, value: Array, what: str) -> None:
    if result.shape != value.shape:
        raise InternalError(f"{what} has shape {result.shape}, but in the program it has shape {value.shape}")
    both = np.isfinite(result) & np.isfinite(value)
    error = np.square(result[both].astype(np.float64) - value[both]).sum()
    if error > MOST_CHANGE**2 * np.square(value[both].astype(np.float64)).sum() + 1e-12:
        raise InternalError(f"{what} differs from the program's by {np.sqrt(error):.2e}")


def _leaves(result: Any) -> list[Any]:
    """Return all tensors of a nested result, in order."""
    import torch

    if isinstance(result, torch.Tensor):
        return [result.detach()]
    items = list(result.values()) if isinstance(result, Mapping) else list(result) if isinstance(result, list | tuple) else []
    return [leaf for item in items for leaf in _leaves(item)]


@dataclass(frozen=True, repr=False)
class _Answer(Pending):
    """The outputs of a region, which were computed when it was asked."""

    outputs: list[Array]


class _InClear(RegionClient):
    """A call region that is computed in this process, by the program's own arithmetic. Nothing is sent."""

    def __init__(self, client: RegionClient, region: AnyCall) -> None:
        self.inputs, self.outputs, self.max_batch = client.inputs, client.outputs, client.max_batch
        self.timeout_s = client.timeout_s
        self._region = region

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        return [], _Answer(0, self._region.reference(values))

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Answer):
            raise InternalError("a region that is not encrypted got a reply of another region")
        return pending.outputs

    def request_bytes(self, batch: int) -> int:
        return 0

    def reply_bytes(self, batch: int) -> int:
        return 0
