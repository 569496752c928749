"""Refuses calls that have no rule: says what each one does and what to use instead, and shows the call that an error is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.rewrites import RULES, Rule
from hecompile.ir.builder import Builder
from hecompile.ir.printing import print_call

__all__ = ["draws_numbers", "reasons", "refusal", "showing", "sized_refusal"]

_REWRITE = "rewrite it with operations of docs/ops.md, or run this part outside the compiled model"
_NOISE = "call eval() before compiling, and make noise an argument of the model"
_KINDS: dict[str, tuple[str, str]] = {
    "rand rand_like randn randn_like randint randint_like randperm normal normal_functional bernoulli multinomial poisson binomial "
    "exponential uniform log_normal geometric cauchy random native_dropout _fused_dropout rrelu_with_noise "
    "rrelu_with_noise_functional fractional_max_pool2d fractional_max_pool3d": ("draws random numbers", _NOISE),
    "topk sort argsort argmax argmin median nanmedian kthvalue mode cummax cummin _cummax_helper histc bincount histogram": (
        "depends on the order of values",
        "use amax, softmax or a comparison with a constant, or run this part outside the compiled model",
    ),
    "nonzero unique_dim _unique _unique2 unique_consecutive masked_select": (
        "makes a tensor whose size depends on values",
        "keep the size and hide entries: torch.where(mask, x, 0), or a product with the mask",
    ),
    "view_as_complex view_as_real complex polar _fft_c2c _fft_r2c _fft_c2r angle conj_physical": (
        "computes with complex numbers",
        "use real ones: rotary embeddings by cos and sin (use_real=True in diffusers); call disable_freeu() for FreeU",
    ),
    "grid_sampler_2d grid_sampler_3d affine_grid_generator": (
        "reads pixels at computed places",
        "resize with F.interpolate or move by constant places; warp outside the compiled model",
    ),
    "atan atan2 asin acos erfinv lgamma digamma polygamma i0 special_i0e special_i1 special_i1e special_erfcx igamma "
    "special_zeta special_ndtri nextafter logcumsumexp": (
        "is a function without an operation of its own",
        "use tanh, erf, exp or log, or compute it outside the compiled model",
    ),
    "__lshift__ __rshift__ bitwise_left_shift bitwise_right_shift": (
        "shifts bits",
        "use arithmetic: x * 2 in place of x << 1, x // 2 in place of x >> 1",
    ),
    "cumprod": ("is a running product", "use exp of a cumsum of logarithms, or multiply slices"),
    "as_strided as_strided_scatter as_strided_copy": ("reads memory by strides", "use slices, reshape, permute or unfold"),
    "_linalg_det _linalg_slogdet _linalg_svd _linalg_eigh _linalg_solve_ex linalg_inv_ex linalg_cholesky_ex linalg_lu_factor_ex "
    "linalg_qr linalg_lstsq linalg_matrix_exp linalg_solve_triangular linalg_pinv cholesky_inverse": (
        "solves a matrix",
        "solve matrices of weights before compiling, and those of values outside the compiled model",
    ),
    "max_unpool2d max_unpool3d": ("puts entries at computed places", "use F.interpolate or a transposed convolution"),
    "_embedding_bag _embedding_bag_forward_only": ("sums rows of a table", "use nn.Embedding and sum(1)"),
    "masked_scatter scatter_reduce index_reduce put": (
        "writes to computed places",
        "use torch.where with a mask, or write to constant places",
    ),
    "take": ("reads entries across the batch", "index the dimensions behind the batch: x.flatten(1)[:, places]"),
}
_BITS = ("reads the bits of numbers as another type", "use .to(dtype)")
_REASONS: dict[str, tuple[str, str]] = {short: reason for shorts, reason in _KINDS.items() for short in shorts.split()}
_ARITHMETIC = ("add", "sub", "mul", "div", "pow", "fill", "rsub", "remainder", "masked_fill", "clamp", "floor_divide")


def reasons() -> list[str]:
    """Return the names of the calls that are refused, without their overloads."""
    return list(_REASONS)


def draws_numbers(b: Builder, what: str) -> Diagnostic:
    """Return the error for a call that draws random numbers."""
    return Diagnostic(f"{what} draws random numbers", source=b.origin.source, help=_NOISE)


def refusal(b: Builder, name: str) -> Diagnostic:
    """Return the error for a call without a rule: what it does, where that is known, and what to use instead."""
    known = _BITS if name == "aten.view.dtype" else _REASONS.get(name.split(".")[1])
    what, help_text = known or ("is not supported", _REWRITE)
    return Diagnostic(f"{name} {what}", source=b.origin.source, help=help_text)


def sized_refusal(b: Builder, name: str) -> Diagnostic:
    """Return the error for a call with the batch size among its arguments, where that has no rule."""
    short = name.split(".")[1]
    if short in _REASONS:
        return refusal(b, name)
    if short in _ARITHMETIC:
        what, help_text = "computes with the size of the batch", "the result for an element must not depend on the batch size"
    elif short == "arange":
        what, help_text = (
            "counts the elements of the batch",
            "treat all elements of the batch alike: use x[:, place] in place of x[arange(batch), place]",
        )
    elif short in ("slice", "select", "narrow"):
        what, help_text = (
            "takes a part of the batch",
            "treat all elements of the batch alike; use chunk(2) for the halves of torch.cat([x, y])",
        )
    else:
        what = "makes a tensor whose size depends on the batch"
        help_text = "compute it from a tensor that has the batch as its first dimension"
    return Diagnostic(f"{name} {what}", source=b.origin.source, help=help_text)


@contextmanager
def showing(b: Builder, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[None]:
    """Within the block, errors are raised with the call that they are about and its source line."""
    try:
        yield
    except CompileError as error:
        line = "  ".join(part for part in (print_call(name, args, kwargs), b.origin.path) if part)
        mark = (0, len(name.split(".")[1]))
        raise CompileError(
            [replace(finding, source=finding.source or b.origin.source, line=line, underline=mark) for finding in error.diagnostics]
        ) from error


def _refused(name: str) -> Rule:
    """Return the rule that refuses a call, unless it only has constants: then torch computes it."""

    def emit(b: Builder, *args: Any, **kwargs: Any) -> Any:
        constant = b.folded(name, args, kwargs)
        if constant is None:
            raise CompileError(refusal(b, name))
        return constant

    return emit


def _dropout(b: Builder, x: Any, probability: float, train: bool) -> Any:
    """Leave dropout out, which does nothing outside training."""
    if train and probability:
        raise CompileError(draws_numbers(b, "dropout in training mode"))
    return x


for _short in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
    RULES[f"aten.{_short}.default"] = _dropout
RULES["aten.view.dtype"] = _refused("aten.view.dtype")
for _short in _REASONS:
    _packet = getattr(torch.ops.aten, _short, None)
    for _overload in _packet.overloads() if _packet is not None else ():
        RULES.setdefault(f"aten.{_short}.{_overload}", _refused(f"aten.{_short}.{_overload}"))
