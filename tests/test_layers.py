"""The law of the floors: imports go down, wherever they stand, and none of them turns back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layers.figures import climbing, mutual
from tests.layers.floors import Floor, floors, room_of, unlawful
from tests.layers.imports import Import, circles, imports, modules

ROOT = Path(__file__).parents[1]
KNOWN: list[str] = []  # imports that break the law, as `module -> module`: the list may only become shorter


@pytest.fixture(scope="module")
def statements() -> tuple[Import, ...]:
    return imports(ROOT)


def test_imports_go_down(statements: tuple[Import, ...]) -> None:
    assert unlawful(statements, floors()) == KNOWN


def test_no_import_turns_back(statements: tuple[Import, ...]) -> None:
    assert circles({(statement.module, statement.imported) for statement in statements}) == []


def test_nothing_is_allowed_in_vain(statements: tuple[Import, ...]) -> None:
    table = floors()
    used = {(room_of(statement.module, table), room_of(statement.imported, table)) for statement in statements}
    assert {pair for floor in table for pair in floor.beside} <= used
    for floor in table:
        assert {first for first, second in used if second in floor.rooms and first not in floor.rooms} >= set(floor.askers)


def test_every_module_has_a_floor() -> None:
    table = floors()
    rooms = [room for floor in table for room in floor.rooms]
    assert len(rooms) == len(set(rooms))
    assert {room_of(module, table) for module in modules(ROOT)} == set(rooms)
    folders = [*(ROOT / "hecompile").iterdir(), *(ROOT / "hecompile/backends").iterdir()]
    packages = {str(path.relative_to(ROOT / "hecompile")).replace("/", ".") for path in folders if (path / "__init__.py").is_file()}
    assert packages <= set(rooms)


SMALL = {
    "hecompile/__init__.py": "_LAZY = {'a': ('hecompile.a', 'thing')}",
    "hecompile/a.py": "import hecompile.b\ndef later():\n    from hecompile.c import inner\n",
    "hecompile/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hecompile import d\n",
    "hecompile/c/__init__.py": "from . import inner\n",
    "hecompile/c/inner.py": "from ..d import thing\nimport json\n",
    "hecompile/d.py": "COMMAND = ('python', '-m', 'hecompile.a')\nOPERATOR = 'hecompile.no_module'\n",
    "linked/__init__.py": "from hecompile.a import thing\n",
    "pyproject.toml": "[project.scripts]\nsmall = 'hecompile.a:thing'\n",
}


@pytest.fixture
def small(tmp_path: Path) -> tuple[Import, ...]:
    for name, text in SMALL.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "hecompile/linked").symlink_to("../linked")
    return imports(tmp_path)


def test_every_form_of_an_import_is_counted(small: tuple[Import, ...]) -> None:
    assert {f"{statement.module} {statement.kind} {statement.imported}".replace("hecompile.", "") for statement in small} == {
        "hecompile text a", "a module b", "a function c.inner", "b type-only d", "c relative c.inner", "c.inner relative d",
        "d text a", "linked module a", "pyproject text a",
    }  # fmt: skip


def test_what_breaks_the_law_is_found(small: tuple[Import, ...]) -> None:
    table = [
        Floor("low", ("d",), askers=("c",)),
        Floor("middle", ("a", "b", "c"), (("a", "b"),)),
        Floor("top", ("linked", "__init__")),
    ]
    assert unlawful(small, table) == [
        "hecompile.a -> hecompile.c.inner",
        "hecompile.b -> hecompile.d",
        "hecompile.d -> hecompile.a",
    ]
    loops = circles({(statement.module, statement.imported) for statement in small})
    assert [{name.replace("hecompile.", "") for name in loop} for loop in loops] == [{"a", "b", "c.inner", "d"}]
    assert mutual(small) == []
    assert climbing(small) == 1  # d -> a
