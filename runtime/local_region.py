"""A region that the client computes itself: an ONNX graph whose running time reveals nothing about its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.onnx_sessions import OnnxSession

__all__ = ["LocalRegion"]


class LocalRegion:
    """An ONNX graph that is ready to run, in this process and in processes forked from it.

    Numbers below 2^-126 count as zero: the processor handles them a hundred times more slowly, and the delay would reveal that a
    secret led to them.
    """

    def __init__(self, data: bytes, region: str, threads: int | None = None) -> None:
        """Load the graph.

        Args:
            data: the file's bytes, kept to load the graph again in a forked process.
            region: the region's name, for messages.
            threads: number of threads; None for one per core.

        Raises:
            ProtocolError: for a file that ONNX Runtime does not accept.
        """
        self._region, self.data = region, data
        try:
            self._session = OnnxSession(data, threads, flush_denormals=True)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ProtocolError(f"region '{region}': not a runnable ONNX file") from error

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, in order."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs, in order."""
        return self._session.outputs

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return the named outputs. Raises `ProtocolError` if the graph cannot run on inputs of these types and shapes."""
        try:
            return self._session.run(outputs, inputs)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ProtocolError(f"region '{self._region}': its ONNX file cannot be run") from error
