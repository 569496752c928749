"""`EncryptedUNet`: the compiled model with the UNet's own signature, for any pipeline of diffusers or a loop by hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hecompile.bars import RequestBar, is_shown
from hecompile.ir.halves import Array
from hecompile.runtime.arguments import InputError, as_array, batch_of, bind, judge_places
from hecompile.runtime.batches import as_like, batched, leading, request_count
from hecompile.runtime.bundle import Bundle
from hecompile.runtime.diffusers_model import DiffusersModel
from hecompile.runtime.downloading import is_url
from hecompile.runtime.executor import Executor, Meter
from hecompile.runtime.noise import secure_noise
from hecompile.runtime.opened import WEIGHT_OPTIONS, opened
from hecompile.runtime.presentation import as_html, as_line, facts
from hecompile.runtime.results import rebuilt
from hecompile.runtime.saved import save_client_half
from hecompile.runtime.transports import Transport
from hecompile.runtime.turns import Turns

__all__ = ["EncryptedUNet", "InputError"]

LOG = logging.getLogger(__name__)


class EncryptedUNet(DiffusersModel):
    """Set it as `pipe.unet`. Pipelines, schedulers, guidance and callbacks stay as they are: all of that is the client's.

    Latents may be of any floating type and on any device: the model computes in float32 on the CPU, and the answer has the type and
    place of the latents. The timestep is one number for the whole batch, unless the model was compiled with one per picture.
    Batches above the artifact's largest are cut. Calls of several threads wait for each other; a run belongs to one thread, and a
    model that reveals to the first thread that calls it. After a fork parent and child go on independently.
    """

    def __init__(self, bundle: Bundle, transport: Transport, progress: bool | None = None) -> None:
        super().__init__(bundle.manifest.config)
        self._executor = Executor(bundle, transport)
        self._transport, self._progress = transport, progress
        self._once = [spec.name for spec in bundle.manifest.inputs if spec.per_run]
        self._last_t = float("-inf")
        self._problem, self._closed = "", False
        self._turns = Turns(one_thread=bool(bundle.manifest.reveals))
        self._conditions: dict[int, dict[str, Array]] = {}  # of this run, by batch: what was sent at its start
        self._fresh = True  # whether the next call is a run's first
        self._noise: torch.Tensor | None = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        server: str | Transport | None = None,
        *,
        progress: bool | None = None,
        torch_dtype: torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        subfolder: str | None = None,
        **options: Any,
    ) -> EncryptedUNet:
        """`hecompile.load` by the name that diffusers has for it: of an artifact, or of a folder that `save_pretrained` wrote.

        Args:
            server: as in `load`; where the folder holds no server's half, the server that was there when it was saved. To one that
                only a folder names, no token, certificate or header of the environment is shown.
            torch_dtype, dtype: what the model says of its own type; nothing is computed in it.
            subfolder: of that folder, such as `unet`.
            options: those of `load`; how diffusers would read weights (`variant`, `device_map`, ...) means nothing here.

        Raises:
            CompileError, ProtocolError, ServerGoneError: as `load`.
            TypeError: for options that neither has.
        """
        place: str | Path = pretrained_model_name_or_path
        if subfolder is not None:
            place = f"{place}/{subfolder}" if is_url(place) else Path(place) / subfolder
        kept = {name: value for name, value in options.items() if name not in WEIGHT_OPTIONS}
        unet = cls(*opened(place, server, **kept), progress)
        wanted = dtype or torch_dtype
        return unet if wanted is None else unet.to(wanted)

    def save_pretrained(self, save_directory: str | Path, **ignored: Any) -> None:
        """Write the client's half, and the address of its server, to a folder that `from_pretrained` and pipelines load.

        A folder that was written so is replaced. Tokens, certificates, policies and keys are not in it.

        Raises:
            CompileError: if the folder holds anything else, or cannot be written.
            ProtocolError: if the artifact changed since it was loaded.
        """
        save_client_half(self._executor.bundle, Path(save_directory), getattr(self._transport, "url", None))

    def __repr__(self) -> str:
        return as_line(type(self).__name__, self._facts())

    def _repr_html_(self) -> str:
        return as_html(type(self).__name__, self._facts())

    def _facts(self) -> dict[str, str]:
        return facts(self._executor.bundle, self._transport, self._closed)

    def __enter__(self) -> EncryptedUNet:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
            self._judge_open()
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
        """Close the session and the connection, after a call that is under way. A closed model refuses to be called."""
        with self._turns.end():
            self._executor.close()
            self._transport.close()
            self._closed = True

    def _judge_open(self) -> None:
        """Raise `InputError` if the model was closed."""
        if self._closed:
            raise InputError(f"'{self.manifest_name}' was closed; load it again")

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
            InputError: also for a model that was closed.
        """
        manifest = self._executor.bundle.manifest
        judge_places(manifest.signature, manifest.inputs, args, self._executor.bundle.clear)
        tensors, as_returned = bind(manifest.signature, manifest.inputs, args, kwargs)
        batch = batch_of(tensors, manifest.inputs)
        inputs = {spec.name: as_array(tensors[spec.keyword], spec, batch) for spec in manifest.inputs}
        with self._turns.call():
            self._judge_open()
            self._start_call(inputs, batch)
            before = dict(self.meter.excursions)
            outputs = self._shown(inputs, batch)
            self._judge(inputs, outputs)
            self._report([text for text, count in self.meter.excursions.items() if count != before.get(text, 0)])
        like = leading(tensors, manifest.inputs)
        return rebuilt(manifest.signature.results, [as_like(value, like) for value in outputs], as_returned)

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

    def _shown(self, inputs: dict[str, Array], batch: int) -> list[Array]:
        """The outputs, with a bar while they are waited for if somebody looks."""
        if not is_shown(self._progress):
            return batched(self._executor, inputs, batch)
        meter, bar = self.meter, RequestBar(request_count(self._executor, batch))
        before = meter.bytes_up + meter.bytes_down

        def count(region: str) -> None:
            bar.step(meter.bytes_up + meter.bytes_down - before)

        meter.observers.append(count)
        try:
            return batched(self._executor, inputs, batch)
        finally:
            meter.observers.remove(count)
            bar.close()


EncryptedUNet.__module__ = "hecompile"  # where people find it, and what a saved pipeline names
