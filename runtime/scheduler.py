"""`EncryptedScheduler`: a scheduler of diffusers whose update step runs at the server, on encrypted values."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from hecompile.errors import CompileError, Diagnostic, ProtocolError
from hecompile.runtime.bundle import Bundle, load_bundle
from hecompile.runtime.call_lock import CallLock
from hecompile.runtime.client import InputError
from hecompile.runtime.executor import Executor, Meter
from hecompile.runtime.noise import secure_noise
from hecompile.runtime.transports import AccessOptions, Transport, open_transport

__all__ = ["EncryptedScheduler", "coefficients"]


def coefficients(abar: float, abar_previous: float) -> tuple[float, float]:
    """Return f and g of the update x' = f x + g e, from the products of alphas before and after the step. It covers DDIM with eta 0
    and every step of PLMS."""
    f = math.sqrt(abar_previous / abar)
    return f, math.sqrt(1 - abar_previous) - f * math.sqrt(1 - abar)


class EncryptedScheduler:
    """A scheduler to set as `pipe.scheduler`. The UNet, guidance and the mixing of noise predictions stay at the client.

    It wraps `PNDMScheduler` with `skip_prk_steps` (PLMS), or `DDIMScheduler` without clipping; everything except `step` is the
    wrapped scheduler's own. If the artifact reveals anything, initial latents must come from `initial_noise`. A run belongs to the
    thread that called `set_timesteps`.
    """

    def __init__(
        self,
        scheduler: Any,
        artifact: str | Path,
        server: str | Transport | None = None,
        *,
        policy: str = "he-diffusion",
        security_bits: int = 128,
        most_clear: float = 0.25,
        **access: Unpack[AccessOptions],
    ) -> None:
        """Load the artifact that `compile-sampler` wrote.

        Args:
            server: URL of the server, or a transport; None runs the server's half in this process.
            most_clear: largest fraction of entries that may be revealed over all steps, whatever the artifact says.
            access: `verify=`, `cert=`, `token=` and `headers=` for a URL, see `AccessOptions`.

        Raises:
            CompileError: for a scheduler whose step is not f x + g e with public f and g, and where `load` raises it.
            ProtocolError: if the artifact is missing, changed or weaker than the policy, or the server serves another one.
        """
        _check_scheduler(scheduler)
        bundle = load_bundle(Path(artifact), policy, security_bits, sampler=True)
        _check_share(bundle, most_clear)
        transport = open_transport(bundle, server, **access)
        self._scheduler, self._transport = copy.deepcopy(scheduler), transport
        self._scheduler._get_prev_sample = self._update  # PLMS mixes noise predictions, then calls this
        self._executor = Executor(bundle, transport)
        self._reveals = bundle.manifest.reveals
        self._noise: torch.Tensor | None = None
        self._steps_left, self._problem, self._first = 0, "", True
        self._call_lock = CallLock()

    def __getattr__(self, name: str) -> Any:
        if name == "_scheduler":
            raise AttributeError(name)
        return getattr(self._scheduler, name)

    def __len__(self) -> int:
        return len(self._scheduler)

    @property
    def meter(self) -> Meter:
        """Seconds and bytes, counted since the scheduler was loaded."""
        return self._executor.meter

    def close(self) -> None:
        """Close the connection to the server, after a step that is under way has ended."""
        with self._call_lock.end():
            self._transport.close()

    def initial_noise(self, batch: int = 1, seed: bytes | None = None) -> torch.Tensor:
        """Return latents to start from, (batch, C, H, W), from a secure generator: pass them to the pipeline as `latents`.

        Raises:
            CompileError: for an integer seed or a torch generator.
        """
        shape = self._executor.bundle.manifest.inputs[0].shape[1:]
        self._noise = secure_noise((batch, *(int(size) for size in shape)), seed)
        return self._noise.clone()

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """Set the timesteps and start a run, which belongs to this thread. A run of another thread ends."""
        self._call_lock.start()
        with self._call_lock.call():
            self._scheduler.set_timesteps(*args, **kwargs)
            self._executor.start_run()
            self._steps_left, self._problem, self._first = len(self._scheduler.timesteps), "", True

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Return the latents x' = f x + g e of the next step, computed by the server.

        Raises:
            CompileError: before anything is sent, if the initial latents are not those of `initial_noise`.
            InputError: at the run's last step, if a value was not finite: stopping earlier would reveal at which step. At once, if
                another thread called `set_timesteps` last.
            ProtocolError: if the server refuses or is gone.
        """
        with self._call_lock.call():
            previous = self._previous(model_output, timestep, sample, generator)
        if not return_dict:
            return (previous,)
        from diffusers.schedulers.scheduling_utils import SchedulerOutput

        return SchedulerOutput(prev_sample=previous)

    def _previous(
        self, model_output: torch.Tensor, timestep: int | torch.Tensor, sample: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Check the arguments and return the latents of the next step, which has the previous timestep."""
        self._check_start(sample, generator)
        if not (torch.isfinite(model_output).all() and torch.isfinite(sample).all()):
            self._problem = "a value was NaN or infinite and was clipped"
        scheduler, t = self._scheduler, int(timestep)
        if type(scheduler).__name__ == "PNDMScheduler":
            previous: torch.Tensor = scheduler.step(model_output, t, sample, return_dict=False)[0]
        else:
            ratio = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
            previous = self._update(sample, t, t - ratio, model_output)
        self._steps_left -= 1
        if self._problem and self._steps_left <= 0:
            problem, self._problem = self._problem, ""
            raise InputError(f"{problem}; the result of this run is not usable")
        return previous

    def _check_start(self, sample: torch.Tensor, generator: torch.Generator | None) -> None:
        """Raise `CompileError` unless the latents of a run's first step may be revealed in part."""
        first, self._first = self._first, False
        if not first or not self._reveals:
            return
        own = self._noise is not None and self._noise.shape == sample.shape
        if generator is not None or not own or not torch.equal(sample.detach().cpu().float(), self._noise * self.init_noise_sigma):
            self._first = True
            raise CompileError(
                Diagnostic(
                    "edge noise -> sample: the initial latents come from a generator whose state follows from a few revealed "
                    "entries (an integer seed, or torch's own)",
                    help="pass latents=scheduler.initial_noise(batch) to the pipeline, and no generator",
                )
            )

    def _update(self, sample: torch.Tensor, timestep: int, prev_timestep: int, model_output: torch.Tensor) -> torch.Tensor:
        """Send one request and return the new latents. For v-prediction the client computes e = sqrt(abar) v + sqrt(1 - abar) x
        first."""
        scheduler, manifest = self._scheduler, self._executor.bundle.manifest
        abar = float(scheduler.alphas_cumprod[timestep])
        before = float(scheduler.alphas_cumprod[prev_timestep] if prev_timestep >= 0 else scheduler.final_alpha_cumprod)
        noise = model_output
        if scheduler.config.prediction_type == "v_prediction":
            noise = math.sqrt(abar) * model_output + math.sqrt(1 - abar) * sample
        expected = (len(sample), *manifest.inputs[0].shape[1:])
        if tuple(sample.shape) != expected or noise.shape != sample.shape or not 1 <= len(sample) <= manifest.max_batch:
            raise InputError(
                f"latents {tuple(sample.shape)} and predictions {tuple(noise.shape)}: the artifact takes {expected[1:]} in "
                f"batches of 1 to {manifest.max_batch}"
            )
        inputs = {
            "sample": sample.detach().cpu().float().numpy(),
            "noise": noise.detach().cpu().float().numpy(),
            "step": np.array([timestep, *coefficients(abar, before)]),
        }
        return torch.from_numpy(self._executor.run(inputs, len(sample))[0]).to(sample)


def _check_share(bundle: Bundle, most_clear: float) -> None:
    """Raise `ProtocolError` if the artifact reveals a larger fraction of entries than this client allows."""
    from hecompile.backends.sampler_step.client import SamplerStepClient

    shares = [client.clear_share for client in bundle.calls.values() if isinstance(client, SamplerStepClient)]
    if len(shares) != 1:
        raise ProtocolError(f"{bundle.folder} is not a sampler's artifact: make one with hecompile compile-sampler")
    if shares[0] > most_clear:
        raise ProtocolError(
            f"{bundle.folder}: sample and noise -> sampler: {shares[0]:.1%} of the entries would be revealed, counted over all "
            f"steps; this client insists on at most {most_clear:.1%} (most_clear)"
        )


def _check_scheduler(scheduler: Any) -> None:
    """Raise `CompileError` unless every step of the scheduler is f x + g e with public f and g."""
    name, config = type(scheduler).__name__, scheduler.config
    reasons = {
        "PNDMScheduler": [] if config.get("skip_prk_steps") else ["set skip_prk_steps=True: Runge-Kutta steps are not PLMS"],
        "DDIMScheduler": [
            f"set {flag}=False: clipping is not a linear combination of latents and noise"
            for flag in ("clip_sample", "thresholding")
            if config.get(flag)
        ],
    }
    if name not in reasons:
        raise CompileError(
            Diagnostic(
                f"the steps of {name} are not known to be linear combinations of latents and noise",
                help=f"known: {', '.join(sorted(reasons))}",
            )
        )
    if config.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction"):
        reasons[name].append(f"prediction_type '{config['prediction_type']}' is neither epsilon nor v_prediction")
    if reasons[name]:
        raise CompileError([Diagnostic(f"{name} as it is configured cannot run encrypted", help=help) for help in reasons[name]])
