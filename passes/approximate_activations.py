"""Activations as polynomials, so that regions that only add and multiply can keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hecompile.approx.fits import Fit, weighted
from hecompile.approx.options import ApproximationOptions
from hecompile.errors import InternalError
from hecompile.ir.graph import ModelGraph
from hecompile.ir.timesteps import TIMESTEP_BINS
from hecompile.passes.base import Pass

if TYPE_CHECKING:
    from hecompile.approx.judge import Judge
    from hecompile.calibration import Calibration

__all__ = ["ApproximateActivations"]

DEFAULT_DEGREE = 7


@dataclass(frozen=True)
class ApproximateActivations(Pass[ModelGraph, ModelGraph]):
    """Replace secret activations by polynomials, with degrees from an error budget; norms by tables or sums. Off by default.

    %y = silu(%x)        ->  %y = polynomial(%x, %timestep, low<20>, high<20>, coefficients<20x8>)
    %y = group_norm(%x)  ->  %y = add(mul(%x, scale of the timestep's bin), shift)   --norms static
    %y = group_norm(%x)  ->  (x - mean) polynomial(variance + eps)                   --norms polynomial
    """

    options: ApproximationOptions
    rows: int = TIMESTEP_BINS  # of tables over the timestep
    recorded: Calibration | None = None  # calls of the model's own sampler if None
    fit: Fit = weighted  # how coefficients are found: for comparisons

    @property
    def needs_weights(self) -> bool:
        """If anything is to be approximated: what is judged by is a run of the model."""
        return self.options.changes

    def run(self, program: ModelGraph) -> ModelGraph:
        if not self.needs_weights or program.approximation is not None:
            return program
        from hecompile.approx.build import approximate
        from hecompile.ir.size import is_small
        from hecompile.threads import one_thread

        with one_thread(is_small(program)):
            return approximate(program, self.options, self._degrees, self.recorded, self.rows, self.fit)

    def _degrees(self, judge: Judge) -> dict[str, int]:
        from hecompile.approx import spend

        chosen = self.options
        if chosen.budget_db is not None:
            return spend.for_budget(judge, chosen.budget_db)
        if chosen.total_depth is not None:
            return spend.for_depth(judge, chosen.total_depth)
        return spend.uniform(judge, chosen.degree or DEFAULT_DEGREE)

    def compare(self, before: ModelGraph, after: ModelGraph) -> bool:
        from hecompile.approx.trial import Trial, psnr_db

        record = after.approximation
        if record is None or before.approximation is record:
            return False
        if not isinstance(record.trial, Trial):
            raise InternalError(f"{self.name}: the approximation cannot be tried again")
        reached = psnr_db(record.trial.run(before), record.trial.run(after))
        if not reached >= record.promised_db:
            raise InternalError(f"{self.name} promised {record.promised_db:.1f} dB and built a graph of {reached:.1f} dB")
        return True

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        record = after.approximation
        if after is before or record is None:
            return "nothing to do"
        degrees = [site.degree for site in record.sites]
        sites = f"{len(degrees)} polynomials of degree {min(degrees)} to {max(degrees)}" if degrees else "no polynomials"
        outside = sum(each.count for each in record.excursions)
        return f"{sites}, total depth {record.total_depth}, {record.measured_db:.1f} dB, {outside} values out of range"
