"""Who may see what: policies by name, one file each and one line in `_POLICIES`."""

from __future__ import annotations

from hecompile.errors import CompileError, Diagnostic, unknown_name
from hecompile.policies.base import Policy
from hecompile.policies.he_diffusion import HeDiffusion
from hecompile.policies.min_distortion import MinDistortion
from hecompile.policies.simulation import Simulation
from hecompile.policies.strict import Strict

WATERMARK = "no cryptographic guarantee"

__all__ = ["WATERMARK", "Policy", "policies_at_hand", "policy", "policy_names", "register_policy"]

_POLICIES: dict[str, Policy] = {
    "strict": Strict(),
    "simulation": Simulation(),
    "he-diffusion": HeDiffusion(),
    "min-distortion": MinDistortion(),
}


def register_policy(new: Policy) -> None:
    """Make a user's own policy known by its name. Raises `CompileError` if the name is taken."""
    if new.name in _POLICIES:
        raise CompileError(Diagnostic(f"there is already a policy '{new.name}'", help="choose another name"))
    _POLICIES[new.name] = new


def policy_names() -> tuple[str, ...]:
    """Names for `--policy`."""
    return tuple(_POLICIES)


def policies_at_hand() -> tuple[str, ...]:
    """Names of own and registered policies: of other packages nothing has run."""
    return tuple(_POLICIES)


def policy(name: str) -> Policy:
    """The policy of this name. Raises `CompileError` listing the names that exist."""
    if name not in _POLICIES:
        raise unknown_name("policy", name, policy_names())
    return _POLICIES[name]
