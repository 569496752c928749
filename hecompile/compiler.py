"""The list of all passes of the compiler, and the loop that runs them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.bars import watching
from hecompile.compiled import Compiled, PassEvent, PassRecord
from hecompile.errors import CompileError, Diagnostic, InternalError, unknown_name
from hecompile.installed_passes import following
from hecompile.ir.graph import ModelGraph
from hecompile.ir.passes import Pass
from hecompile.ir.regions import Program
from hecompile.options import CompileOptions
from hecompile.progress import Watcher, tell, watched

if TYPE_CHECKING:
    import torch

    from hecompile.ir.linear import Array

__all__ = ["Compiled", "PassEvent", "PassRecord", "compile_model", "pipeline"]

LOG = logging.getLogger(__name__)
VERIFY_GMAC = 1.0  # 10^9 multiply-adds: larger models are run after every pass only on request
FLOAT_TOLERANCE = 1e-4  # for float32 sums in another order: 2^-24 relative each, growing with the root of some 100 layers


def pipeline(options: CompileOptions, target: Path | None) -> list[Pass[Any, Any]]:
    """Return all passes for these options, in the order in which they run. Without `target` nothing is written.

    Raises:
        CompileError: if an option names a file that cannot be read, or the policy lacks an option.
    """
    from hecompile.approx.options import ApproximationOptions
    from hecompile.backends.context import Context
    from hecompile.backends.registry import backend, family
    from hecompile.calibration import load_calibration
    from hecompile.ir.timesteps import TIMESTEP_BINS
    from hecompile.lowering import lowering
    from hecompile.machine import Machine, load_machine
    from hecompile.options.plan import PlanOptions
    from hecompile.passes.approximate_activations import ApproximateActivations
    from hecompile.passes.canonicalize import Canonicalize
    from hecompile.passes.check_secrecy import CheckSecrecy
    from hecompile.passes.check_security import CheckSecurity
    from hecompile.passes.divide_layers import DivideLayers
    from hecompile.passes.extract_sparsity import ExtractSparsity
    from hecompile.passes.mark_secrets import MarkSecrets
    from hecompile.passes.partition import Partition
    from hecompile.passes.split import Split
    from hecompile.passes.trace import Trace
    from hecompile.passes.write import Write
    from hecompile.planner.problem import Run
    from hecompile.planner.proposals import budgets_of
    from hecompile.policies import policy
    from hecompile.policies.min_distortion import MinDistortion
    from hecompile.policies.options import MinDistortionOptions
    from hecompile.rehearsal import check_artifact

    name, name_of_backend = options.policy_name, options.backend
    promise = policy(name).configured(options.panel(policy(name).options))
    revealing = promise if isinstance(promise, MinDistortion) else None
    recorded = load_calibration(Path(options.calibration)) if options.calibration else None
    context = Context(
        machine=replace(load_machine(Path(options.machine)) if options.machine else Machine(), goal=options.goal),
        max_batch=options.max_batch,
        security_bits=options.security,
        panels=options.backend_panels(),
    )
    rows = backend(name_of_backend).timestep_rows(TIMESTEP_BINS)
    parts, budgets = options.panel(MinDistortionOptions), budgets_of(options.panel(PlanOptions))
    run = Run(options.run_calls, int(options.client_cache_mib * 2**20)) if options.client_cache_mib else Run()
    passes: list[Pass[Any, Any]] = [
        Trace(),  # one graph, whatever the source
        Canonicalize(),  # one spelling per op, so that later passes look for one thing
        MarkSecrets(name),  # what must not be seen
        ExtractSparsity(revealing, parts.importance, parts.reveal_bits, recorded, parts.grouping()),  # what may be seen
        ApproximateActivations(options.panel(ApproximationOptions), rows, recorded),  # before the partition: may keep them
        DivideLayers((name_of_backend, *options.among), options.security),  # each part is a layer to all that follow
        Partition(name_of_backend, context, budgets, options.pin, options.among, run),  # tags only: which node runs where
        CheckSecrecy(promise),  # the policy, before anything is built on the partition
        Split(),  # regions and the plan
        *lowering(family((name_of_backend, *options.among)), context),  # what turns regions into halves is their backends' own
        CheckSecurity(name, options.security),  # again, on what will be written
    ]
    return passes if target is None else [*passes, Write(options, target, partial(check_artifact, policy=name))]


def compile_model(
    source: str | Path | torch.nn.Module | object,
    output: str | Path | None = None,
    *,
    options: CompileOptions | None = None,
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    size: str | int | tuple[int, int] | None = None,
    tokens: int | None = None,
    extra_passes: Mapping[str, Sequence[Pass[Any, Any]]] | None = None,
    observer: Callable[[PassEvent], None] | None = None,
    until: str | None = None,
    dump_ir: str | Path | None = None,
    progress: bool | Watcher | None = None,
    **choices: object,
) -> Compiled:
    """Compile a UNet: a diffusers folder, a module, a pipeline (its UNet), an `.onnx` file or the name of a zoo model.

    Args:
        output: folder of the artifact; None to write none. The artifact is loaded and, if the model is small, called once.
        example_inputs: for modules that are no denoisers of diffusers: arguments by name or position, tensors with a batch of two,
            in lists, tuples and dictionaries as the module takes them; None, numbers, booleans and texts become constants.
        size: height and width of the sample of a denoiser in latent pixels, as `options.size`.
        tokens: length of the prompt of a denoiser, as `options.tokens`.
        extra_passes: passes of your own, by the name of the pass behind which they run.
        observer: is called after every pass with what it did, and the programs before and after it.
        until: name of the pass to stop after. The result then holds the program at that point, and nothing is written. A model
            that has shapes but no weights can be compiled until `check-secrecy`.
        dump_ir: new or empty folder for the program's text after every pass.
        progress: False shows no progress bar; by default there is one on terminals and in notebooks. A function is called with a
            `Progress` instead.
        choices: options by name, such as `backend="clear"`, which replace those of `options`.

    Raises:
        CompileError: if the model cannot be compiled with these options; it lists all findings.
    """
    from hecompile.artifact_writing import check_target
    from hecompile.dump import Dump
    from hecompile.frontend.sources import load_source
    from hecompile.ir.size import is_small
    from hecompile.threads import one_thread

    named: Any = {name: value for name, value in {**choices, "size": size, "tokens": tokens}.items() if value is not None}
    options = replace(options or CompileOptions(), **named) if named or options is None else options
    target = None if output is None else Path(output).expanduser()
    if target is not None:
        check_target(target)
    dump = None if dump_ir is None else Dump(Path(dump_ir).expanduser(), target)
    own = pipeline(options, target)
    extra = [extra_passes or {}, following(options.passes, [step.name for step in own])]
    passes = _ordered(own, extra, until, target)
    program: Any = load_source(source, example_inputs, options.public, options.sample_size, options.tokens)
    meta = program.module is not None and any(parameter.is_meta for parameter in program.module.parameters())
    if meta and any(step.needs_weights for step in passes):
        raise CompileError(
            Diagnostic(f"{program.name} has shapes but no weights", help="`hecompile plan` needs none; compiling does")
        )
    checker, records, small = Checker(options.verify), list[PassRecord](), False
    with watching(progress) as watcher, watched(watcher):
        for number, step in enumerate(passes):
            tell("compiling", number, len(passes), step.name)
            started = time.perf_counter()
            small = is_small(program) if isinstance(program, ModelGraph) else small
            with one_thread(small):
                before, program = program, step.run(program)
                record = PassRecord(step.name, time.perf_counter() - started, step.summary(before, program))
                LOG.info("%-18s %6.2f s  %s", record.name, record.seconds, record.summary)
                if dump is not None:
                    dump.write(step.name, program)  # before the check, so that a wrong program can be read
                checker.check(step, program)
            records.append(record)
            if observer is not None:
                observer(PassEvent(record, before, program))
    if not isinstance(program, Program) and until is None:
        raise InternalError("the pipeline did not end in a program")
    return Compiled(program, options, tuple(records), target)


def _ordered(
    passes: list[Pass[Any, Any]], extra: Sequence[Mapping[str, Sequence[Pass[Any, Any]]]], until: str | None, target: Path | None
) -> list[Pass[Any, Any]]:
    """Return all passes in order: each pass of `passes` with the extra ones that follow it, up to the one named `until`.

    Raises:
        CompileError: for names that no pass has, and if `until` keeps the artifact from being written.
    """
    names = [step.name for step in passes]
    for name in (name for others in extra for name in others):
        if name not in names:
            raise unknown_name("pass", name, names)
    ordered = [item for step in passes for item in (step, *(more for others in extra for more in others.get(step.name, ())))]
    if until is None:
        return ordered
    names = [step.name for step in ordered]
    if until not in names:
        raise unknown_name("pass", until, names)
    kept = ordered[: names.index(until) + 1]
    if target is not None and not any(step is passes[-1] for step in kept):
        raise CompileError(
            Diagnostic(f"{target} is not written if compiling stops after '{until}'", help="give only one of the two")
        )
    return kept


class Checker:
    """Checks the program after every pass: its structure, and that its results are those of the program before.

    Models up to `VERIFY_GMAC` are run as a whole, of larger ones a few layers. A pass on graphs may change results by reordering
    float sums, or by a bound that it states itself. A pass on programs is checked region by region: results must be equal bit for
    bit, or within the bound of the rounding that the pass did.
    """

    def __init__(self, always: bool) -> None:
        self._always = always
        self._inputs: Mapping[str, Array] = {}
        self._before: ModelGraph | Program | None = None

    def check(self, step: Pass[Any, Any], program: ModelGraph | Program) -> None:
        """Check the program after a pass. Raises `InternalError` if its structure or its results are wrong."""
        from hecompile.ir import verify
        from hecompile.ir.size import gmac

        if isinstance(program, ModelGraph):
            verify.verify_graph(program, canonical=step.canonical)
            if not self._inputs and not program.is_meta and (self._always or gmac(program) <= VERIFY_GMAC):
                self._inputs = verify.inputs_in_domain(program)
            if self._inputs and program.approximation is not None:
                self._inputs = program.approximation.example  # where the polynomials hold
        before, self._before = self._before, program
        if before is None or before is program:
            return
        if not self._inputs:
            self._check_layers(step.name, before, program)
            return
        if step.compare(before, program):
            return
        if isinstance(before, Program) and isinstance(program, Program):
            verify.compare_regions(before, program, self._inputs, step.name)
            return
        results = [verify.run(version, self._inputs) for version in (before, program)]
        try:
            verify.compare(results[0], results[1], FLOAT_TOLERANCE, step.name)
        except InternalError:
            if not isinstance(before, ModelGraph):
                raise
            exact = verify.run_exactly(before, self._inputs)
            verify.compare_with_exact(exact, results[0], results[1], FLOAT_TOLERANCE, step.name)

    def _check_layers(self, name: str, before: ModelGraph | Program, after: ModelGraph | Program) -> None:
        """Compare a few layers of a large model, after the graph was split into a program."""
        from hecompile.ir import verify_sampled

        if isinstance(before, Program) and isinstance(after, Program):
            verify_sampled.compare_sampled_regions(before, after, name)
        elif isinstance(before, ModelGraph) and isinstance(after, Program):
            verify_sampled.compare_sampled_layers(before, after, name, FLOAT_TOLERANCE)
