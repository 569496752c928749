"""A client region: an ONNX graph that the client runs itself, in a time that tells nothing of its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.onnx_sessions import OnnxSession

__all__ = ["LocalRegion"]


class LocalRegion:
    """An ONNX file ready to run, in this process and in those forked from it.

    Numbers below 2^-126 count as zero: they slow a product down a hundredfold, and the pause would tell that a secret led to them.
    """

    def __init__(self, data: bytes, region: str, threads: int | None = None) -> None:
        """Raises `ProtocolError` for a file that ONNX Runtime does not take.

        Args:
            data: the file's bytes, kept to make another session in a forked process.
            region: its name, for messages.
            threads: of the session; None for one per core.
        """
        self._region, self.data = region, data
        try:
            self._session = OnnxSession(data, threads, flush_denormals=True)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ProtocolError(f"region '{region}': not a runnable ONNX file") from error

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it takes, in order."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it returns, in order."""
        return self._session.outputs

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """The named outputs. Raises `ProtocolError` if the file cannot be run on values of these types and shapes."""
        try:
            return self._session.run(outputs, inputs)
        except Exception as error:  # as above
            raise ProtocolError(f"region '{self._region}': its ONNX file cannot be run") from error
