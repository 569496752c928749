"""Policies by name. A policy decides which values the server may see.

A policy of this package is one file and one line of `_POLICIES`. Another package adds one by an entry point of the group
`hecompile.policies`, which has the policy's name and names its class. A program adds one by `register_policy`.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from hecompile.errors import CompileError, Diagnostic, unknown_name
from hecompile.policies.base import Policy
from hecompile.policies.he_diffusion import HeDiffusion
from hecompile.policies.min_distortion import MinDistortion
from hecompile.policies.simulation import Simulation
from hecompile.policies.strict import Strict

WATERMARK = "no cryptographic guarantee"

__all__ = ["WATERMARK", "Policy", "model_policies", "policies_at_hand", "policy", "policy_names", "register_policy"]

GROUP = "hecompile.policies"
_OF_SAMPLERS = ("he-diffusion",)  # for `hecompile compile-sampler` alone: the UNet stays at the client
_POLICIES: dict[str, Policy] = {
    "strict": Strict(),
    "simulation": Simulation(),
    "he-diffusion": HeDiffusion(),
    "min-distortion": MinDistortion(),
}


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    """Return the policies of other installed packages by name. Nothing of a package is imported before its policy is asked for."""
    return {point.name: point for point in entry_points(group=GROUP)}


def register_policy(new: Policy) -> None:
    """Add a policy, so that its name can be given as `policy`. Raises `CompileError` if the name is taken."""
    if new.name in policy_names():
        raise CompileError(Diagnostic(f"there is already a policy '{new.name}'", help="choose another name"))
    _POLICIES[new.name] = new


def policy_names() -> tuple[str, ...]:
    """Return the names of all policies."""
    return tuple(dict.fromkeys((*_POLICIES, *_installed())))


def model_policies() -> tuple[str, ...]:
    """Return the names of policies that models can be compiled and loaded with."""
    return tuple(name for name in policy_names() if name not in _OF_SAMPLERS)


def policies_at_hand() -> tuple[str, ...]:
    """Return the names of this package's policies and of registered ones, without those of other installed packages."""
    return tuple(_POLICIES)


def policy(name: str) -> Policy:
    """Return the policy with this name. Raises `CompileError`, which lists the known names, if there is none."""
    if name in _POLICIES:
        return _POLICIES[name]
    if name in _installed():
        return _from_package(_installed()[name])
    raise unknown_name("policy", name, policy_names())


def _from_package(point: EntryPoint) -> Policy:
    """Return the policy of an entry point. Raises `CompileError` if it cannot be loaded, or is no policy of the entry point's
    name."""
    try:
        made = point.load()()
    except Exception as error:  # whatever somebody else's module raises
        raise CompileError(Diagnostic(f"policy '{point.name}' does not load: {error}", help=f"it is '{point.value}'")) from error
    if not isinstance(made, Policy) or made.name != point.name:
        raise CompileError(Diagnostic(f"'{point.value}' is not a policy named '{point.name}'", help="give its class this name"))
    return made
