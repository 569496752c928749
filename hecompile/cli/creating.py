"""The command that begins a package of your own: `hecompile new pass NAME`."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from hecompile.cli.console import Json, print_json, say
from hecompile.errors import CompileError, Diagnostic
from hecompile.outputs import reason_of
from hecompile.version import __version__

__all__ = ["Kind", "files_of", "new"]

FOLDER = Path(__file__).with_name("templates")
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Kind(StrEnum):
    """What a package can add to hecompile."""

    PASS = "pass"
    BACKEND = "backend"
    POLICY = "policy"
    TRANSPORT = "transport"


@dataclass(frozen=True)
class _Template:
    """What differs between the kinds beside the two modules: what the package is, its entry points, and how it is used."""

    about: str
    group: str
    use: str


TEMPLATES = {
    Kind.PASS: _Template(
        "A compiler pass that counts the multiply-adds of secret layers",
        "hecompile.passes",
        "It runs where it is asked for: `hecompile compile digits --passes $name -o digits.he`. `hecompile passes` lists it.",
    ),
    Kind.BACKEND: _Template(
        "A backend that simulates without encryption, in requests of half the bytes",
        "hecompile.backends",
        "Compile with it: `hecompile compile digits --backend $registered --policy simulation -o digits.he`. A client has to\n"
        'allow it by name: `hecompile.load("digits.he", policy="simulation", backends=["$registered"])`.',
    ),
    Kind.POLICY: _Template(
        "A policy that promises what strict does, in a limited number of requests a step",
        "hecompile.policies",
        "Compile with it: `hecompile compile digits --policy $name -o digits.he`. A client insists on it with\n"
        '`hecompile.load("digits.he", policy="$name")`.',
    ),
    Kind.TRANSPORT: _Template(
        "A transport that counts requests and bytes",
        "",
        "A transport needs no entry point: it is given to `hecompile.load(folder, $Class(HttpTransport(url)))`.",
    ),
}


def new(
    kind: Annotated[Kind, typer.Argument(help="what the package adds to hecompile")],
    name: Annotated[str, typer.Argument(help="its name: small letters, digits and hyphens")],
    folder: Annotated[Path | None, typer.Option(help="where to write; default: a new folder of that name, here")] = None,
    as_json: Json = False,
) -> None:
    """Write a package of your own that adds a pass, a backend, a policy or a transport. It works as it is, and its tests pass."""
    target = folder or Path(name)
    written = _write(target, files_of(kind, name))
    if as_json:
        print_json({"kind": kind.value, "name": name, "folder": str(target), "files": written})
        return
    say(f"{target}: {', '.join(written)}")
    say(f"next: pip install -e '{target}[test]' && pytest {target}")


def files_of(kind: Kind, name: str) -> dict[str, str]:
    """The files of a new package by their names, with their texts.

    Raises:
        CompileError: if the name is malformed, or Python or hecompile has something else by that name.
    """
    words = _judge_name(kind, name)
    template = TEMPLATES[kind]
    values = {
        "kind": kind.value,
        "name": name,
        "module": "_".join(words),
        "registered": "_".join(words),  # backends are named so, as `ckks_clear`
        "Class": "".join(word.capitalize() for word in words),
        "version": __version__.rpartition(".")[0],
        "about": template.about,
    }
    sources = "".join((FOLDER / kind.value / f"{part}.py.txt").read_text(encoding="utf-8") for part in ("module", "test"))
    if re.search(rf"(?<![\w$]){values['Class']}\b", sources):
        raise CompileError(Diagnostic(f"'{name}' would hide {values['Class']}, which the package uses", help="choose another name"))
    point = "" if not template.group else _ENTRY_POINT.substitute(values, group=template.group, point=_point(kind, values))
    values |= {"entry_point": point, "use": Template(template.use).substitute(values)}
    return {
        "pyproject.toml": _text("pyproject.toml.txt", values),
        "README.md": _text("README.md.txt", values),
        f"{values['module']}.py": _text(f"{kind.value}/module.py.txt", values),
        f"tests/test_{values['module']}.py": _text(f"{kind.value}/test.py.txt", values),
    }


_ENTRY_POINT = Template('\n[project.entry-points."$group"]\n$point = "$module:$Class"\n')


def _point(kind: Kind, values: dict[str, str]) -> str:
    return values["registered" if kind is Kind.BACKEND else "name"]


def _text(name: str, values: dict[str, str]) -> str:
    """A template of `templates/` with its names filled in."""
    return Template((FOLDER / name).read_text(encoding="utf-8")).substitute(values)


def _judge_name(kind: Kind, name: str) -> list[str]:
    """The words of a name that is free."""
    if not NAME.fullmatch(name):
        raise CompileError(Diagnostic(f"'{name}' is no name for a {kind}", help="small letters, digits and hyphens: count-work"))
    words = name.split("-")
    module = "_".join(words)
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise CompileError(Diagnostic(f"'{module}' is a word or a module of Python's", help="choose another name"))
    if name in _taken(kind) or module in _taken(kind):
        raise CompileError(Diagnostic(f"hecompile has a {kind} '{name}'", help="choose another name"))
    return words


def _taken(kind: Kind) -> set[str]:
    """Names that hecompile or an installed package has for this kind."""
    if kind is Kind.BACKEND:
        from hecompile.backends.registry import backend_names

        return set(backend_names())
    if kind is Kind.POLICY:
        from hecompile.policies import policy_names

        return set(policy_names())
    if kind is Kind.PASS:
        from hecompile.installed_passes import installed_passes

        own = {path.name.removesuffix(".py").replace("_", "-") for path in resources.files("hecompile.passes").iterdir()}
        return own | set(installed_passes())
    return set()


def _write(folder: Path, files: dict[str, str]) -> list[str]:
    """Write the files into a new folder, all or none of them; their names.

    Raises:
        CompileError: if the folder exists, or cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise CompileError(Diagnostic(f"{folder} exists already", help="give another name, or --folder"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as scratch:
            whole = Path(scratch) / "package"
            for name, text in files.items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                (whole / name).write_text(text, encoding="utf-8")
            os.rename(whole, folder)  # fails if somebody else made it meanwhile, unless it is empty
    except OSError as error:
        raise CompileError(Diagnostic(f"{folder} cannot be written: {reason_of(error)}", help="choose another --folder")) from error
    return list(files)
