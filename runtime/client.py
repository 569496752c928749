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
from hecompile.runtime.arguments import InputError, as_array, batch_of, bind, check_places
from hecompile.runtime.batches import as_like, batched, leading, request_count
from hecompile.runtime.bundle import Bundle
from hecompile.runtime.call_lock import CallLock
from hecompile.runtime.diffusers_model import DiffusersModel
from hecompile.runtime.downloading import is_url
from hecompile.runtime.executor import Executor, Meter
from hecompile.runtime.noise import secure_noise
from hecompile.runtime.opening import WEIGHT_OPTIONS, open_artifact
from hecompile.runtime.presentation import as_html, as_line, describe_model
from hecompile.runtime.results import rebuilt
from hecompile.runtime.saving import save_client_half
from hecompile.runtime.transports import Transport

__all__ = ["EncryptedUNet", "InputError"]

LOG = logging.getLogger(__name__)


class EncryptedUNet(DiffusersModel):
    """A compiled model with the UNet's own signature: set it as `pipe.unet`. Schedulers, guidance and callbacks stay at the client.

    Latents may have any floating-point type and be on any device: the model computes in float32 on the CPU, and the output has the
    type and device of the latents. The timestep is one number for the whole batch, unless the model was compiled with one per
    picture. Batches larger than the artifact's largest are split. Calls of several threads wait for each other. A run belongs to
    one thread, and a model that reveals values belongs to the first thread that calls it. After a fork, parent and child go on
    independently.
    """

    def __init__(self, bundle: Bundle, transport: Transport, progress: bool | None = None) -> None:
        super().__init__(bundle.manifest.config)
        self._executor = Executor(bundle, transport)
        self._transport, self._progress = transport, progress
        self._once = [spec.name for spec in bundle.manifest.inputs if spec.per_run]
        self._last_t = float("-inf")
        self._problem, self._closed = "", False
        self._call_lock = CallLock(one_thread=bool(bundle.manifest.reveals))
        self._conditions: dict[int, dict[str, Array]] = {}  # conditions that this run sent, by batch size
        self._fresh = True  # whether the next call is the first of a run
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
        """Do what `hecompile.load` does, under the name that diffusers uses: load an artifact, or a folder that `save_pretrained`
        wrote.

        Args:
            server: as in `load`. By default a saved folder without a server's half uses the server that it names. A server that is
                named by a folder only gets no token, certificate or header from the environment.
            torch_dtype, dtype: the type that the model reports as its own; it does not change the computation.
            subfolder: the part of the folder to load, such as `unet`.
            options: those of `load`. Options of diffusers for reading weights (`variant`, `device_map`, ...) are ignored.

        Raises:
            CompileError, ProtocolError, ServerGoneError: as `load`.
            TypeError: for options that neither `load` nor diffusers knows.
        """
        place: str | Path = pretrained_model_name_or_path
        if subfolder is not None:
            place = f"{place}/{subfolder}" if is_url(place) else Path(place) / subfolder
        kept = {name: value for name, value in options.items() if name not in WEIGHT_OPTIONS}
        unet = cls(*open_artifact(place, server, **kept), progress)
        wanted = dtype or torch_dtype
        return unet if wanted is None else unet.to(wanted)

    def save_pretrained(self, save_directory: str | Path, **ignored: Any) -> None:
        """Write the client's half and the address of its server to a folder that `from_pretrained` and pipelines can load.

        A folder that this method wrote before is replaced. Tokens, certificates, policies and keys are not written.

        Raises:
            CompileError: if the folder holds anything else, or cannot be written.
            ProtocolError: if the artifact changed since it was loaded.
        """
        save_client_half(self._executor.bundle, Path(save_directory), getattr(self._transport, "url", None))

    def __repr__(self) -> str:
        return as_line(type(self).__name__, self._description())

    def _repr_html_(self) -> str:
        return as_html(type(self).__name__, self._description())

    def _description(self) -> dict[str, str]:
        return describe_model(self._executor.bundle, self._transport, self._closed)

    def __enter__(self) -> EncryptedUNet:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def manifest_name(self) -> str:
        """The name of the compiled model."""
        return self._executor.bundle.manifest.name

    @property
    def encrypted(self) -> bool:
        """Whether the server gets secret values as ciphertexts; False for a simulation."""
        return self._executor.bundle.manifest.encrypted

    @property
    def reveals(self) -> tuple[str, ...]:
        """The values that the server sees in the clear, one text each; empty under the policy `strict`."""
        return self._executor.bundle.manifest.reveals

    def initial_noise(self, batch: int = 1, seed: bytes | None = None) -> torch.Tensor:
        """Return latents to start a run from: (B, C, H, W), standard normal, from a secure generator (see `secure_noise`).

        Artifacts that reveal anything accept no other initial latents: a few revealed entries would be enough to find an integer
        seed.
        """
        spec = next((spec for spec in self._executor.bundle.manifest.inputs if spec.name == "sample"), None)
        if spec is None:
            raise InputError("the model has no input called sample")
        noise = secure_noise((batch, *(int(dim) for dim in spec.shape[1:])), seed)
        if self.reveals:
            with self._call_lock.call():
                self._noise = noise
        return noise.clone()

    @property
    def meter(self) -> Meter:
        """Seconds and bytes, counted since the model was loaded."""
        return self._executor.meter

    @contextmanager
    def run(self) -> Iterator[EncryptedUNet]:
        """One sampling run: the conditions, such as the prompt, are sent with its first call and reused in its other calls.

        Outside a run the conditions are sent with every call, so that every call may have different ones.

        Raises:
            InputError: at once, by a call whose conditions differ from those of the run, for a run within a run, and for calls of
            other threads meanwhile. At the end of the run, if a value was not finite or left the range that the model was compiled
                for: a run never stops earlier for that, since the moment would reveal something about secret values.
        """
        with self._call_lock.run():
            self._check_open()
            self._start_run()
            self._fresh, self._problem = True, ""
            try:
                yield self
            finally:
                self._start_run()
                problem, self._problem = self._problem, ""
                self._last_t = float("-inf")
        if problem:
            raise InputError(f"{problem}; the result of this run is not usable")

    def close(self) -> None:
        """Close the session and the connection, after a call that is under way has ended. Later calls raise `InputError`."""
        with self._call_lock.end():
            self._executor.close()
            self._transport.close()
            self._closed = True

    def _check_open(self) -> None:
        """Raise `InputError` if the model was closed."""
        if self._closed:
            raise InputError(f"'{self.manifest_name}' was closed; load it again")

    def _start_run(self) -> None:
        """Forget everything that was kept from the last run."""
        self._executor.start_run()
        self._conditions = {}

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch.compile(pipe.unet) must not trace this
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model with its own names, order and structure of arguments, and `return_dict` as in diffusers.

        Returns:
            What the original module returns, for example a `UNet2DConditionOutput` with `sample` (B, C, H, W). Tensors have the
            type of
            the latents and are on their device.

        Raises:
            InputError: for shapes, types or arguments that the model was not compiled for, for other conditions within a run, for a
                closed model, and, where the artifact reveals anything, for a run that starts from latents other than
                    `initial_noise` gave.
            ProtocolError: if the server refuses or is gone.
        """
        manifest = self._executor.bundle.manifest
        check_places(manifest.signature, manifest.inputs, args, self._executor.bundle.clear)
        tensors, as_returned = bind(manifest.signature, manifest.inputs, args, kwargs)
        batch = batch_of(tensors, manifest.inputs)
        inputs = {spec.name: as_array(tensors[spec.keyword], spec, batch) for spec in manifest.inputs}
        with self._call_lock.call():
            self._check_open()
            self._start_call(inputs, batch)
            before = dict(self.meter.out_of_range)
            outputs = self._shown(inputs, batch)
            self._check_values(inputs, outputs)
            self._report([text for text, count in self.meter.out_of_range.items() if count != before.get(text, 0)])
        like = leading(tensors, manifest.inputs)
        return rebuilt(manifest.signature.results, [as_like(value, like) for value in outputs], as_returned)

    def _start_call(self, inputs: Mapping[str, Array], batch: int) -> None:
        """Check the call's conditions and, in the first call of a run, its noise; decide what is kept from earlier calls.

        Inside `run()` the conditions must stay the same. Outside, they are sent again, and a call whose timestep is not below the
        last one starts a new run.
        """
        t = float(inputs["timestep"].astype(np.float64).max(initial=-np.inf)) if "timestep" in inputs else float("inf")
        self._fresh = self._fresh or not t < self._last_t
        if self._call_lock.in_run:
            self._check_conditions(inputs, batch)
        elif t <= self._last_t < float("inf"):
            self._executor.forget()
        else:
            self._start_run()
        if self._fresh and self.reveals:
            self._check_noise(inputs["sample"])
        self._last_t, self._fresh = t, False

    def _check_conditions(self, inputs: Mapping[str, Array], batch: int) -> None:
        """Raise `InputError` if the conditions differ from those that this run sent for the same batch size."""
        kept = self._conditions.setdefault(batch, {name: inputs[name].copy() for name in self._once})
        changed = [name for name in self._once if inputs[name].tobytes() != kept[name].tobytes()]
        if changed:
            raise InputError(
                f"{', '.join(changed)} changed within unet.run(), which sends conditions once: call the model outside run() instead"
            )

    def _check_noise(self, sample: Array) -> None:
        """Raise `InputError` unless the first latents of a run are those of `initial_noise`, up to the scheduler's factor and
        repetition."""
        noise = np.zeros((1, 1)) if self._noise is None else self._noise.numpy().reshape(len(self._noise), -1)
        for place, latent in enumerate(sample.reshape(len(sample), -1).astype(np.float64)):
            own = noise[place % len(noise)].astype(np.float64)
            fits = own.shape == latent.shape and np.dot(own, latent) > 0.999999 * np.linalg.norm(own) * np.linalg.norm(latent) > 0
            if not fits:
                raise InputError(
                    "edge noise -> sample: the first latents come from a generator whose state follows from a few revealed entries "
                    "(an integer seed, or torch's own); pass latents=unet.initial_noise(batch) to the pipeline, and no generator"
                )

    def _check_values(self, inputs: Mapping[str, Array], outputs: list[Array]) -> None:
        """Record what went wrong, after the last message of the call; `run` raises it at its end."""
        if not all(np.isfinite(value).all() for value in (*inputs.values(), *outputs) if value.dtype.kind == "f"):
            self._report(["a value was NaN or infinite and was clipped"])
        for name, rows in self._executor.bundle.places.items():
            if name in inputs and ((inputs[name] < 0) | (inputs[name] >= rows)).any():
                self._report([f"'{name}' was outside 0 to {rows - 1} and was clipped"])

    def _report(self, problems: list[str]) -> None:
        """Keep the first problem of a run, and log a warning for each."""
        for problem in problems:
            self._problem = self._problem or problem
            LOG.warning("%s; the run went on", problem)

    def _shown(self, inputs: dict[str, Array], batch: int) -> list[Array]:
        """Return the outputs, and show a progress bar meanwhile on terminals and in notebooks."""
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


EncryptedUNet.__module__ = "hecompile"  # the public name, which a saved pipeline stores
