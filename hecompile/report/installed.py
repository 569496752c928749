"""What is installed of the packages that hecompile's own metadata names: those of the base, and of each extra."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

__all__ = ["BASE", "packages", "versions"]

BASE = ""  # stands for the base install among the extras
_BESIDE = {"concrete": ("concrete-ml",)}  # goes in without its dependencies, so the metadata does not name it
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra == ['\"]([^'\"]+)['\"]")


def packages() -> Mapping[str, tuple[str, ...]]:
    """The packages that each extra names itself, in order; those of other extras that it brings are told there."""
    names_of: dict[str, list[str]] = {BASE: []}
    for requirement in importlib.metadata.requires("hecompile") or ():
        name, extra = _NAME.match(requirement), _EXTRA.search(requirement)
        if name is not None and name[0] != "hecompile":
            names_of.setdefault(extra[1] if extra else BASE, []).append(name[0])
    return {extra: (*names, *_BESIDE.get(extra, ())) for extra, names in names_of.items()}


def versions(names: tuple[str, ...]) -> dict[str, str | None]:
    """Installed versions; None where a package is missing."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
