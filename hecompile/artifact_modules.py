"""The file `modules.json` of an artifact: which module of the network each region's work came from. It is for people alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pydantic

from hecompile.artifact_files import checked
from hecompile.errors import ProtocolError
from hecompile.ir.modules import MOST_MODULES, ModuleWork
from hecompile.untrusted import difference, parse_json

__all__ = ["MODULES", "modules_document", "read_modules"]

MODULES = "modules.json"
MOST_NAMES = 4 * MOST_MODULES  # of all paths: each becomes a box of the report
_Records = Annotated[tuple[ModuleWork, ...], pydantic.Field(max_length=MOST_MODULES)]


def modules_document(modules: Sequence[ModuleWork]) -> dict[str, object]:
    """What the file holds, as JSON."""
    return {"modules": [asdict(record) for record in modules]}


def read_modules(root: Path, files: Mapping[str, str]) -> tuple[ModuleWork, ...]:
    """Return the records of an artifact in the order of its plan; none for an artifact that keeps no such file.

    Raises:
        ProtocolError: if the file is changed or malformed.
    """
    if MODULES not in files:
        return ()
    path = root / MODULES
    document: Any = parse_json(checked(root, files, MODULES), str(path))
    if not isinstance(document, dict) or set(document) != {"modules"}:
        raise ProtocolError(f"{path}: no document of modules")
    try:
        records: tuple[ModuleWork, ...] = pydantic.TypeAdapter(_Records).validate_python(document["modules"])
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ProtocolError(f"{path}: {'.'.join(map(str, first['loc']))[:200]}: {first['msg'][:200]}") from error
    odd = difference(document, modules_document(records))
    if odd is not None:
        raise ProtocolError(f"{path}: {odd or 'the document'} is unknown, missing, or of another type")
    if (
        sum(record.layers for record in records) > MOST_MODULES
        or sum(1 + record.path.count(".") for record in records) > MOST_NAMES
    ):
        raise ProtocolError(f"{path}: more layers or names than a network has")
    return records
