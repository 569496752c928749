"""Who may see what: policies by name, one file each and one line in `_POLICIES`, and whatever other packages add.

A package adds a policy by an entry point of the group `hecompile.policies`, whose name is the policy's and whose value names its
class; a program by `register_policy`.
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
_OF_SAMPLERS = ("he-diffusion",)  # of `hecompile compile-sampler` alone: the UNet stays at the client
_POLICIES: dict[str, Policy] = {
    "strict": Strict(),
    "simulation": Simulation(),
    "he-diffusion": HeDiffusion(),
    "min-distortion": MinDistortion(),
}


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    """The policies of other installed packages. None of their code runs before one is asked for by its name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def register_policy(new: Policy) -> None:
    """Make a user's own policy known by its name. Raises `CompileError` if the name is taken."""
    if new.name in policy_names():
        raise CompileError(Diagnostic(f"there is already a policy '{new.name}'", help="choose another name"))
    _POLICIES[new.name] = new


def policy_names() -> tuple[str, ...]:
    """Names of all that there are."""
    return tuple(dict.fromkeys((*_POLICIES, *_installed())))


def model_policies() -> tuple[str, ...]:
    """Names for `--policy` where a model is compiled or loaded."""
    return tuple(name for name in policy_names() if name not in _OF_SAMPLERS)


def policies_at_hand() -> tuple[str, ...]:
    """Names of own and registered policies: of other packages nothing has run."""
    return tuple(_POLICIES)


def policy(name: str) -> Policy:
    """The policy of this name. Raises `CompileError` listing the names that exist."""
    if name in _POLICIES:
        return _POLICIES[name]
    if name in _installed():
        return _from_package(_installed()[name])
    raise unknown_name("policy", name, policy_names())


def _from_package(point: EntryPoint) -> Policy:
    """Raises `CompileError` if what the entry point names is no policy of its name."""
    try:
        made = point.load()()
    except Exception as error:  # whatever somebody else's module raises
        raise CompileError(Diagnostic(f"policy '{point.name}' does not load: {error}", help=f"it is '{point.value}'")) from error
    if not isinstance(made, Policy) or made.name != point.name:
        raise CompileError(Diagnostic(f"'{point.value}' is no policy '{point.name}'", help="its class needs this name"))
    return made
