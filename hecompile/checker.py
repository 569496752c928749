"""The check after every pass: the program is well formed, and computes what it computed before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hecompile.errors import InternalError
from hecompile.ir.graph import ModelGraph
from hecompile.ir.passes import Pass
from hecompile.ir.regions import Program

if TYPE_CHECKING:
    from hecompile.ir.linear import Array

__all__ = ["Checker"]

VERIFY_GMAC = 1.0  # numerics are compared up to this size of model, above it only on request
FLOAT_TOLERANCE = 1e-4  # reordered float32 sums of some 100 layers, each 2^-24 relative, growing with the root of the depth


class Checker:
    """Verifies the program after each pass, structure always, numbers for models below `VERIFY_GMAC`.

    Passes on graphs must leave the result as it is, up to reordered float sums; one that changes it by design states its own bound.
    Passes on programs are checked region by region: equal bit for bit, or within the bound of what they round.
    """

    def __init__(self, always: bool) -> None:
        self._always = always
        self._inputs: Mapping[str, Array] = {}
        self._before: ModelGraph | Program | None = None

    def check(self, each: Pass[Any, Any], program: ModelGraph | Program) -> None:
        """Raises `InternalError` if the pass broke the program."""
        from hecompile.ir import verify
        from hecompile.ir.size import gmac

        if isinstance(program, ModelGraph):
            verify.verify_graph(program, canonical=each.canonical)
            if not self._inputs and not program.is_meta and (self._always or gmac(program) <= VERIFY_GMAC):
                self._inputs = verify.inputs_in_domain(program)
            if self._inputs and program.approximation is not None:
                self._inputs = program.approximation.example  # where the polynomials hold
        before, self._before = self._before, program
        if not self._inputs or before is None or before is program or each.compare(before, program):
            return
        if isinstance(before, Program) and isinstance(program, Program):
            verify.compare_regions(before, program, self._inputs, each.name)
            return
        results = [verify.run(version, self._inputs) for version in (before, program)]
        try:
            verify.compare(results[0], results[1], FLOAT_TOLERANCE, each.name)
        except InternalError:
            if not isinstance(before, ModelGraph):
                raise
            exact = verify.run_exactly(before, self._inputs)
            verify.compare_with_exact(exact, results[0], results[1], FLOAT_TOLERANCE, each.name)
