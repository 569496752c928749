"""What the user may choose when compiling: the core's options, and those of backends, policies and passes in their panels."""

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
    """Choices of one compilation, by name: `CompileOptions(backend="ckks", degree=3)`. They are checked when built.

    Options lie in panels; `options.degree` reads one by name, `options.panel(ApproximationOptions)` a whole panel.
    `replace(options, degree=5)` builds them anew from what was given. What a backend recommends fills in only what was not given,
    and None is not given.

    Raises:
        CompileError: for names that do not exist, values out of bounds, choices that cannot be kept, and for options that would do
            nothing beside the others.
    """

    choices: tuple[tuple[str, Any], ...]  # what was given, by name

    def __init__(self, *, choices: tuple[tuple[str, Any], ...] = (), **given: Any) -> None:
        chosen = {name: value for name, value in {**dict(choices), **given}.items() if value is not None}
        core, plan = built(CoreOptions, chosen), built(PlanOptions, chosen)
        policy_name = core.policy or ("strict" if backend(core.backend).guarantee.encrypts else "simulation")
        backends = family((core.backend, *plan.among))
        kinds, gathered = _kinds(policy_name, backends), gather((policy_name,), backends)
        known = gathered.owners
        findings = _conflicts(policy_name, core.backend, plan.among)
        read = {name for kind in kinds for name in declared(kind)}
        findings += [gathered.unknown(name) for name in chosen if name not in known]
        findings += [gathered.unused(name, policy_name, core.backend) for name in chosen if name in known.keys() - read]
        used = _built(kinds, chosen, findings)
        values = {name: declared(kind)[name].default for name, kind in known.items()} | {"policy": policy_name}
        for panel in used:
            values |= {name: getattr(panel, name) for name in declared(type(panel)) if name != "policy"}
        object.__setattr__(self, "choices", tuple((name, values[name]) for name in sorted(chosen)))
        object.__setattr__(self, "_values", values)
        _refuse(finding for panel in used for finding in panel.judge(self))
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
        """What the user gave, by name, as it was read."""
        return dict(self.choices)

    def value(self, name: str) -> Any:
        """The value of an option: given, recommended, or its default."""
        return getattr(self, name)

    def panel(self, kind: type[P]) -> P:
        """The options of a panel; of one that this compilation does not use, its defaults."""
        return kind(**{name: self._values.get(name, each.default) for name, each in declared(kind).items()})

    def backend_panels(self) -> dict[type[Panel], Panel]:
        """The options of every backend that this compilation may use, by their class, and of the panels that those extend."""
        kinds = [options_of(name) for name in family((self.backend, *self.among))]
        return {each: self.panel(each) for kind in kinds for each in lineage(kind)}

    @property
    def sample_size(self) -> tuple[int, int] | None:
        """Height and width of the sample; None for the configuration's."""
        return self.panel(CoreOptions).sample_size

    @property
    def policy_name(self) -> str:
        """The policy, with the default filled in."""
        return str(self.policy)


def _kinds(policy_name: str, backends: Sequence[str]) -> list[type[Panel]]:
    """Every panel that a compilation reads; one that another extends is read as part of that."""
    kinds = dict.fromkeys([*PASSES, policy(policy_name).options, *map(options_of, backends)])
    return [kind for kind in kinds if not any(kind is not other and issubclass(other, kind) for other in kinds)]


def _built(kinds: Sequence[type[Panel]], chosen: Mapping[str, object], findings: list[Diagnostic]) -> list[Panel]:
    """The panels with what was given and what backends recommend. Raises `CompileError` with these findings and all others."""
    used = list[Panel]()
    recommended = {name: value for kind in kinds for name, value in kind.recommends.items() if name not in chosen}
    for kind in kinds:
        try:
            used.append(built(kind, chosen, recommended))
        except CompileError as error:
            findings += error.diagnostics
    _refuse(findings)
    return used


def _refuse(findings: Iterable[Diagnostic]) -> None:
    """Raises `CompileError` if there are any."""
    if found := list(findings):
        raise CompileError(found)


def _layered(name: str) -> bool:
    """Whether a backend encrypts, and runs single layers at a price, so that a plan may choose for each."""
    chosen = backend(name)
    return chosen.guarantee.encrypts and chosen.runs_layers


def _conflicts(policy_name: str, backend_name: str, among: Sequence[str]) -> list[Diagnostic]:
    """Why policy, backend and the backends beside it cannot stand together."""
    chosen, own, findings = policy(policy_name), backend(backend_name), list[Diagnostic]()
    if chosen.needs_encryption and not own.guarantee.encrypts:
        findings.append(
            Diagnostic(
                f"policy '{chosen.name}' needs encryption and backend '{own.name}' does not encrypt",
                help="leave --policy away (it becomes 'simulation'), or use --backend bfv",
            )
        )
    if chosen.may_reveal and not own.guarantee.hides_key:
        findings.append(
            Diagnostic(
                f"policy '{chosen.name}' shows values that '{own.name}' decrypted, and their errors give its key away",
                help="use --backend bfv with it, or --policy strict",
            )
        )
    for name in among:
        if not (_layered(name) and _layered(own.name) and name != own.name):
            choice = f"two different ones of {', '.join(each for each in backends_at_hand() if _layered(each))}"
            findings.append(Diagnostic(f"--among {name} beside --backend {own.name}", help=choice))
    return findings
