from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hecompile.buffers import Buffer

compiler: str
SEED_BYTES: int
BLOCKS_PER_SEED: int

class Layout:
    @property
    def blocks(self) -> int: ...
    @property
    def uploads(self) -> int: ...
    @property
    def answers(self) -> int: ...
    @property
    def seeds(self) -> int: ...
    @property
    def gather_indices(self) -> list[int]: ...
    @property
    def offsets(self) -> list[int]: ...
    @property
    def up_bytes(self) -> int: ...
    @property
    def down_b_bytes(self) -> int: ...
    @property
    def down_a_bytes(self) -> int: ...

def make_layout(
    dimension: int,
    q: int,
    t_bits: int,
    elements: int,
    picture: tuple[int, int, int],
    result: tuple[int, int, int],
    taps: npt.NDArray[np.int32],
    packing: tuple[int, int, int, int],
    drops: tuple[int, int],
) -> Layout: ...
def traveling_bytes(size: int) -> npt.NDArray[np.uint8]: ...

class ClientLayer:
    def set_results(
        self,
        rows: npt.NDArray[np.int64],
        scales: npt.NDArray[np.float64],
        bias: npt.NDArray[np.float32],
        part_sizes: Sequence[int],
    ) -> None: ...

def make_client_layer(
    layout: Layout,
    limit: float,
    requests: int,
    runs: tuple[int, int],
    elements: npt.NDArray[np.int64],
    scale_of: npt.NDArray[np.int32],
    channels: npt.NDArray[np.int64],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
    steps: tuple[int, int],
) -> ClientLayer: ...

class Request:
    def scales(self, layer: int) -> list[float]: ...
    @property
    def brings_seeds(self) -> bool: ...

class Run:
    def __init__(self) -> None: ...
    @property
    def kept_bytes(self) -> int: ...

def encrypt(
    layers: Sequence[ClientLayer | Layout],
    values: Sequence[npt.NDArray[np.float32] | npt.NDArray[np.int64]],
    contexts: Sequence[bytes],
    out: Buffer,
    offsets: Sequence[int],
    run: Run | None = None,
) -> Request: ...
def decrypt(
    request: Request,
    reply: Buffer,
    offsets: Sequence[int],
    results: Sequence[list[npt.NDArray[np.float32]] | npt.NDArray[np.int64]],
) -> None: ...

class Weights:
    @property
    def bytes(self) -> int: ...

def make_weights(layout: Layout, values: npt.NDArray[np.int8], transform: bool, keep_bytes: int) -> Weights: ...
def evaluate(
    layout: Layout,
    weights: Weights,
    words: Buffer,
    seeds: Buffer | None,
    context: bytes,
    added: npt.NDArray[np.int64] | None,
    out: Buffer,
    offset: int,
) -> str | None: ...
def working_bytes(layout: Layout, transform: bool) -> int: ...
def public_words(layout: Layout, seeds: Buffer, context: bytes) -> npt.NDArray[np.uint64]: ...
def kernel() -> str: ...
def kernels() -> list[str]: ...
def use_kernel(name: str) -> None: ...
def self_test(name: str) -> bool: ...
def set_threads(count: int) -> None: ...
def threads() -> int: ...
def flush_denormals(on: bool) -> None: ...
