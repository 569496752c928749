"""The pass that replaces activations by polynomials, so that backends that only add and multiply can run them."""

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
    from hecompile.approx.quality import Quality
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
    recorded: Calibration | None = None  # calls to fit and validate with; None: those of the model's own sampler
    fit: Fit = weighted  # how coefficients are found; benchmarks compare others

    @property
    def needs_weights(self) -> bool:
        """True if anything is to be approximated, because runs of the model decide how."""
        return self.options.changes

    def run(self, program: ModelGraph) -> ModelGraph:
        if not self.needs_weights or program.approximation is not None:
            return program
        from hecompile.approx.build import approximate
        from hecompile.ir.size import is_small
        from hecompile.threads import one_thread

        with one_thread(is_small(program)):
            return approximate(program, self.options, self._degrees, self.recorded, self.rows, self.fit)

    def _degrees(self, quality: Quality) -> dict[str, int]:
        """Return the degree of every site, as the options ask for it."""
        from hecompile.approx import degrees

        options = self.options
        if options.budget_db is not None:
            return degrees.for_budget(quality, options.budget_db)
        if options.total_depth is not None:
            return degrees.for_depth(quality, options.total_depth)
        return degrees.uniform(quality, options.degree or DEFAULT_DEGREE)

    def compare(self, before: ModelGraph, after: ModelGraph) -> bool:
        from hecompile.approx.validation import ValidationRun, psnr_db

        record = after.approximation
        if record is None or before.approximation is record:
            return False
        if not isinstance(record.validation, ValidationRun):
            raise InternalError(f"{self.name}: the approximation has no validation run to compare by")
        reached = psnr_db(record.validation.run(before), record.validation.run(after))
        if not reached >= record.promised_db:
            raise InternalError(f"{self.name} promised {record.promised_db:.1f} dB and built a graph of {reached:.1f} dB")
        return True

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        record = after.approximation
        if after is before or record is None:
            return "nothing to do"
        degrees = [site.degree for site in record.sites]
        sites = f"{len(degrees)} polynomials of degree {min(degrees)} to {max(degrees)}" if degrees else "no polynomials"
        outside = sum(event.count for event in record.out_of_range)
        return f"{sites}, total depth {record.total_depth}, {record.measured_db:.1f} dB, {outside} values out of range"
