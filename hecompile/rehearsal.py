"""What was written is loaded as client and server load it, and small models are called once, before compiling reports success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.registry import backend_names
from hecompile.buffers import Buffer
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.regions import AnyCall, Program
from hecompile.ir.signature import nested, text_of
from hecompile.ir.verify import example_inputs

if TYPE_CHECKING:
    from hecompile.runtime.bundle import Bundle

__all__ = ["check_artifact"]

CALLED_GMAC = 1.0  # up to this size a model is called, as far as passes are compared
# Client regions run in ONNX Runtime there and in torch here: their last bits differ, and some values fall on the other side of a
# rounding. A wrong name, order or shape changes the whole result.
MOST_CHANGE = 0.05  # of the result's own root mean square


def check_artifact(folder: Path, program: Program, policy: str) -> None:
    """Load both halves, and call a small model in clear: its client regions as they were written, its server's as they are here.

    Raises:
        InternalError: if the artifact cannot be loaded, or computes something else than the program.
    """
    from hecompile.runtime.bundle import load_bundle
    from hecompile.runtime.results import judge_structure
    from hecompile.runtime.service import judge_service

    try:
        public = [text_of(spec.keyword) for spec in program.inputs if spec.public]  # to whoever compiles
        bundle = load_bundle(folder, policy, public=public, backends=backend_names())
        judge_structure(bundle.manifest.signature.results, len(bundle.manifest.plan.outputs))
        judge_service(folder)
    except ProtocolError as error:
        raise InternalError(f"what was compiled cannot be loaded: {error}") from error
    if program.gmac <= CALLED_GMAC:
        _call(bundle, program)


def _call(bundle: Bundle, program: Program) -> None:
    """One call of the loaded model by its own signature, compared with the program's reference."""
    import torch

    from hecompile.runtime.client import EncryptedUNet
    from hecompile.runtime.simulation import Nowhere

    inputs = example_inputs(program, min(2, bundle.manifest.max_batch))
    values = program.run(inputs)
    expected = [values[name] for name in program.plan.outputs]
    calls = {name: _InClear(bundle.calls[name], region) for name, region in program.calls.items()}
    manifest = replace(bundle.manifest, reveals=())  # nothing is shown to anybody, so any latents will do
    unet = EncryptedUNet(replace(bundle, calls=calls, manifest=manifest), Nowhere())
    leaves: dict[Any, Any] = {spec.keyword: torch.from_numpy(inputs[spec.name]) for spec in program.inputs}
    leaves |= {constant.keyword: constant.value for constant in program.signature.constants if not constant.optional}
    results = _leaves(unet(**nested(leaves)))
    wanted = [expected[place] for place in program.signature.results.places]
    if len(results) != len(wanted):
        raise InternalError(f"the loaded model returns {len(results)} tensors, the program {len(wanted)}")
    for place, (result, value) in enumerate(zip(results, wanted, strict=True)):
        _compare(np.asarray(result), value, f"result {place} of the loaded model")


def _compare(result: Array, value: Array, what: str) -> None:
    if result.shape != value.shape:
        raise InternalError(f"{what} has shape {result.shape}, the program's has {value.shape}")
    both = np.isfinite(result) & np.isfinite(value)
    error = np.square(result[both].astype(np.float64) - value[both]).sum()
    if error > MOST_CHANGE**2 * np.square(value[both].astype(np.float64)).sum() + 1e-12:
        raise InternalError(f"{what} differs from the program's by {np.sqrt(error):.2e}")


def _leaves(result: Any) -> list[Any]:
    """The tensors of a result, in order."""
    import torch

    if isinstance(result, torch.Tensor):
        return [result.detach()]
    items = list(result.values()) if isinstance(result, Mapping) else list(result) if isinstance(result, list | tuple) else []
    return [leaf for item in items for leaf in _leaves(item)]


@dataclass(frozen=True, repr=False)
class _Answer(Pending):
    """What a region gives, computed when it was asked."""

    outputs: list[Array]


class _InClear(RegionClient):
    """A call region that is computed here by the program's own arithmetic. Nothing is sent."""

    def __init__(self, client: RegionClient, region: AnyCall) -> None:
        self.inputs, self.outputs, self.max_batch = client.inputs, client.outputs, client.max_batch
        self.patience_s = client.patience_s
        self._region = region

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        return [], _Answer(0, self._region.reference(values))

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Answer):
            raise InternalError("a region in clear was answered before it was asked")
        return pending.outputs

    def request_bytes(self, batch: int) -> int:
        return 0

    def reply_bytes(self, batch: int) -> int:
        return 0
