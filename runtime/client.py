"""`EncryptedUNet`: the compiled model with the UNet's own signature, for any pipeline of diffusers or a loop by hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hecompile.artifact import Input
from hecompile.backends.base import Array
from hecompile.errors import HecompileError
from hecompile.runtime.bundle import Bundle, load_bundle
from hecompile.runtime.executor import Executor, Meter
from hecompile.runtime.transports import HttpTransport, LocalTransport, Transport

__all__ = ["EncryptedUNet", "InputError", "load"]

LOG = logging.getLogger(__name__)


class InputError(HecompileError, ValueError):
    """The arguments do not fit the compiled model."""


def load(
    artifact: str | Path,
    server: str | Transport | None = None,
    *,
    policy: str = "strict",
    security_bits: int = 128,
    threads: int | None = None,
) -> EncryptedUNet:
    """Load a compiled model.

    Args:
        artifact: the folder, or its manifest and client half.
        server: URL of the server, or a transport; None runs the server's half in this process.
        policy: what the client insists on; an artifact that keeps less is refused.

    Raises:
        ProtocolError: if the artifact is missing, changed or weaker than the policy.
    """
    folder = Path(artifact)
    bundle = load_bundle(folder, policy, security_bits, threads)
    if server is None:
        from hecompile.runtime.service import load_service

        transport: Transport = LocalTransport(load_service(folder))
    else:
        patience_s = max((call.patience_s for call in bundle.calls.values()), default=60.0)
        transport = HttpTransport(server, timeout_s=patience_s) if isinstance(server, str) else server
    return EncryptedUNet(bundle, transport)


class _Config(dict[str, Any]):
    """The UNet's configuration, by key or attribute as diffusers has it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class EncryptedUNet(torch.nn.Module):
    """Set it as `pipe.unet`. Pipelines, schedulers, guidance and callbacks stay as they are: all of that is the client's.

    The timestep is one number for the whole batch. Batches above the artifact's largest are cut. Not for several threads at once.
    """

    def __init__(self, bundle: Bundle, transport: Transport) -> None:
        super().__init__()
        self._executor = Executor(bundle, transport)
        self._transport = transport
        kept = any(step.once for step in bundle.manifest.plan.steps)
        self._once = [spec.name for spec in bundle.manifest.inputs if kept and spec.name not in ("sample", "timestep")]
        self._last_t = float("-inf")
        self._problem = ""
        self._conditions: dict[str, Array] = {}
        self._fresh = True  # whether the next call is a run's first
        self._noise: torch.Tensor | None = None
        self.config = _Config(bundle.manifest.config)
        for key, value in self.config.items():
            if isinstance(value, list):
                self.config[key] = tuple(value)

    @property
    def manifest_name(self) -> str:
        return self._executor.bundle.manifest.name

    @property
    def encrypted(self) -> bool:
        """Whether the server sees ciphertexts only, of what is secret."""
        return self._executor.bundle.manifest.encrypted

    @property
    def reveals(self) -> tuple[str, ...]:
        """What the server sees in clear; nothing under `strict`."""
        return self._executor.bundle.manifest.reveals

    def initial_noise(self, batch: int = 1, seed: bytes | None = None) -> torch.Tensor:
        """Latents to start a run from, (B, C, H, W) standard normal, from a generator of at least 128 bits: see `secure_noise`.

        Artifacts that reveal anything accept no others: a few entries in clear would give away an integer seed.
        """
        from hecompile.runtime.noise import secure_noise

        spec = next(spec for spec in self._executor.bundle.manifest.inputs if spec.name == "sample")
        self._noise = secure_noise((batch, *(int(dim) for dim in spec.shape[1:])), seed)
        return self._noise.clone()

    @property
    def meter(self) -> Meter:
        """Times and bytes since loading."""
        return self._executor.meter

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @contextmanager
    def run(self) -> Iterator[EncryptedUNet]:
        """One sampling run: conditions are sent once, at its start. Without it a run starts whenever t does not fall.

        Raises:
            InputError: at the end, if a value was not finite or left what the model was compiled for, or a condition changed. Not
                before: when a run stops must not depend on what is secret.
        """
        self._start()
        self._fresh = True
        yield self
        problem, self._problem = self._problem, ""
        self._last_t = float("-inf")
        if problem:
            raise InputError(f"{problem}; the result of this run means nothing")

    def close(self) -> None:
        """Close the session and the connection."""
        self._executor.close()
        self._transport.close()

    def _start(self) -> None:
        self._executor.start_run()
        self._last_t = float("inf")
        self._conditions = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own call: `sample` (B, C, H, W), `timestep` and what else it was compiled for; `return_dict` as in diffusers.

        Raises:
            InputError: for shapes, types or arguments that the compiled model does not have, and for a run that starts from other
                latents than `initial_noise` gave, where the artifact reveals anything.
            ProtocolError: if the server refuses or is gone.
        """
        return_dict = kwargs.pop("return_dict", True)
        inputs, batch = self._inputs(args, kwargs)
        t = float(inputs["timestep"]) if "timestep" in inputs and not inputs["timestep"].shape else float("inf")
        self._fresh = self._fresh or t > self._last_t
        if not t < self._last_t:
            self._start()
        if self._fresh and self.reveals:
            self._judge_noise(inputs["sample"])
        self._last_t, self._fresh = t, False
        before = dict(self.meter.excursions)
        outputs = self._batched(inputs, batch)
        self._judge(inputs, outputs)
        self._report([text for text, count in self.meter.excursions.items() if count != before.get(text, 0)])
        result = torch.from_numpy(outputs[0])
        if not return_dict:
            return (result, *(torch.from_numpy(value) for value in outputs[1:]))
        return self._output(result)

    def _judge_noise(self, sample: Array) -> None:
        """A run's first latents are those of `initial_noise`, up to the scheduler's factor, whatever guidance repeats."""
        noise = np.zeros((1, 1)) if self._noise is None else self._noise.numpy().reshape(len(self._noise), -1)
        for place, latent in enumerate(sample.reshape(len(sample), -1).astype(np.float64)):
            own = noise[place % len(noise)].astype(np.float64)
            fits = own.shape == latent.shape and np.dot(own, latent) > 0.999999 * np.linalg.norm(own) * np.linalg.norm(latent) > 0
            if not fits:
                raise InputError(
                    "edge noise -> sample: the first latents come from a generator whose state a few revealed entries give away "
                    "(an integer seed, or torch's own); pass latents=unet.initial_noise(batch) to the pipeline, and no generator"
                )

    def _judge(self, inputs: Mapping[str, Array], outputs: list[Array]) -> None:
        """Note what went wrong, after the call's last message; `run` raises it at its end."""
        problem = ""
        if not all(np.isfinite(value).all() for value in (*inputs.values(), *outputs)):
            problem = "a value was NaN or infinite and was clipped"
        conditions = {name: inputs[name] for name in self._once}
        if self._conditions and not all(np.array_equal(value, self._conditions[name]) for name, value in conditions.items()):
            problem = "a condition changed within the run, after it was sent"
        self._conditions = self._conditions or conditions
        self._report([problem] if problem else [])

    def _report(self, problems: list[str]) -> None:
        """Keep the first problem of a run, and warn of all."""
        for problem in problems:
            self._problem = self._problem or problem
            LOG.warning("%s; the run went on", problem)

    def _output(self, result: torch.Tensor) -> Any:
        kind = self.config.get("_class_name")
        if kind == "UNet2DModel":
            from diffusers.models.unets.unet_2d import UNet2DOutput

            return UNet2DOutput(sample=result)
        if kind == "UNet2DConditionModel":
            from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

            return UNet2DConditionOutput(sample=result)
        return result

    def _batched(self, inputs: dict[str, Array], batch: int) -> list[Array]:
        """The outputs of any batch, cut where it is larger than the artifact's largest."""
        manifest = self._executor.bundle.manifest
        if batch <= manifest.max_batch:
            return self._executor.run(inputs, batch)
        pieces = []
        for start in range(0, batch, manifest.max_batch):
            stop = min(start + manifest.max_batch, batch)
            piece = {spec.name: _slice(inputs[spec.name], spec, start, stop) for spec in manifest.inputs}
            self._executor.start_run()  # what is kept of a run belongs to one piece
            pieces.append(self._executor.run(piece, stop - start))
        self._executor.start_run()
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def _inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Array], int]:
        """The arguments as arrays by input name, checked against the artifact, and the batch."""
        inputs = self._executor.bundle.manifest.inputs
        if len(args) > len(inputs):
            raise InputError(f"{len(args)} arguments, the model takes {', '.join('.'.join(spec.keyword) for spec in inputs)}")
        given: dict[tuple[str, ...], Any] = dict(zip([spec.keyword for spec in inputs], args, strict=False))
        for key, value in kwargs.items():
            if isinstance(value, Mapping):
                given.update({(key, inner): tensor for inner, tensor in value.items()})
            elif value is not None:
                given[(key,)] = value
        unknown = sorted(".".join(key) for key in set(given) - {spec.keyword for spec in inputs} if key[0] not in _INERT)
        missing = sorted(".".join(spec.keyword) for spec in inputs if spec.keyword not in given)
        if unknown or missing:
            raise InputError(f"missing arguments {missing}, not compiled in {unknown}")
        first = next(spec for spec in inputs if spec.shape and isinstance(spec.shape[0], str))
        leading = given[first.keyword]
        if not isinstance(leading, torch.Tensor) or not leading.dim() or not len(leading):
            raise InputError(f"{'.'.join(first.keyword)} must be a tensor with at least one element")
        batch = len(leading) // int(str(first.shape[0]).removesuffix("B") or 1)
        return {spec.name: _array(given[spec.keyword], spec, batch) for spec in inputs}, batch


