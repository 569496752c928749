"""Finds all panels of options, and tells which pass, policy or backend each belongs to.

Policies and backends of other installed packages count only if they are named, because nothing of a package is imported before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hecompile.approx.options import ApproximationOptions
from hecompile.backends.registry import backends_at_hand, options_of
from hecompile.errors import CompileError, Diagnostic
from hecompile.options.core import CoreOptions
from hecompile.options.plan import PlanOptions
from hecompile.panels import Panel, declared
from hecompile.policies import policies_at_hand, policy
from hecompile.wording import flag_of, in_words, near

__all__ = ["PASSES", "Gathered", "gather", "lineage"]

PASSES = (CoreOptions, PlanOptions, ApproximationOptions)  # panels that every compilation reads


@dataclass(frozen=True)
class Gathered:
    """The panels of policies and backends, each with the names of the policies or backends that have it."""

    policies: dict[type[Panel], list[str]]
    backends: dict[type[Panel], list[str]]

    @property
    def titles(self) -> dict[type[Panel], str]:
        """The heading of every panel in help texts."""
        titles: dict[type[Panel], str] = {kind: kind.title for kind in PASSES}
        titles |= {kind: f"--policy {in_words(names, 'or')}" for kind, names in self.policies.items()}
        return titles | {kind: f"--backend {in_words(names, 'or')}" for kind, names in self.backends.items()}

    @property
    def owners(self) -> dict[str, type[Panel]]:
        """The panel that declares each option by name; the most general one, if panels extend each other.

        Raises:
            CompileError: if two panels that do not extend each other declare the same option.
        """
        owners: dict[str, type[Panel]] = {}
        for kind in (*PASSES, *self.policies, *self.backends):
            for name in declared(kind):
                if not issubclass(kind, owners.setdefault(name, kind)):
                    raise CompileError(f"{kind.__name__} and {owners[name].__name__} both declare an option '{name}'")
        return owners

    def unknown(self, name: str) -> Diagnostic:
        """Return the finding about an option that does not exist."""
        known = tuple(self.owners)
        similar = near(name, known)
        return Diagnostic(
            f"there is no option '{name}'", help=f"did you mean {similar}?" if similar else f"known: {', '.join(known)}"
        )

    def unused(self, name: str, policy_name: str, backend_name: str) -> Diagnostic:
        """Return the finding about an option that belongs to another policy or backend than the chosen one."""
        owner = self.owners[name]
        of_policy = owner in self.policies
        what, name_in_use = ("policy", policy_name) if of_policy else ("backend", backend_name)
        names = (self.policies if of_policy else self.backends)[owner]
        way_out = f"use --{what} {in_words(names, 'or')}, or leave {flag_of(name)} away"
        return Diagnostic(f"{name} does nothing under --{what} {name_in_use}", help=way_out)


def gather(policies: Sequence[str] = (), backends: Sequence[str] = ()) -> Gathered:
    """Return the panels of this package's and registered policies and backends, and of those named here.

    Raises:
        CompileError: if a name does not exist.
    """
    gathered = Gathered({}, {})
    for name in dict.fromkeys((*policies_at_hand(), *policies)):
        for kind in lineage(policy(name).options):
            gathered.policies.setdefault(kind, []).append(name)
    for name in dict.fromkeys((*backends_at_hand(), *backends)):
        for kind in lineage(options_of(name)):
            gathered.backends.setdefault(kind, []).append(name)
    return gathered


def lineage(kind: type[Panel]) -> list[type[Panel]]:
    """Return a panel and those that it extends, the most general first, without panels that have no options."""
    return [ancestor for ancestor in reversed(kind.__mro__) if issubclass(ancestor, Panel) and declared(ancestor)]
