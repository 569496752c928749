"""The backend of a sampler's step: one region, exact under BFV. `hecompile.sampler_artifact` makes it, no pass does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hecompile.backends.base import Description, SamplerStep
from hecompile.backends.bfv.parameters import noise_budget
from hecompile.backends.sampler_step.program import MOST_ENTRIES, SamplerStepProgram, reveals, sampler_step_program
from hecompile.backends.tensors import check_names
from hecompile.errors import CompileError, ProtocolError

if TYPE_CHECKING:
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.halves import ClientHalf, Half, ServerHalf

__all__ = ["SamplerStepBackend"]


class SamplerStepBackend(SamplerStep):
    """Computes f x + g e for public f and g and encrypted x and e."""

    name = "sampler_step"

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return sampler_step_program(half).inputs[2:]

    def describe(self, half: ClientHalf) -> Description:
        program = sampler_step_program(half)
        parameters = program.body.parameters
        return Description(
            layers=1,
            parameters=f"N{parameters.dimension} q{parameters.q_bits} t{parameters.t_bits}",
            proof="worst-case",
            noise_bits=round(math.log2(program.body.noise_bound), 3),
            budget_bits=round(math.log2(_room(program)), 3),
            reveals=reveals(program),
        )

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        """A reason if there are too many secrets under one seed for the ring: every pair has one, up to 64 pairs a seed."""
        from hecompile.backends.bfv.rings import BLOCKS_PER_SEED
        from hecompile.security import table

        program = sampler_step_program(half)
        parameters = program.body.parameters
        bits = table.security_bits(parameters.dimension, parameters.q_bits, BLOCKS_PER_SEED)
        if bits >= security_bits:
            return []
        return [
            f"region '{program.region}': {BLOCKS_PER_SEED} secrets under one seed, with {parameters.q_bits} modulus bits at "
            f"dimension {parameters.dimension}, give {bits:.1f} bits of security, less than {security_bits}"
        ]

    def check_proofs(self, half: ServerHalf) -> list[str]:
        return self._broken_bounds(sampler_step_program(half))

    def _broken_bounds(self, program: SamplerStepProgram) -> list[str]:
        reasons = []
        if program.body.weight * program.body.parameters.limit > 2 ** (program.body.parameters.t_bits - 1) - 1:
            reasons.append(f"region '{program.region}': sums may exceed t/2")
        if program.body.noise_bound > _room(program):
            reasons.append(f"region '{program.region}': noise of {program.body.noise_bound:.0f}, room for {_room(program):.0f}")
        return reasons

    def load_client(self, half: ClientHalf) -> RegionClient:
        from hecompile.backends.sampler_step.client import SamplerStepClient
        from hecompile.backends.sampler_step.support import DynamicSupport, StaticSupport, Support
        from hecompile.sparsity.importance import distortion_function
        from hecompile.sparsity.selection import Masks

        program = sampler_step_program(half)
        if reasons := self._broken_bounds(program):
            raise ProtocolError(reasons[0])
        if program.body.dynamic:
            dimension = program.body.parameters.dimension if program.body.fill else None
            try:
                cost = distortion_function(program.body.cost)
            except CompileError as error:  # the cost needs a model
                raise ProtocolError(f"region '{program.region}': {error.diagnostics[0].message}") from error
            support: Support = DynamicSupport(cost, program.body.tau, program.body.most_clear, dimension)
        else:
            masks = _masks(half, program)
            support = StaticSupport(Masks(masks))
        return SamplerStepClient(program, support)

    def load_server(self, half: ServerHalf) -> RegionServer:
        from hecompile.backends.sampler_step.server import SamplerStepServer

        check_names(half, ())
        program = sampler_step_program(half)
        return SamplerStepServer(program)


def _room(program: SamplerStepProgram) -> float:
    return noise_budget(program.body.q, program.body.parameters.t_bits)


def _masks(half: Half, program: SamplerStepProgram) -> npt.NDArray[np.bool_]:
    """The client's masks, (bins, C, H, W). Raises `ProtocolError` unless they leave in the clear what the document says."""
    packed = half.tensors.get("masks")
    if packed is None or packed.dtype != np.uint8 or packed.shape != (len(program.body.clear), -(-program.body.entries // 8)):
        raise ProtocolError(f"region '{program.region}': tensor 'masks' is missing or of the wrong shape")
    if len(half.tensors) != 1 or len(program.body.clear) * program.body.entries > MOST_ENTRIES:
        raise ProtocolError(f"region '{program.region}': other tensors than 'masks', or too many masks")
    bits = np.unpackbits(packed, axis=1, count=program.body.entries).astype(np.bool_)
    if tuple((~bits).sum(axis=1).tolist()) != program.body.clear:
        raise ProtocolError(f"region '{program.region}': its masks leave other entries in the clear than it declares")
    if int((~bits).any(axis=0).sum()) != max(program.body.clear):
        raise ProtocolError(f"region '{program.region}': its masks are not nested, together they reveal more than it declares")
    return bits.reshape(-1, *program.body.shape)
