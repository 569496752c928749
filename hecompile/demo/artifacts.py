"""What the page needs compiled, made when it is first needed: two artifacts of `shapes`, and a sampler's step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.artifact import read_manifest
from hecompile.artifact_files import FORMAT, checked, digest, file_digest
from hecompile.errors import CompileError, Diagnostic, ProtocolError
from hecompile.version import __version__

if TYPE_CHECKING:
    from hecompile.calibration.calls import Call

__all__ = ["BUDGET", "TAU", "Artifacts", "default_folder"]

BUDGET = 0.3  # of `min-distortion`: the share of a value's distortion that what is shown of it may have
TAU = 0.1  # of `he-diffusion`: the same of the latent
CAPTIONS, CAPTION_STEPS = 8, 4  # that choose the sampler's mask


def default_folder() -> Path:
    """Where artifacts are kept from one demo to the next: `demo` in `~/.cache/hecompile`, or in what HECOMPILE_CACHE says."""
    return Path(os.environ.get("HECOMPILE_CACHE") or "~/.cache/hecompile").expanduser() / "demo"


class Artifacts:
    """A folder of artifacts by policy. One is compiled when it is asked for and missing.

    Its name ends with a digest of what it depends on, so that another version of the library, or other weights, make another.
    `he-diffusion` is the artifact of a sampler's step. It is never served: it says what that policy would show.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = dict[str, Path]()

    def of(self, policy: str, tell: Callable[[str], None]) -> Path:
        """The artifact for a policy.

        Args:
            tell: called with a sentence before something is compiled, which takes long.

        Raises:
            CompileError: for a folder that cannot be written to, or an artifact that changed since it was compiled.
        """
        if policy not in self._ready:
            artifact = self._folder / f"{policy}-{_digest()}.he"
            if not artifact.exists():
                tell(f"compiling the model for {policy}, once")
                _compile(policy, artifact)
            elif not _whole(artifact, policy):
                raise CompileError(
                    Diagnostic(f"{artifact} is not as it was compiled", help="remove that folder, and it is compiled again")
                )
            self._ready[policy] = artifact
        return self._ready[policy]


def _compile(policy: str, artifact: Path) -> None:
    """Write the artifact for a policy."""
    from hecompile.compiler import compile_model
    from hecompile.sampler_artifact import SamplerOptions, compile_sampler

    if policy == "strict":
        compile_model("shapes", artifact, progress=False)
    elif policy == "min-distortion":
        compile_model("shapes", artifact, policy=policy, budget=BUDGET, progress=False)
    else:
        calls = _calls()
        channels, height, width = calls[0].inputs["sample"].shape[1:]
        compile_sampler(artifact, (channels, height, width), calls, SamplerOptions(tau=TAU, fill=False, max_batch=1))


def _digest() -> str:
    """What artifacts depend on, in 12 hexadecimal digits: version, format of artifacts, weights, and the options above."""
    from hecompile.models.shapes import PIPELINE

    weights = file_digest(PIPELINE / "unet" / "diffusion_pytorch_model.safetensors")
    return digest(f"{__version__} {FORMAT} {weights} {BUDGET} {TAU}".encode())[:12]


def _whole(artifact: Path, policy: str) -> bool:
    """Whether an artifact of this policy is there, every file as its checksum says."""
    try:
        manifest = read_manifest(artifact)
        for name in manifest.files:
            checked(artifact, manifest.files, name)
    except ProtocolError:
        return False
    return manifest.policy == policy


def _calls() -> list[Call]:
    """Latents (1, 48, 8, 8) of captions that the model was trained on, at every step: they choose the sampler's mask."""
    import random

    import torch

    from hecompile.calibration.calls import Call
    from hecompile.models.shapes import GUIDANCE, load_pipeline
    from hecompile.models.shapes.scenes import random_scene
    from hecompile.threads import one_thread

    pipe, rng, calls = load_pipeline(), random.Random(0), list[Call]()

    def keep(pipe: object, step: int, timestep: torch.Tensor, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        calls.append(Call({"sample": values["latents"].numpy().copy(), "timestep": timestep.numpy()}))
        return {}

    with one_thread(True):
        for number in range(CAPTIONS):
            pipe(
                random_scene(rng, "train").caption, num_inference_steps=CAPTION_STEPS, guidance_scale=GUIDANCE,
                generator=torch.Generator().manual_seed(number), callback_on_step_end=keep, output_type="latent",
            )  # fmt: skip
    return calls
