"""The canonical graph, and the record that every one of its nodes carries.

A `ModelGraph` is a `torch.fx.GraphModule` in the canonical spelling (see `hecompile.ir.ops`) with a signature. Nodes are of
four kinds: `placeholder` (one per tensor input), `get_attr` (weights and constants, tensors), `call_function` (aten
overloads of the op table) and `output` (a flat tuple). Every node but `output` carries a `NodeInfo`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hecompile.ir.signature import Keyword, Signature

if TYPE_CHECKING:
    import torch
    from torch import fx

    from hecompile.ir.approximation import Approximation
    from hecompile.ir.coo import Coo
    from hecompile.ir.linear import Array

__all__ = ["Batch", "Dim", "InputSpec", "ModelGraph", "NodeInfo", "concrete_shape", "info", "named_shape", "set_info"]

KEY = "hecompile"  # the only entry that hecompile adds to node.meta


@dataclass(frozen=True)
class Batch:
    """A dimension whose size is `multiple` times the batch size."""

    multiple: int = 1

    def __str__(self) -> str:
        return "B" if self.multiple == 1 else f"{self.multiple}B"


Dim = int | Batch


def concrete_shape(shape: tuple[Dim, ...], batch: int) -> tuple[int, ...]:
    """Return the shape at this batch size, in integers."""
    return tuple(dim.multiple * batch if isinstance(dim, Batch) else dim for dim in shape)


def named_shape(shape: tuple[Dim, ...]) -> tuple[int | str, ...]:
    """Return the shape as files hold it, such as `("B", 4, 64, 64)`."""
    return tuple(dim if isinstance(dim, int) else str(dim) for dim in shape)


@dataclass(frozen=True)
class NodeInfo:
    """What hecompile knows of a node. Passes replace this record and never change it in place."""

    shape: tuple[Dim, ...]
    dtype: str  # "float32", "int64", "bool"
    path: str = ""  # dotted path of the module it came from
    source: str = ""  # "unet_2d.py:311"
    secret: bool | None = None  # whether it derives from a secret input; None before mark-secrets
    domain: str | None = None  # "client", "server_encrypted", "server_clear"; None before partition
    region: str | None = None  # name of the region; None before partition
    backend: str | None = None  # of server nodes; None before partition
    whole: bool = False  # whether the region is lowered as one piece, not layer by layer
    per_run: bool = False  # of server nodes: the region's request is the same at every step of a run, and sent once
    coo: Coo | None = None  # of values that the server holds in part as ciphertexts

    def __str__(self) -> str:
        size = "x".join(str(dim) for dim in self.shape) or "scalar"
        kind = {None: "", True: "secret", False: "public"}[self.secret]
        return f"{kind}<{size} {self.dtype}>" + (f" {self.coo}" if self.coo else "")


def info(node: object) -> NodeInfo:
    """Return the record of a node. Raises `KeyError` for the output node, and for anything that is no node."""
    record = getattr(node, "meta", {})[KEY]
    if not isinstance(record, NodeInfo):
        raise KeyError(f"{node} carries a {type(record).__name__}, not a NodeInfo")
    return record


def secret_operands(node: fx.Node) -> list[fx.Node]:
    """Return the secret values that a node reads, each once."""
    return [operand for operand in node.all_input_nodes if info(operand).secret]


def set_info(node: fx.Node, record: NodeInfo) -> None:
    """Replace the record of a node."""
    node.meta[KEY] = record


@dataclass(frozen=True)
class InputSpec:
    """One tensor input of the model.

    `keyword` tells how the caller passes it, such as `("sample",)`, `("added_cond_kwargs", "text_embeds")` or `("residuals", 3)`.
    """

    name: str  # name of the placeholder
    keyword: Keyword
    shape: tuple[Dim, ...]
    dtype: str
    public: bool = False
    per_run: bool = False  # a condition: the same in every call of a sampling run


@dataclass(frozen=True)
class ModelGraph:
    """A graph that can be run, with its signature. `graph_module` takes tensors in the order of `inputs` and returns a tuple."""

    graph_module: fx.GraphModule
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    name: str = "model"
    config: Mapping[str, object] = field(default_factory=dict)  # of the diffusers model; `EncryptedUNet` offers it
    schedule: Mapping[str, object] | None = None  # config of the scheduler that the model samples with, where it is known
    signature: Signature = field(default_factory=Signature)
    examples: Mapping[Keyword, Array] = field(default_factory=dict, repr=False)  # one call with a batch of two, where there is one
    approximation: Approximation | None = None  # None if nothing was approximated

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result: tuple[torch.Tensor, ...] = self.graph_module(*inputs)
        return result

    @property
    def nodes(self) -> list[fx.Node]:
        """Nodes in execution order, the output node left out."""
        return [node for node in self.graph_module.graph.nodes if node.op != "output"]

    @property
    def placeholders(self) -> list[fx.Node]:
        """The inputs' nodes, in the order of `inputs`."""
        return [node for node in self.nodes if node.op == "placeholder"]

    @property
    def is_meta(self) -> bool:
        """Whether the model's tensors have shapes but no data."""
        return any(tensor.is_meta for tensor in (*self.graph_module.parameters(), *self.graph_module.buffers()))

    def described_as(self, other: ModelGraph) -> ModelGraph:
        """This graph with the schedule, signature and examples of another version of it."""
        return replace(self, schedule=other.schedule, signature=other.signature, examples=other.examples)

    def with_infos(self, change: Callable[[fx.Node, NodeInfo], NodeInfo]) -> ModelGraph:
        """Return a copy in which `change` replaced the nodes' records; the graph itself if no record changed."""
        new = {node.name: change(node, info(node)) for node in self.nodes}
        if all(new[node.name] == info(node) for node in self.nodes):
            return self
        copied = copy_module(self.graph_module)
        for node in copied.graph.nodes:
            if node.op != "output":
                set_info(node, new[node.name])
        return replace(self, graph_module=copied)


def copy_module(module: fx.GraphModule) -> fx.GraphModule:
    """Return a graph module with a copy of the graph and the same tensors."""
    from torch import fx

    graph = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, mapping)
    if output is not None:
        graph.output(output)
    return fx.GraphModule(module, graph)
