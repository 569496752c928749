"""Which ops of UNets Concrete ML takes: found by asking it, op by op. `docs/concrete-ops.md` is this table.

`python -m benchmarks.concrete_ops docs/concrete-ops.md` writes it anew; a slow test compares.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.concrete_ops import rewrites
from hecompile.backends.concrete.lookups.lowering import Widths, export, lower_region
from hecompile.errors import CompileError

__all__ = ["Row", "render", "table"]

SHAPE = (2, 4, 4)
HEAD = """# Ops of UNets under Concrete ML

Written by `python -m benchmarks.concrete_ops`, which gives each op to Concrete ML 1.9 alone (4 bits, pictures of
2x4x4) and quotes its answer. *Lookups* are programmable bootstraps; none means that no evaluation key is needed. *Rewritten* is the
same computation in other words; its values were compared with the op's own in float32.

| op | Concrete ML | lookups | rewritten | then | lookups |
|---|---|---|---|---|---|
"""
TAIL = """
`--backend concrete` sends the client whatever is refused, and runs conv, linear, strided, transposed and upsampled convs as
circuits without lookups, several of them as one where that is faster. `--backend concrete_lookups` takes conv, activation, conv in
a row wholly to the server.

What compiling rewrites by itself: upsampling and transposed convs into their conv, and with `--norms static` a GroupNorm into the
conv before it, where nothing else reads that conv, or into unpadded convs after it. Under `concrete_lookups` such a norm has one
scale and shift for all timesteps, as a circuit has one table, and conv, GroupNorm, activation, conv becomes a row for the server. A
GroupNorm that reads a sum (a residual, a time embedding) is not rescued: it runs at the client, as a concat before a conv does.
"""


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.function(value)


class Skip(nn.Module):
    """A layer and what it read, added."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.conv(value) + value


class TimeBias(Skip):
    """A layer and a constant per channel, added."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.register_buffer("constant", torch.ones(1, 2, 1, 1) / 2)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.conv(value) + self.constant


class _Tuple(nn.Module):
    """A module as the lowering takes regions."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, value: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.inner(value),)


@dataclass(frozen=True)
class Verdict:
    """What Concrete ML says of one module: its lookups, or its message."""

    lookups: int
    message: str = ""

    @property
    def accepted(self) -> bool:
        return not self.message


@dataclass(frozen=True)
class Row:
    """An op, and a rewrite of it if there is one."""

    op: str
    verdict: Verdict
    rewrite: str = ""
    rewritten: Verdict | None = None


def _short(message: str) -> str:
    """Concrete's words without addresses, numbers of nodes and line breaks, one cell long."""
    text = re.sub(r"0x[0-9a-f]+", "0x", " ".join(message.split())).replace("|", "/")
    text = re.sub(r"^error: ", "", text)
    text = re.sub(r"Concrete refuses the region at [^:]*: ", "", text)
    text = re.sub(r" ?help: use fewer bits$", "", text)
    text = re.sub(r" Available ONNX operators: .*", "", text)
    return text if len(text) <= 160 else text[:157] + "..."


def ask(module: nn.Module, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Verdict:
    """Export, quantise and compile one module."""
    wrapped = _Tuple(module).eval()
    with torch.no_grad():
        reference = wrapped(torch.from_numpy(values))[0].numpy()
    try:
        model = export(wrapped, values[:1])  # type: ignore[arg-type]
        return Verdict(lower_region(model, values, reference, Widths(4, 6), 2.0**-40, exact=False).lookups)
    except CompileError as error:
        return Verdict(0, _short(str(error)))
    except Exception as error:  # torch's exporter has classes of its own
        return Verdict(0, _short(f"{type(error).__name__}: {error}"))


def _conv(channels: int = 2, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, 2, 3, stride, padding=1)


def _attention(value: torch.Tensor) -> torch.Tensor:
    tokens = value.flatten(2).transpose(1, 2)
    return functional.scaled_dot_product_attention(tokens, tokens, tokens)


def _gated(value: torch.Tensor) -> torch.Tensor:
    left, right = value.chunk(2, dim=1)
    return left * functional.gelu(right)


Entry = tuple[str, nn.Module, str, nn.Module | None]


def entries(values: torch.Tensor) -> list[Entry]:
    """Every op, with its rewrite."""
    torch.manual_seed(0)
    norm, conv = nn.GroupNorm(1, 2), nn.Conv2d(2, 2, 3)
    mean, deviation = values.mean().expand(2), values.var(unbiased=False).add(norm.eps).sqrt().expand(2)
    folded = rewrites.FoldedNorm(norm, conv, mean, deviation)
    concat, transposed = rewrites.ConcatConv(_conv(), _conv(4)), nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1)

    def plain(function: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
        return Function(function)

    return [
        ("conv 3x3", _conv(), "", None),
        ("conv 3x3, stride 2", _conv(stride=2), "", None),
        ("linear", nn.Linear(4, 4), "", None),
        ("transposed conv", transposed, "one conv, a channel per phase", rewrites.TransposedByPhases(transposed)),
        ("nearest upsampling", nn.Upsample(scale_factor=2, mode="nearest"), "cat and reshape", rewrites.NearestByCat()),
        ("bilinear upsampling", nn.Upsample(scale_factor=2, mode="bilinear"), "", None),
        ("average pooling", nn.AvgPool2d(2), "", None),
        ("concat, conv", concat, "sum of two convs", rewrites.SummedConv(concat)),
        ("concat", plain(lambda value: torch.cat([value, value + value], dim=1)), "", None),
        (
            "GroupNorm, conv",
            nn.Sequential(norm, conv),
            "static affine in the conv",
            folded,
        ),
        ("LayerNorm", nn.LayerNorm([2, 4, 4]), "", None),
        ("SiLU", nn.SiLU(), "", None),
        ("GELU", nn.GELU(), "", None),
        ("Mish", nn.Mish(), "", None),
        ("ReLU", nn.ReLU(), "", None),
        ("sigmoid", nn.Sigmoid(), "", None),
        ("GEGLU", plain(_gated), "", None),
        ("softmax", nn.Softmax(dim=-1), "", None),
        ("attention", plain(_attention), "", None),
        ("skip: conv(x) + x", Skip(_conv()), "", None),
        ("time bias: conv(x) + constant", TimeBias(_conv()), "", None),
        ("times a constant", plain(lambda value: value * 0.5), "", None),
        ("mean over the picture", plain(lambda value: value.mean(dim=(2, 3))), "", None),
        ("pixel shuffle", nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2)), "", None),
        ("reshape and transpose", plain(lambda value: value.reshape(-1, 2, 16).transpose(1, 2)), "", None),
    ]


def table(only: tuple[str, ...] = ()) -> list[Row]:
    """Every op asked, or those named."""
    values = np.random.default_rng(0).standard_normal((20, *SHAPE)).astype(np.float32)
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for op, module, rewrite, rewritten in entries(torch.from_numpy(values)):
            if not only or op in only:
                rows.append(Row(op, ask(module, values), rewrite, None if rewritten is None else ask(rewritten, values)))
    return rows


def _cells(verdict: Verdict | None) -> tuple[str, str]:
    if verdict is None:
        return "", ""
    return ("accepted", str(verdict.lookups or "none")) if verdict.accepted else (f"`{verdict.message}`", "")


def render(rows: list[Row]) -> str:
    """The document."""
    lines = []
    for row in rows:
        own, other = _cells(row.verdict), _cells(row.rewritten)
        lines.append(f"| {row.op} | {own[0]} | {own[1]} | {row.rewrite} | {other[0]} | {other[1]} |\n")
    return HEAD + "".join(lines) + TAIL
