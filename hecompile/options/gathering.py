"""Which panels of options there are, and whose they are.

Panels of the passes, of own and registered policies and backends are gathered. Those of other installed packages are read only
where they are named: none of a package's code runs before.
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
    """Panels with a title each, and the options that they declare."""

    policies: dict[type[Panel], list[str]]  # by panel, the names of all that have it
    backends: dict[type[Panel], list[str]]

    @property
    def titles(self) -> dict[type[Panel], str]:
        """What stands over the flags of every panel."""
        found: dict[type[Panel], str] = {kind: kind.title for kind in PASSES}
        found |= {kind: f"--policy {in_words(names, 'or')}" for kind, names in self.policies.items()}
        return found | {kind: f"--backend {in_words(names, 'or')}" for kind, names in self.backends.items()}

    @property
    def owners(self) -> dict[str, type[Panel]]:
        """Which panel declares each option; of panels that extend each other, the first."""
        found: dict[str, type[Panel]] = {}
        for kind in (*PASSES, *self.policies, *self.backends):
            for name in declared(kind):
                if not issubclass(kind, found.setdefault(name, kind)):
                    raise CompileError(f"{kind.__name__} and {found[name].__name__} both declare an option '{name}'")
        return found

    def unknown(self, name: str) -> Diagnostic:
        """The refusal of an option that there is not."""
        known = tuple(self.owners)
        similar = near(name, known)
        return Diagnostic(
            f"there is no option '{name}'", help=f"did you mean {similar}?" if similar else f"known: {', '.join(known)}"
        )

    def unused(self, name: str, policy_name: str, backend_name: str) -> Diagnostic:
        """The refusal of an option of a policy or backend that was not chosen."""
        owner = self.owners[name]
        of_policy = owner in self.policies
        what, chosen = ("policy", policy_name) if of_policy else ("backend", backend_name)
        names = (self.policies if of_policy else self.backends)[owner]
        way_out = f"use --{what} {in_words(names, 'or')}, or leave {flag_of(name)} away"
        return Diagnostic(f"{name} does nothing under --{what} {chosen}", help=way_out)


def gather(policies: Sequence[str] = (), backends: Sequence[str] = ()) -> Gathered:
    """The panels of what is at hand, and of these policies and backends besides.

    Raises:
        CompileError: if a name does not exist.
    """
    found = Gathered({}, {})
    for name in dict.fromkeys((*policies_at_hand(), *policies)):
        for kind in lineage(policy(name).options):
            found.policies.setdefault(kind, []).append(name)
    for name in dict.fromkeys((*backends_at_hand(), *backends)):
        for kind in lineage(options_of(name)):
            found.backends.setdefault(kind, []).append(name)
    return found


def lineage(kind: type[Panel]) -> list[type[Panel]]:
    """A panel and those that it extends, the most general first, without those that declare nothing."""
    return [each for each in reversed(kind.__mro__) if issubclass(each, Panel) and declared(each)]