_INERT = ("cross_attention_kwargs", "timestep_cond")  # pipelines pass them, as None or empty


def _slice(value: Array, spec: Input, start: int, stop: int) -> Array:
    first = spec.shape[0] if spec.shape else 1
    if not isinstance(first, str):
        return value
    multiple = int(first.removesuffix("B") or 1)
    return value[start * multiple : stop * multiple]


def _array(value: Any, spec: Input, batch: int) -> Array:
    """One argument as the array that the model wants."""
    name = ".".join(spec.keyword)
    tensor = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.as_tensor(value)
    array: Array = tensor.numpy()
    expected = tuple(int(dim.removesuffix("B") or 1) * batch if isinstance(dim, str) else dim for dim in spec.shape)
    if not expected and array.size:
        if (array != array.reshape(-1)[0]).any():
            raise InputError(f"{name} differs within the batch: a step has one {name} for all of it")
        array = array.reshape(-1)[0]
    if array.shape != expected:
        raise InputError(f"{name} has shape {tuple(array.shape)}, the model wants {expected}")
    if spec.dtype.startswith("int") and array.dtype.kind not in "iu":
        raise InputError(f"{name} has type {array.dtype}, the model wants integers")
    return np.ascontiguousarray(array, np.dtype(spec.dtype)).reshape(expected)
