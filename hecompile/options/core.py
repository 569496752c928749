"""The options of every compilation, whatever its backend and policy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from hecompile.backends.registry import model_backends
from hecompile.errors import CompileError, Diagnostic
from hecompile.panels import AllOptions, Panel, option
from hecompile.policies import model_policies
from hecompile.security.table import LEVELS, max_q_bits

__all__ = ["CoreOptions"]

PROTECT_WEIGHTS = (
    "answers are not circuit-private: their `a` polynomials are sums of known polynomials with the weights as "
    "coefficients, so one answer gives the weights away. hecompile is for weights that the client may know"
)
MOST_TOKENS = 8192
_SIZE = re.compile(r"[1-9]\d{0,4}x[1-9]\d{0,4}")


def _size_text(size: Any) -> str:
    """Return the text `64x48` for a size that is given as `(64, 48)`, `64` or `"64x48"`. Raises `CompileError` for anything
    else."""
    given = size
    if isinstance(size, int) and not isinstance(size, bool):
        size = (size, size)
    if isinstance(size, tuple | list):
        size = "x".join(map(str, size))
    if not isinstance(size, str) or not _SIZE.fullmatch(size):
        raise CompileError(Diagnostic(f"{given!r} is not a size", help="give rows and columns in latent pixels, as 64x64"))
    return size


@dataclass(frozen=True)
class CoreOptions(Panel):
    """Options that every compilation has, such as policy, backend and sizes."""

    title: ClassVar[str] = "Options"

    policy: str | None = option(
        None, help="what the server may see", unset="strict; simulation for backends that do not encrypt", known=model_policies
    )
    backend: str = option("bfv", help="the scheme under which secret layers run at the server", known=model_backends)
    security: int = option(128, help="bits of security of the lattice parameters", known=lambda: LEVELS)
    max_batch: int = option(16, help="largest batch of one request; larger batches are sent in pieces", at_least=1, at_most=256)
    public: tuple[str, ...] = option((), help="inputs to declare public besides the timestep; may be repeated")
    size: str | None = option(
        None, help="rows x columns of the sample in latent pixels, as 64x64", unset="the configuration's", reader=_size_text
    )
    tokens: int | None = option(
        None, help="length of the prompt in tokens", unset="the text encoder's, mostly 77", at_least=1, at_most=MOST_TOKENS
    )
    machine: str | None = option(
        None, help="file that measure-machine wrote, to choose parameters and plans for that machine", unset="a common server"
    )
    calibration: str | None = option(None, help="file of recorded calls", unset="calls of the model's own sampler")
    passes: tuple[str, ...] = option((), help="passes of other packages to run, see `hecompile passes`; may be repeated")
    verify: bool = option(False, help="compare the results before and after each pass for large models too")
    protect_weights: bool = option(False, help="refused: see the documentation", hidden=True)

    def check(self) -> None:
        max_q_bits(2048, self.security)
        if self.protect_weights:
            raise CompileError(Diagnostic("--protect-weights is not possible", help=PROTECT_WEIGHTS))

    def conflicts(self, options: AllOptions) -> list[Diagnostic]:
        exact = options.value("activations") == options.value("norms") == "exact"
        if self.calibration is None or not exact or options.value("budget"):
            return []
        reason = "calibration does nothing: activations and norms stay exact, and nothing is revealed"
        return [Diagnostic(reason, help="add --activations polynomial or --policy min-distortion, or leave --calibration away")]

    @property
    def sample_size(self) -> tuple[int, int] | None:
        """The height and width of the sample in latent pixels; None if they are those of the model's configuration."""
        if self.size is None:
            return None
        height, width = self.size.split("x")
        return int(height), int(width)
