"""`EncryptedUNet`: the compiled model with the UNet's own signature, for any pipeline of diffusers or a loop by hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from hecompile.artifact import Input
from hecompile.ir.halves import Array
from hecompile.ir.signature import Keyword
from hecompile.runtime.arguments import InputError, as_array, batch_of, bind, judge_places, multiple_of
from hecompile.runtime.bundle import Bundle, load_bundle
from hecompile.runtime.executor import Executor, Meter
from hecompile.runtime.results import judge_structure, rebuilt
from hecompile.runtime.stand_ins import stand_ins
from hecompile.runtime.transports import AccessOptions, Transport, open_transport
from hecompile.runtime.turns import Turns

__all__ = ["EncryptedUNet", "InputError", "load"]

LOG = logging.getLogger(__name__)


def load(
    artifact: str | Path,
    server: str | Transport | None = None,
    *,
    policy: str = "strict",
    security_bits: int = 128,
    threads: int | None = None,
    public: Sequence[str] = (),
    backends: Sequence[str] = (),
    **access: Unpack[AccessOptions],
) -> EncryptedUNet:
    """Load a compiled model, and ask its server whether it serves the other half.

    Args:
        artifact: the folder, or its manifest and client half.
        server: URL of the server, or a transport; None runs the server's half in this process.
        policy: what the client insists on; an artifact that keeps less is refused.
        threads: of the client's own regions; all cores by default.
        public: names of inputs that the server may see besides `timestep` and `time_ids`. What the artifact calls public counts
            for nothing.
        backends: names of backends from elsewhere (`register_backend`) that may compute; an artifact cannot name them itself.
        access: `verify=`, `cert=`, `token=` and `headers=` for a URL, see `AccessOptions`.

    Raises:
        CompileError: for a URL that is none, certificates that cannot be used, or a token that would travel in clear.
        ProtocolError: if the artifact is missing, changed or weaker than the policy, or the server serves another one.
        ServerGoneError: if the server does not answer.
    """
    bundle = load_bundle(Path(artifact), policy, security_bits, threads, public=public, backends=backends)
    judge_structure(bundle.manifest.signature.results, len(bundle.manifest.plan.outputs))
    return EncryptedUNet(bundle, open_transport(bundle, server, **access))


class _Config(dict[str, Any]):
    """The UNet's configuration, by key or attribute as diffusers has it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class EncryptedUNet(torch.nn.Module):
    """Set it as `pipe.unet`. Pipelines, schedulers, guidance and callbacks stay as they are: all of that is the client's.

    Latents may be of any floating type and on any device: the model computes in float32 on the CPU, and the answer has the type and
    place of the latents. The timestep is one number for the whole batch, unless the model was compiled with one per picture.
    Batches above the artifact's largest are cut. Calls of several threads wait for each other; a run belongs to one thread, and a
    model that reveals to the first thread that calls it. After a fork parent and child go on independently.
    """

    def __init__(self, bundle: Bundle, transport: Transport) -> None:
        super().__init__()
        self._executor = Executor(bundle, transport)
        self._transport = transport
        self._once = [spec.name for spec in bundle.manifest.inputs if spec.per_run]
        self._last_t = float("-inf")
        self._problem = ""
        self._turns = Turns(one_thread=bool(bundle.manifest.reveals))
        self._conditions: dict[int, dict[str, Array]] = {}  # of this run, by batch: what was sent at its start
        self._fresh = True  # whether the next call is a run's first
        self.register_buffer("_place", torch.zeros(()), persistent=False)  # its type and device are what `to` asked for
        self._noise: torch.Tensor | None = None
        self.config = _Config(bundle.manifest.config)
        for key, value in self.config.items():
            if isinstance(value, list):
                self.config[key] = tuple(value)
        for name, part in stand_ins(self.config).items():
            setattr(self, name, part)

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

        spec = next((spec for spec in self._executor.bundle.manifest.inputs if spec.name == "sample"), None)
        if spec is None:
            raise InputError("the model has no input called sample")
        noise = secure_noise((batch, *(int(dim) for dim in spec.shape[1:])), seed)
        if self.reveals:
            with self._turns.call():
                self._noise = noise
        return noise.clone()

    @property
    def meter(self) -> Meter:
        """Times and bytes since loading."""
        return self._executor.meter

    @property
    def dtype(self) -> torch.dtype:
        """What `to` asked for, float32 at first. Nothing is computed in it."""
        dtype: torch.dtype = self.get_buffer("_place").dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where `to` put the model, the CPU at first. Client regions run on the CPU all the same."""
        device: torch.device = self.get_buffer("_place").device
        return device

    @contextmanager
    def run(self) -> Iterator[EncryptedUNet]:
        """One sampling run: conditions, such as the prompt, are sent with its first call and kept by the client's side of the plan.

        Without it they are sent with every call, so that any call may have others.

        Raises:
            InputError: at once, by the call whose conditions differ from those of the run; and at the end, if a value was not
                finite or left what the model was compiled for. That is not told before the run's last message: when a run stops
                must not depend on what is secret. Also at once, for a run within a run, and for calls of other threads meanwhile.
        """
        with self._turns.run():
            self._start_run()
            self._fresh, self._problem = True, ""
            try:
                yield self
            finally:
                self._start_run()
                problem, self._problem = self._problem, ""
                self._last_t = float("-inf")
        if problem:
            raise InputError(f"{problem}; the result of this run means nothing")

    def close(self) -> None:
        """Close the session and the connection, after a call that is under way."""
        with self._turns.end():
            self._executor.close()
            self._transport.close()

    def _start_run(self) -> None:
        """Forget all that was kept of the last run."""
        self._executor.start_run()
        self._conditions = {}

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch.compile(pipe.unet) finds nothing to compile here
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own call, with its own names, order and structures of arguments, and `return_dict` as in diffusers.

        Returns:
            What the module returns, in the type of the latents and on their device: (B, C, H, W) in a `UNet2DConditionOutput`, say.

        Raises:
            InputError: for shapes, types or arguments that the compiled model does not have, for other conditions within a run, and
                for a run that starts from other latents than `initial_noise` gave, where the artifact reveals anything.
            ProtocolError: if the server refuses or is gone.
        """
        manifest = self._executor.bundle.manifest
        judge_places(manifest.signature, manifest.inputs, args, self._executor.bundle.clear)
        tensors, as_returned = bind(manifest.signature, manifest.inputs, args, kwargs)
        batch = batch_of(tensors, manifest.inputs)
        inputs = {spec.name: as_array(tensors[spec.keyword], spec, batch) for spec in manifest.inputs}
        with self._turns.call():
            self._start_call(inputs, batch)
            before = dict(self.meter.excursions)
            outputs = self._batched(inputs, batch)
            self._judge(inputs, outputs)
            self._report([text for text, count in self.meter.excursions.items() if count != before.get(text, 0)])
        like = _leading(tensors, manifest.inputs)
        return rebuilt(manifest.signature.results, [_as_like(value, like) for value in outputs], as_returned)

    def _start_call(self, inputs: Mapping[str, Array], batch: int) -> None:
        """Inside a run insist on the same conditions; outside, send them again, a new run starting where timesteps do not go down.

        Judge a first call's noise.
        """
        t = float(inputs["timestep"].astype(np.float64).max(initial=-np.inf)) if "timestep" in inputs else float("inf")
        self._fresh = self._fresh or not t < self._last_t
        if self._turns.in_run:
            self._judge_conditions(inputs, batch)
        elif t <= self._last_t < float("inf"):
            self._executor.forget()
        else:
            self._start_run()
        if self._fresh and self.reveals:
            self._judge_noise(inputs["sample"])
        self._last_t, self._fresh = t, False

    def _judge_conditions(self, inputs: Mapping[str, Array], batch: int) -> None:
        """Raise `InputError` for conditions that differ from those that this run sent for the same batch size."""
        kept = self._conditions.setdefault(batch, {name: inputs[name].copy() for name in self._once})
        changed = [name for name in self._once if inputs[name].tobytes() != kept[name].tobytes()]
        if changed:
            raise InputError(
                f"{', '.join(changed)} changed within unet.run(), which sends conditions once: call the model outside run() instead"
            )

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
        if not all(np.isfinite(value).all() for value in (*inputs.values(), *outputs) if value.dtype.kind == "f"):
            self._report(["a value was NaN or infinite and was clipped"])
        for name, rows in self._executor.bundle.places.items():
            if name in inputs and ((inputs[name] < 0) | (inputs[name] >= rows)).any():
                self._report([f"'{name}' left 0 to {rows - 1} and was clipped"])

    def _report(self, problems: list[str]) -> None:
        """Keep the first problem of a run, and warn of all."""
        for problem in problems:
            self._problem = self._problem or problem
            LOG.warning("%s; the run went on", problem)

    def _batched(self, inputs: dict[str, Array], batch: int) -> list[Array]:
        """The outputs of any batch, cut where it is larger than the artifact's largest."""
        manifest = self._executor.bundle.manifest
        if batch <= manifest.max_batch:
            return self._executor.run(inputs, batch)
        pieces = []
        for start in range(0, batch, manifest.max_batch):
            stop = min(start + manifest.max_batch, batch)
            piece = {spec.name: _slice(inputs[spec.name], spec, start, stop) for spec in manifest.inputs}
            self._executor.forget()  # conditions are a piece's own
            pieces.append(self._executor.run(piece, stop - start))
        self._executor.forget()
        shapes = [manifest.plan.value(name).shape for name in manifest.plan.outputs]
        grows = [bool(shape) and isinstance(shape[0], str) for shape in shapes]
        columns = zip(zip(*pieces, strict=True), grows, strict=True)
        return [np.concatenate(parts) if growing else parts[0] for parts, growing in columns]


def _slice(value: Array, spec: Input, start: int, stop: int) -> Array:
    multiple = multiple_of(spec)
    return value if multiple is None else value[start * multiple : stop * multiple]


def _leading(tensors: Mapping[Keyword, Any], inputs: Sequence[Input]) -> torch.Tensor:
    """The tensor whose type and device answers have: the first floating one with a batch."""
    floating = [spec for spec in inputs if multiple_of(spec) and spec.dtype.startswith("float")]
    found = next((tensors[spec.keyword] for spec in floating if isinstance(tensors[spec.keyword], torch.Tensor)), None)
    return torch.zeros(()) if found is None or not found.is_floating_point() else found


def _as_like(value: Array, like: torch.Tensor) -> torch.Tensor:
    """An output in the type of the latents, if it is floating, and on their device."""
    tensor = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    return tensor.to(like.device, like.dtype) if tensor.is_floating_point() else tensor.to(like.device)
