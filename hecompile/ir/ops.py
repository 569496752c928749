"""The op table: every operation that a canonical graph may hold, each in one spelling.

Passes treat operations by their kind:

- `linear`: constant weights times a value (plus a constant bias); the only ops that run encrypted under `bfv`
- `bilinear`: a product of two values, linear in each of them
- `attention`: softmax(q k^T) v in one piece
- `elementwise`: combines values entry by entry, with broadcasting
- `activation`: a function of one value, entry by entry, in general not linear
- `polynomial`: a function of one value, entry by entry, of additions and multiplications alone
- `norm`, `softmax`: divides by statistics of the value itself
- `reduction`: sums, means, pools
- `shape`: moves or repeats entries, or fills in a constant, without computing
- `resize`: a fixed linear interpolation
- `embedding`: a table looked up by an index
- `cast`: another dtype
- `reveal`: the value itself, of which a part is revealed to the server
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from hecompile.errors import InternalError

__all__ = [
    "CONVOLUTIONS", "LINEAR", "OPS", "PLACES", "POLYNOMIAL", "REVEAL", "SUMS", "UPSAMPLE", "Kind", "LinearIn", "Op",
    "table_markdown",
]  # fmt: skip

Kind = Literal[
    "linear", "bilinear", "attention", "elementwise", "activation", "norm", "softmax", "reduction", "shape", "resize",
    "embedding", "cast", "polynomial", "reveal",
]  # fmt: skip

# In which of its values an op is linear: in none, in all together, in each while the others are constant, or in the first alone.
LinearIn = Literal["none", "all", "one", "first"]


@dataclass(frozen=True)
class Op:
    """One row of the table. `name` is torch's name of the overload, `short` the name in printed graphs.

    `parameters` are the names of a canonical node's arguments by position; names that end in `=` are keyword arguments.
    """

    name: str
    kind: Kind
    parameters: tuple[str, ...]
    note: str = ""
    linear_in: LinearIn = "none"

    @property
    def short(self) -> str:
        return self.name.split(".")[1].removeprefix("_")


OPS: dict[str, Op] = {}


def _add(kind: Kind, rows: Mapping[str, str], namespace: str = "aten", linear_in: LinearIn = "none") -> None:
    """Add rows to the table. Keys are overloads; values are `parameters ; note`."""
    for overload, text in rows.items():
        name = f"{namespace}.{overload}"
        if name in OPS or kind not in get_args(Kind):
            raise InternalError(f"op table: {name} twice, or an unknown kind {kind}")
        parameters, _, note = text.partition(";")
        OPS[name] = Op(name, kind, tuple(parameters.split()), note.strip(), linear_in)


_add("linear", {
    "conv2d.default": "x weight bias stride padding dilation groups; weight (O, C/groups, kh, kw), bias (O) or None",
    "linear.default": "x weight bias; weight (O, C), bias (O) or None",
    "conv_transpose2d.input": "x weight bias stride padding output_padding groups dilation; weight (C, O/groups, kh, kw)",
}, linear_in="first")  # fmt: skip
_add("bilinear", {"matmul.default": "x y; two values, batched by broadcasting"}, linear_in="one")
_add("attention", {
    "scaled_dot_product_attention.default": "query key value mask dropout causal scale=; (..., L, E); scale always given",
})  # fmt: skip
_add("elementwise", {
    "add.Tensor": "x y", "sub.Tensor": "x y",
}, linear_in="all")  # fmt: skip
_add("elementwise", {"mul.Tensor": "x y; a product of values where both are"}, linear_in="one")
_add("elementwise", {"div.Tensor": "x y"}, linear_in="first")
_add("elementwise", {
    "maximum.default": "x y", "minimum.default": "x y", "where.self": "condition x y",
    "eq.Tensor": "x y", "ne.Tensor": "x y", "lt.Tensor": "x y", "le.Tensor": "x y", "gt.Tensor": "x y",
    "ge.Tensor": "x y", "logical_and.default": "x y", "logical_or.default": "x y", "logical_not.default": "x",
    "pow.Tensor_Tensor": "x y; y a value", "fmod.Tensor": "x y", "remainder.Tensor": "x y",
})  # fmt: skip
_add("activation", {"neg.default": "x; linear all the same"}, linear_in="all")
_add("activation", {
    "abs.default": "x", "exp.default": "x", "log.default": "x", "sqrt.default": "x",
    "reciprocal.default": "x", "sin.default": "x", "cos.default": "x", "tanh.default": "x", "erf.default": "x",
    "floor.default": "x", "ceil.default": "x", "round.default": "x; halves to even", "sign.default": "x",
    "sigmoid.default": "x", "silu.default": "x", "gelu.default": "x approximate=; 'none' or 'tanh'",
    "relu.default": "x", "leaky_relu.default": "x slope", "elu.default": "x alpha scale input_scale",
    "mish.default": "x", "softplus.default": "x beta threshold", "hardswish.default": "x", "hardsigmoid.default": "x",
    "clamp.default": "x low high; None where open",
})  # fmt: skip
_add("norm", {
    "group_norm.default": "x groups weight bias eps; (B, C, ...), weight and bias (C) or None",
    "layer_norm.default": "x shape weight bias eps; over the last dimensions",
})  # fmt: skip
_add("softmax", {"softmax.int": "x dim"})
_add("reduction", {
    "mean.dim": "x dims keep", "sum.dim_IntList": "x dims keep",
}, linear_in="all")  # fmt: skip
_add("reduction", {"amax.default": "x dims keep", "amin.default": "x dims keep"})
_add("reduction", {"avg_pool2d.default": "x kernel stride padding ceil count_padding"}, linear_in="all")
_add("reduction", {
    "max_pool2d.default": "x kernel stride padding dilation",
})  # fmt: skip
_add("shape", {
    "reshape.default": "x sizes; at most one -1, at the dimension that grows with the batch", "permute.default": "x dims",
    "expand.default": "x sizes; -1 keeps a dimension",
    "expand_as.default": "x like; only the shape of `like` is read, never its entries",
    "cat.default": "tensors dim", "slice.Tensor": "x dim start end step",
    "index_select.default": "x dim places; entries by constant places (a list of integers), in any order, any number of times",
    "constant_pad_nd.default": "x pad value; as torch counts: last dimension first",
    "reflection_pad2d.default": "x pad", "replication_pad2d.default": "x pad",
    "upsample_nearest2d.vec": "x size factors; size is None, factors are whole numbers as floats",
}, linear_in="all")  # fmt: skip
_add("resize", {"upsample_bilinear2d.vec": "x size corners factors; size is None"}, linear_in="all")
_add("embedding", {"embedding.default": "weight index"})
_add("cast", {"to.dtype": "x dtype"})
_add("polynomial", {
    "polynomial.default": "x t low high coefficients; Chebyshev, (bins, degree + 1); row by the timestep t; range low, high (bins)",
}, namespace="hecompile")  # fmt: skip

_add("reveal", {
    "reveal.default": "x encrypted shares bits; x; channels (C) or tiles (rows, columns) outside the mask are revealed, rounded",
}, namespace="hecompile")  # fmt: skip

REVEAL, PLACES = "hecompile.reveal.default", "aten.index_select.default"
POLYNOMIAL = "hecompile.polynomial.default"
CONVOLUTIONS = ("aten.conv2d.default", "aten.conv_transpose2d.input")
SUMS = ("aten.add.Tensor", "aten.sub.Tensor")
UPSAMPLE = "aten.upsample_nearest2d.vec"
LINEAR = tuple(name for name, op in OPS.items() if op.kind == "linear")


_HEADER = """# Operations of a canonical graph

What a graph may hold after `canonicalize`; other spellings of torch and ONNX are rewritten to these, or refused.
`=` marks keywords.
Generated by `hecompile.ir.ops.table_markdown()`.

| operation | kind | arguments | note |
|---|---|---|---|
"""


def table_markdown() -> str:
    """Return the op table as the text of `docs/ops.md`."""
    rows = (f"| `{op.name.removeprefix('aten.')}` | {op.kind} | `{' '.join(op.parameters)}` | {op.note} |" for op in OPS.values())
    return _HEADER + "\n".join(rows) + "\n"
