"""What the user may choose when compiling. The command line derives its flags from these fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hecompile.errors import CompileError, Diagnostic, unknown_name

if TYPE_CHECKING:
    from hecompile.policies.base import Policy
    from hecompile.sparsity.selection import Grouping

__all__ = ["CompileOptions"]

PROTECT_WEIGHTS = (
    "answers are not circuit-private: their `a` polynomials are sums of known polynomials with the weights as "
    "coefficients, so one answer gives the weights away. hecompile is for weights that the client may know"
)


PARTITIONS = ("all", "optimised")
MOST_DEGREE = 31  # above it float32 adds no accuracy
ACTIVATIONS = ("exact", "polynomial")
NORMS = ("exact", "static", "polynomial")
SITES = ("all", "inner")
GRANULARITIES = ("channel", "tile")
_SIZE = re.compile(r"[1-9]\d{0,4}x[1-9]\d{0,4}")
MOST_TOKENS = 8192


def _layered(name: str) -> bool:
    """Whether a backend encrypts, and runs single layers at a price, so that a plan may choose for each."""
    from hecompile.backends.registry import backend

    chosen = backend(name)
    return chosen.guarantee.encrypts and chosen.runs_layers


@dataclass(frozen=True)
class CompileOptions:
    """Choices of one compilation, checked when built.

    Raises:
        CompileError: for a name that does not exist, or a choice that cannot be kept.
    """

    policy: str | None = field(default=None, metadata={"help": "who may see what; default: strict, simulation for clear"})
    backend: str = field(default="bfv", metadata={"help": "how secret layers run at the server"})
    security: int = field(default=128, metadata={"help": "bits of security of the lattice parameters"})
    max_batch: int = field(default=16, metadata={"help": "largest batch of one request; larger ones are cut"})
    public: tuple[str, ...] = field(default=(), metadata={"help": "inputs to declare public besides the timestep"})
    size: str | None = field(
        default=None, metadata={"help": "rows x columns of the sample, in latent pixels, as 64x64; default: the configuration's"}
    )
    tokens: int | None = field(default=None, metadata={"help": "length of the prompt; default: the text encoder's, mostly 77"})
    partition: str = field(
        default="all", metadata={"help": "all secret convs and linears to the server, or optimised: the fastest plan"}
    )
    client_seconds: float | None = field(default=None, metadata={"help": "optimised: most CPU seconds of the client per call"})
    client_weights_mib: float | None = field(default=None, metadata={"help": "optimised: most int8 weights that the client holds"})
    most_rounds: int | None = field(default=None, metadata={"help": "optimised: most requests per call"})
    most_distortion: float | None = field(default=None, metadata={"help": "optimised: most relative variance of the output"})
    most_leakage: float | None = field(default=None, metadata={"help": "optimised: most of what layers read that is in clear"})
    server_mib: float | None = field(default=None, metadata={"help": "optimised: most memory of the server"})
    pin: tuple[str, ...] = field(default=(), metadata={"help": "optimised: layer=side by name or pattern, sides client and server"})
    among: tuple[str, ...] = field(
        default=(), metadata={"help": "optimised: backends that layers may run under besides --backend; concrete"}
    )
    p_error: float = field(default=2.0**-40, metadata={"help": "concrete: probability that one result, or lookup, is wrong"})
    machine: str | None = field(
        default=None,
        metadata={"help": "profile written by measure-machine, to choose parameters and plans by; default: a usual one"},
    )
    budget: float | None = field(
        default=None, metadata={"help": "min-distortion: most of a value's distortion that its part in clear may have, 0 to 1"}
    )
    importance: str = field(default="hill", metadata={"help": "min-distortion: how important an entry is"})
    granularity: str = field(default="channel", metadata={"help": "min-distortion: channel, or tile: rectangles of all channels"})
    tile: str = field(default="4x4", metadata={"help": "granularity tile: rows x columns of a tile; cut to what a picture has"})
    reveal_bits: int = field(default=8, metadata={"help": "min-distortion: bits of an entry in clear, 2 to 11"})
    declare: tuple[str, ...] = field(
        default=(), metadata={"help": "min-distortion: values that may be shown though latent, noise or prompt follow from them"}
    )
    lookup_db: float = field(default=25.0, metadata={"help": "concrete_lookups: least PSNR of a region against float32, in dB"})
    lookup_seconds: float = field(default=180.0, metadata={"help": "concrete_lookups: most predicted CPU seconds of a region"})
    lookup_key_mib: float = field(default=2048.0, metadata={"help": "concrete_lookups: most MiB of a region's evaluation keys"})
    key_mib: float | None = field(default=None, metadata={"help": "ckks: most MiB of a region's keys, for more rotations"})
    activations: str = field(default="exact", metadata={"help": "exact at the client, or polynomial: additions and products only"})
    norms: str = field(
        default="exact", metadata={"help": "exact at the client, static: a fixed scale and shift, or polynomial: by sums"}
    )
    sites: str = field(default="all", metadata={"help": "which to approximate: all, or inner ones that nothing else reads"})
    degree: int | None = field(default=None, metadata={"help": "polynomial: one degree for every site; default 7"})
    budget_db: float | None = field(default=None, metadata={"help": "polynomial: least PSNR of the result, for the least depth"})
    total_depth: int | None = field(default=None, metadata={"help": "polynomial: most depth of all sites together, best spent"})
    clamp: bool = field(default=False, metadata={"help": "polynomial: keep arguments in range, at the client"})
    calibration: str | None = field(default=None, metadata={"help": "file of recorded calls; default: the model's own sampler"})
    verify: bool = field(default=False, metadata={"help": "compare before and after each pass for large models too"})
    protect_weights: bool = field(default=False, metadata={"help": "refused: see the documentation"})

    def __post_init__(self) -> None:
        from hecompile.backends.registry import backend
        from hecompile.policies import policy
        from hecompile.security.table import max_q_bits

        encrypts = backend(self.backend).guarantee.encrypts
        if self.activations == self.norms == "exact":
            for name, value in backend(self.backend).recommended.items():
                object.__setattr__(self, name, value)
        max_q_bits(2048, self.security)
        self._check_size()
        if self.policy is None:
            object.__setattr__(self, "policy", "strict" if encrypts else "simulation")
        chosen = policy(self.policy_name)
        if chosen.needs_encryption and not encrypts:
            raise CompileError(
                Diagnostic(
                    f"policy '{chosen.name}' needs encryption and backend '{self.backend}' does not encrypt",
                    help="leave --policy away (it becomes 'simulation'), or use --backend bfv",
                )
            )
        self._check_reveals(chosen)
        if not 1 <= self.max_batch <= 256:
            raise CompileError(f"max_batch is {self.max_batch}: it must be between 1 and 256")
        if not 2.0**-128 <= self.p_error <= 2.0**-10:
            raise CompileError(f"p_error is {self.p_error}: it must be between 2^-128 and 2^-10")
        if self.partition not in PARTITIONS:
            raise unknown_name("partition", self.partition, PARTITIONS)
        limits = (self.client_seconds, self.client_weights_mib, self.most_rounds)
        budgets = (*limits, self.most_distortion, self.most_leakage, self.server_mib, *self.pin, *self.among)
        if self.partition == "all" and any(budget is not None for budget in budgets):
            raise CompileError(Diagnostic("budgets and pins are for --partition optimised", help="add it, or leave them away"))
        if self.key_mib is not None and not self.key_mib > 0:
            raise CompileError(f"key_mib is {self.key_mib}: it must be above zero")
        if self.most_distortion is not None and self.backend.startswith("ckks"):
            raise CompileError(Diagnostic("the distortion of ckks regions is not priced", help="leave --most-distortion away"))
        self._check_among()
        if any("=" not in pin for pin in self.pin):
            raise CompileError(f"pins are written layer=side, not {', '.join(self.pin)}")
        for kind, name, known in (
            ("way of activations", self.activations, ACTIVATIONS), ("way of norms", self.norms, NORMS),
            ("choice of sites", self.sites, SITES),
        ):  # fmt: skip
            if name not in known:
                raise unknown_name(kind, name, known)
        self._check_degrees()
        if self.protect_weights:
            raise CompileError(Diagnostic("--protect-weights is not possible", help=PROTECT_WEIGHTS))

    def _check_size(self) -> None:
        """Write a size as text, whether it was given as `(64, 48)`, `64` or `"64x48"`. Raises `CompileError` for anything else."""
        size: Any = self.size
        if isinstance(size, int) and not isinstance(size, bool):
            size = (size, size)
        if isinstance(size, tuple | list):
            size = "x".join(map(str, size))
        if size is not None and (not isinstance(size, str) or not _SIZE.fullmatch(size)):
            raise CompileError(Diagnostic(f"a size of {self.size!r}", help="give rows and columns in latent pixels, as 64x64"))
        object.__setattr__(self, "size", size)
        if self.tokens is not None and not 1 <= self.tokens <= MOST_TOKENS:
            raise CompileError(f"tokens is {self.tokens}: it must be between 1 and {MOST_TOKENS}")

    @property
    def sample_size(self) -> tuple[int, int] | None:
        """Height and width of the sample; None for the configuration's."""
        if self.size is None:
            return None
        height, width = self.size.split("x")
        return int(height), int(width)

    def _check_among(self) -> None:
        """Raises `CompileError` for backends that the optimiser cannot put beside the chosen one."""
        from hecompile.backends.registry import backend_names

        for name in self.among:
            if not (_layered(name) and _layered(self.backend) and name != self.backend):
                choice = f"two different ones of {', '.join(each for each in backend_names() if _layered(each))}"
                raise CompileError(Diagnostic(f"--among {name} beside --backend {self.backend}", help=choice))

    def _check_reveals(self, chosen: Policy) -> None:
        from hecompile.backends.registry import backend
        from hecompile.ir.channels import REVEAL_BITS
        from hecompile.sparsity.importance import cost_function

        cost_function(self.importance)
        self.grouping()
        if chosen.may_reveal and not backend(self.backend).guarantee.hides_key:
            raise CompileError(
                Diagnostic(
                    f"policy '{chosen.name}' shows values that '{self.backend}' decrypted, and their errors give its key away",
                    help="use --backend bfv with it, or --policy strict",
                )
            )
        if (chosen.name == "min-distortion" and self.budget is None) or not 0 <= (self.budget or 0) < 1:
            raise CompileError(Diagnostic(f"min-distortion with a budget of {self.budget}", help="give --budget from 0 to below 1"))
        if not chosen.may_reveal and (self.budget is not None or self.declare):
            raise CompileError(Diagnostic(f"policy '{chosen.name}' shows nothing", help="--budget is for --policy min-distortion"))
        if not REVEAL_BITS[0] <= self.reveal_bits <= REVEAL_BITS[1]:
            raise CompileError(
                Diagnostic(
                    f"reveals of {self.reveal_bits} bits: {REVEAL_BITS[1]} is the most, what is encrypted has one more",
                    help=f"--reveal-bits {REVEAL_BITS[0]} to {REVEAL_BITS[1]}",
                )
            )

    def grouping(self) -> Grouping:
        """What is released together. Raises `CompileError` for an unknown granularity, or a tile without entries."""
        from hecompile.sparsity.selection import Grouping, tile_size

        if self.granularity not in GRANULARITIES:
            raise unknown_name("granularity", self.granularity, GRANULARITIES)
        return Grouping(self.granularity, tile_size(self.tile))  # type: ignore[arg-type]

    @property
    def policy_name(self) -> str:
        """The policy, with the default filled in."""
        if self.policy is None:
            raise CompileError("no policy")
        return self.policy

    def _check_degrees(self) -> None:
        """Raises `CompileError` for degrees that are chosen twice, are out of bounds, or belong to no polynomial."""
        chosen = [name for name in ("degree", "budget_db", "total_depth") if getattr(self, name) is not None]
        flags = " and ".join("--" + name.replace("_", "-") for name in chosen)
        if len(chosen) > 1:
            raise CompileError(Diagnostic(f"{flags} each choose the degrees", help="give one of them"))
        if self.activations == "exact" and (chosen or self.clamp or self.norms == "polynomial"):
            what = flags or ("--clamp" if self.clamp else "--norms polynomial")
            raise CompileError(Diagnostic(f"{what} is about polynomials", help="add --activations polynomial, or leave it away"))
        if self.degree is not None and not 1 <= self.degree <= MOST_DEGREE:
            raise CompileError(f"degree is {self.degree}: it must be between 1 and {MOST_DEGREE}")
