"""The options of compiling: those of the core, and the panels of backends, policies and passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hecompile.backends.registry import backend, backends_at_hand, family, options_of
from hecompile.errors import CompileError, Diagnostic
from hecompile.options.core import CoreOptions
from hecompile.options.gathering import PASSES, gather, lineage
from hecompile.options.plan import PlanOptions
from hecompile.panels import Panel, built, declared
from hecompile.policies import policy

__all__ = ["CompileOptions"]

P = TypeVar("P", bound=Panel)


@dataclass(frozen=True, init=False, repr=False)
class CompileOptions:
    """The options of one compilation, such as `CompileOptions(backend="ckks", degree=3)`, checked when built.

    `options.degree` reads one option, `options.panel(ApproximationOptions)` a whole panel. `replace(options, degree=5)` makes new
    options from those that were given. A backend may recommend values for options that were not given; None means not given.

    Raises:
        CompileError: for unknown names, values out of bounds, choices that contradict each other, and options that would do
            nothing beside the others.
    """

    choices: tuple[tuple[str, Any], ...]  # what was given, by name

    def __init__(self, *, choices: tuple[tuple[str, Any], ...] = (), **given: Any) -> None:
        values_given = {name: value for name, value in {**dict(choices), **given}.items() if value is not None}
        core, plan = built(CoreOptions, values_given), built(PlanOptions, values_given)
        policy_name = core.policy or ("strict" if backend(core.backend).guarantee.encrypts else "simulation")
        backends = family((core.backend, *plan.among))
        kinds, gathered = _kinds(policy_name, backends), gather((policy_name,), backends)
        known = gathered.owners
        findings = _conflicts(policy_name, core.backend, plan.among)
        read = {name for kind in kinds for name in declared(kind)}
        findings += [gathered.unknown(name) for name in values_given if name not in known]
        findings += [gathered.unused(name, policy_name, core.backend) for name in values_given if name in known.keys() - read]
        used = _built(kinds, values_given, findings)
        values = {name: declared(kind)[name].default for name, kind in known.items()} | {"policy": policy_name}
        for panel in used:
            values |= {name: getattr(panel, name) for name in declared(type(panel)) if name != "policy"}
        object.__setattr__(self, "choices", tuple((name, values[name]) for name in sorted(values_given)))
        object.__setattr__(self, "_values", values)
        _refuse(finding for panel in used for finding in panel.conflicts(self))
        policy(self.policy).configured(self.panel(policy(self.policy).options))

    def __repr__(self) -> str:
        return f"CompileOptions({', '.join(f'{name}={value!r}' for name, value in self.choices)})"

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name not in values:
            raise AttributeError(f"there is no option '{name}'")
        return values[name]

    @property
    def given(self) -> Mapping[str, object]:
        """The options that the user gave, by name."""
        return dict(self.choices)

    def value(self, name: str) -> Any:
        """Return the value of an option: given, recommended, or its default."""
        return getattr(self, name)

    def panel(self, kind: type[P]) -> P:
        """Return the values of a panel's options; the defaults of a panel that this compilation does not use."""
        return kind(**{name: self._values.get(name, option.default) for name, option in declared(kind).items()})

    def backend_panels(self) -> dict[type[Panel], Panel]:
        """Return the panels, by their class, of all backends that this compilation may use, and of the classes that they extend."""
        kinds = [options_of(name) for name in family((self.backend, *self.among))]
        return {panel: self.panel(panel) for kind in kinds for panel in lineage(kind)}

    @property
    def sample_size(self) -> tuple[int, int] | None:
        """The height and width of the sample in latent pixels; None if they are those of the model's configuration."""
        return self.panel(CoreOptions).sample_size

    @property
    def policy_name(self) -> str:
        """The name of the policy: the one given, or the default for the backend."""
        return str(self.policy)


def _kinds(policy_name: str, backends: Sequence[str]) -> list[type[Panel]]:
    """Return the panels that a compilation reads, without those that another one of them extends."""
    kinds = dict.fromkeys([*PASSES, policy(policy_name).options, *map(options_of, backends)])
    return [kind for kind in kinds if not any(kind is not other and issubclass(other, kind) for other in kinds)]


def _built(kinds: Sequence[type[Panel]], given: Mapping[str, object], findings: list[Diagnostic]) -> list[Panel]:
    """Return the panels with the values that were given and recommended.

    Raises:
        CompileError: with `findings` and those of all panels, if there are any.
    """
    used = list[Panel]()
    recommended = {name: value for kind in kinds for name, value in kind.recommends.items() if name not in given}
    for kind in kinds:
        try:
            used.append(built(kind, given, recommended))
        except CompileError as error:
            findings += error.diagnostics
    _refuse(findings)
    return used


def _refuse(findings: Iterable[Diagnostic]) -> None:
    """Raises `CompileError` if there are any findings."""
    if diagnostics := list(findings):
        raise CompileError(diagnostics)


def _layered(name: str) -> bool:
    """Return whether a backend encrypts and has prices for single layers, so that a plan may choose it for some layers."""
    candidate = backend(name)
    return candidate.guarantee.encrypts and candidate.runs_layers


def _conflicts(policy_name: str, backend_name: str, among: Sequence[str]) -> list[Diagnostic]:
    """Return one finding for every reason why this policy, backend and further backends cannot be used together."""
    promise, own, findings = policy(policy_name), backend(backend_name), list[Diagnostic]()
    if promise.needs_encryption and not own.guarantee.encrypts:
        findings.append(
            Diagnostic(
                f"policy '{promise.name}' needs encryption and backend '{own.name}' does not encrypt",
                help="leave --policy away (it becomes 'simulation'), or use --backend bfv",
            )
        )
    if promise.may_reveal and not own.guarantee.hides_key:
        findings.append(
            Diagnostic(
                f"policy '{promise.name}' reveals values that '{own.name}' decrypted, and their errors give its key away",
                help="use --backend bfv with it, or --policy strict",
            )
        )
    for name in among:
        if not (_layered(name) and _layered(own.name) and name != own.name):
            choice = f"name two different ones of {', '.join(other for other in backends_at_hand() if _layered(other))}"
            findings.append(Diagnostic(f"--among {name} is not possible beside --backend {own.name}", help=choice))
    return findings
