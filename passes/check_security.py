"""The pass that checks lowered regions against the security table and their own noise bounds."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.backends.registry import backend
from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.regions import Program
from hecompile.passes.base import Pass
from hecompile.policies import policy
from hecompile.progress import tell

__all__ = ["CheckSecurity"]


@dataclass(frozen=True)
class CheckSecurity(Pass[Program, Program]):
    """Check parameters and noise bounds again, on what will be written. Changes nothing.

    N 2048, q 48 bits, 64 secrets under a seed  ->  136.8 bits of security by our table: fine
    N 2048, q 48 bits, 64 secrets, 500 requests ->  error
    noise 2^22, room 2^21  ->  error
    """

    policy: str
    security: int

    def run(self, program: Program) -> Program:
        reasons: list[Diagnostic] = []
        for number, region in enumerate(program.calls.values(), start=1):
            if region.lowered is None:
                raise InternalError(f"region '{region.name}' was not lowered")
            bits = self.security if policy(self.policy).needs_encryption else 0
            reasons += backend(region.backend).check(region.lowered.client, region.lowered.server, bits)
            tell(self.name, number, len(program.calls))
        if reasons:
            raise CompileError(reasons)
        return program

    def summary(self, before: Program, after: Program) -> str:
        return f"{len(after.calls)} regions at {self.security} bits or more"
