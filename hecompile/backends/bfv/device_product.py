"""The server's product on a GPU: int8 matrix products by `torch._int_mm`, with exactly the words of the core's product.

Only a server that was given a device loads this module, since it imports torch. Words are cut into balanced digits d of eight bits
in [-128, 127]: the bytes of w + 128 (1 + 256 + 256^2 + ...) are d + 128. Coefficient c of an answer is the sum of w P[c + offset]
over uploads and terms (`native/core/layout.h`). So the columns of one matrix are digits of moved polynomials, the rows of the other
one are weights, and the 32-bit sums are put together modulo q in 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from hecompile import _core
from hecompile.backends.bfv.messages import core_layout
from hecompile.backends.bfv.program import LayerProgram
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["DeviceProduct", "device_of"]

DIGIT_BITS = 8
MOST_SUMMED = (1 << 31) // (127 * 128)  # how many products of a weight and a digit 32 bits can sum
COLUMN_BYTES = 256 << 20  # most bytes of moved digits at once
MULTIPLE, LEAST_ROWS = 8, 32  # cuBLAS multiplies int8 matrices whose sides are multiples of 8, with more than 16 rows


def device_of(name: str) -> torch.device:
    """The device with this name: "cpu", "cuda", "cuda:1" and so on. Raises `ProtocolError` if this process has no such device."""
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name):
        raise ProtocolError(f"--device {name}: the devices are cpu, cuda, and cuda:1 and so on")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ProtocolError(f"--device {name}: torch {torch.__version__} finds no CUDA device")
    return device


class DeviceProduct:
    """The product of one layer at one batch size on one device. Immutable; several requests may use it at once."""

    def __init__(self, layer: LayerProgram, batch: int, weights: npt.NDArray[np.int8], device: torch.device) -> None:
        """Move the weights, int8 (rows, channels, taps), to the device. Raises `ProtocolError` for a weight of -128."""
        layout, row = layer.layout(batch), layer.packings[batch - 1]
        self._layout, self._device = core_layout(layer, batch), device
        self._n, self._q, self._q_bits = layer.parameters.dimension, layer.q, layer.parameters.q_bits
        self._delta = (layer.q - 1) >> layer.parameters.t_bits
        self._drop_b, self._drop_a = row.drop_b, row.drop_a
        if weights.min(initial=0) == -128:
            raise ProtocolError(f"layer of {layer.input}: a weight of -128, which no quantiser gives")
        matrix = _matrix(weights, self._layout, layout.packing.p_in, layout.packing.p_out)
        rows, self._entries = matrix.shape
        padded = np.zeros((max(LEAST_ROWS, _up(rows)), _up(self._entries)), np.int8)
        padded[:rows, : self._entries] = matrix
        self._weights = torch.from_numpy(padded).to(device)
        offsets = torch.tensor(self._layout.offsets, dtype=torch.int64, device=device)
        self._low, self._high = min(0, *self._layout.offsets), max(0, *self._layout.offsets)
        self._starts = offsets - self._low
        self._gather_indices = torch.tensor(self._layout.gather_indices, dtype=torch.int64, device=device)

    def evaluate(
        self, words: Buffer, seeds: Buffer | None, context: bytes, added: npt.NDArray[np.int64] | None, out: memoryview, offset: int
    ) -> str | None:
        """Like `_core.evaluate`: write `b` of the answers to `out` from `offset` on, then `a` if there are seeds.

        Returns None, or the reason why the request is refused.
        """
        layout, bits = self._layout, self._q_bits
        count = layout.blocks * layout.uploads * self._n
        packed = torch.from_numpy(np.frombuffer(words, np.uint8, layout.up_bytes).copy()).to(self._device)
        uploads, padding = _unpacked(packed, count, bits)
        if bool(padding.any()):
            return "the bits after the last word are not zero"
        if bool((uploads >= self._q).any()):
            return "a word of the request is not below q"
        answers = self._answers(uploads.view(layout.blocks, layout.uploads, self._n), self._gather_indices)
        if added is not None:
            encoded = torch.from_numpy(np.ascontiguousarray(added)).to(self._device).view(answers.shape)
            answers = torch.remainder(answers + encoded * self._delta, self._q)
        end = offset + layout.down_b_bytes
        out[offset:end] = _packed(_rounded(answers, self._drop_b, bits), bits - self._drop_b)
        if seeds is None:
            return None
        try:
            public = _core.public_words(layout, seeds, context)
        except ValueError as error:
            return str(error)
        every = torch.arange(self._n, device=self._device)
        on_device = torch.from_numpy(public.view(np.int64)).to(self._device).view(layout.seeds, layout.uploads, self._n)
        answers = self._answers(on_device, every)
        out[end : end + layout.down_a_bytes] = _packed(_rounded(answers, self._drop_a, bits), bits - self._drop_a)
        return None

    def _answers(self, words: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Multiply (polynomials, uploads, N) words below q to (polynomials, answers, coefficients) words below q."""
        low, high = -self._low, self._high
        negated = self._q - words  # q where a word is zero, which is the same modulo q
        parts = [negated[..., self._n - low :], words, negated[..., :high]]
        digits = _digits(torch.cat(parts, dim=-1), self._q_bits)  # (limbs, polynomials, uploads, low + N + high)
        sums = [
            self._sums(polynomial, places) for polynomial in digits.unbind(1) for places in self._pieces(len(digits), coefficients)
        ]
        pieces = len(sums) // words.shape[0]
        rows = [torch.cat(sums[start : start + pieces], dim=-1) for start in range(0, len(sums), pieces)]
        return torch.stack(rows)

    def _pieces(self, limbs: int, coefficients: torch.Tensor) -> Iterator[torch.Tensor]:
        """The coefficients of an answer in pieces, each of which is computed at once."""
        return iter(torch.split(coefficients, max(MULTIPLE, COLUMN_BYTES // (limbs * self._weights.shape[1]))))

    def _sums(self, digits: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """One polynomial's digits (limbs, uploads, moved coefficients) to words (answers, coefficients) below q."""
        limbs, count = len(digits), len(coefficients)
        moved = digits[:, :, self._starts[:, None] + coefficients]  # (limbs, uploads, terms, coefficients)
        columns = torch.zeros((self._weights.shape[1], _up(limbs * count)), dtype=torch.int8, device=self._device)
        columns[: self._entries, : limbs * count] = moved.permute(1, 2, 0, 3).reshape(self._entries, limbs * count)
        total = torch.zeros((len(self._weights), columns.shape[1]), dtype=torch.int64, device=self._device)
        step = MOST_SUMMED // MULTIPLE * MULTIPLE
        for start in range(0, len(columns), step):
            total += torch._int_mm(self._weights[:, start : start + step].contiguous(), columns[start : start + step])
        sums = total[: self._layout.answers, : limbs * count].reshape(-1, limbs, count)
        result = torch.zeros_like(sums[:, 0])
        for limb in reversed(range(limbs)):
            result = torch.remainder((result << DIGIT_BITS) + sums[:, limb], self._q)  # below 2^59
        return result


def _matrix(weights: npt.NDArray[np.int8], layout: _core.Layout, p_in: int, p_out: int) -> npt.NDArray[np.int8]:
    """Weights (rows, channels, taps) as a matrix (answers, uploads x terms), zero beyond the last row and channel."""
    rows, channels, taps = weights.shape
    whole = np.zeros((layout.answers * p_out, layout.uploads * p_in, taps), np.int8)
    whole[:rows, :channels] = weights
    parted = whole.reshape(layout.answers, p_out, layout.uploads, p_in, taps).transpose(0, 2, 1, 3, 4)
    return parted.reshape(layout.answers, -1)


def _digits(words: torch.Tensor, q_bits: int) -> torch.Tensor:
    """Balanced digits of words up to 2^q_bits, the lowest first: int8 (limbs, ...)."""
    limbs = q_bits // DIGIT_BITS + 1
    bias = sum(128 << (DIGIT_BITS * limb) for limb in range(limbs))
    moved = words + bias
    return torch.stack([(((moved >> (DIGIT_BITS * limb)) & 255) - 128).to(torch.int8) for limb in range(limbs)])


def _rounded(words: torch.Tensor, drop: int, q_bits: int) -> torch.Tensor:
    """Words without their `drop` low bits, as in `hecompile.backends.words.round_off`."""
    return words if not drop else ((words + (1 << (drop - 1))) >> drop) & ((1 << (q_bits - drop)) - 1)


def _unpacked(data: torch.Tensor, count: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The words of packed bytes (`hecompile.backends.words`), and the bits after the last word."""
    whole, rest = divmod(bits, 8)
    words = torch.zeros(count, dtype=torch.int64, device=data.device)
    octets = data[: count * whole].view(count, whole)
    for place in range(whole):
        words |= octets[:, place].to(torch.int64) << (8 * place)
    left = ((data[count * whole :, None] >> torch.arange(8, device=data.device, dtype=torch.uint8)) & 1).flatten()
    high = left[: count * rest].view(count, rest)
    for place in range(rest):
        words |= high[:, place].to(torch.int64) << (8 * whole + place)
    return words, left[count * rest :]


def _packed(words: torch.Tensor, bits: int) -> bytes:
    """The inverse of `_unpacked`, as bytes."""
    whole, rest = divmod(bits, 8)
    flat = words.flatten()
    parts = [torch.stack([((flat >> (8 * place)) & 255).to(torch.uint8) for place in range(whole)], dim=1).flatten()]
    if rest:
        high = torch.stack([(flat >> (8 * whole + place)) & 1 for place in range(rest)], dim=1).flatten()
        padded = torch.nn.functional.pad(high, (0, -len(high) % 8)).view(-1, 8)
        parts.append((padded << torch.arange(8, device=words.device)).sum(dim=1).to(torch.uint8))
    return torch.cat(parts).cpu().numpy().tobytes()


def _up(size: int) -> int:
    """The next multiple of `MULTIPLE` that is not below the size."""
    return -(-size // MULTIPLE) * MULTIPLE
