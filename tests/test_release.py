"""What a release takes: licences that are permissive or explained, interpreters that run, and a folder's place in the project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from release.environments import COMPILERS, Environment, interpreter
from release.licences import EXCEPTIONS, READ, TABLE, Row, allowed, page, refused, rows, spdx

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def packages() -> list[Row]:
    return rows()


def test_the_table_of_licences_is_up_to_date(packages: list[Row]) -> None:
    """If it is not, `python -m release.licences` writes it again."""
    assert TABLE.read_text(encoding="utf-8") == page(packages)


def test_every_licence_is_permissive_or_an_exception(packages: list[Row]) -> None:
    assert refused(packages) == []
    assert [row.name for row in packages if not row.licence or not row.extras] == []


def test_concretes_licence_is_the_one_of_its_file() -> None:
    """Its metadata has forgotten that no patents are licensed."""
    from importlib.metadata import files

    (licence,) = (path for path in files("concrete-python") or () if path.name == "LICENSE")
    assert "NO EXPRESS OR IMPLIED LICENSES TO ANY PARTY'S PATENT RIGHTS" in licence.read_text()
    assert READ["concrete-python"] == "BSD-3-Clause-Clear"
    assert "concrete-python" in EXCEPTIONS


@pytest.mark.parametrize("licence", ["", "GPL-3.0-only", "BSD-3-Clause-Clear", "MIT AND LGPL-2.1-only", "MPL-2.0 AND MIT"])
def test_a_licence_that_is_not_on_the_list_is_refused(licence: str) -> None:
    assert not allowed(licence)
    assert refused([Row("new", "1", licence, ("base",))])[0] == f"new: '{licence}' is not on the list"


def test_a_choice_with_a_permissive_licence_is_allowed() -> None:
    assert allowed("GPL-2.0-only OR MIT AND BSD-2-Clause")


def test_an_exception_that_is_none_any_more_is_told(packages: list[Row]) -> None:
    changed = [Row(row.name, row.version, "MIT", row.extras) if row.name == "tqdm" else row for row in packages]
    assert refused(changed) == ["tqdm is no exception"]


@pytest.mark.parametrize(
    ("expression", "text", "classifiers", "licence"),
    [
        ("MIT", "Apache 2.0", (), "MIT"),
        (None, "Apache 2.0 License", (), "Apache-2.0"),
        (None, "MPL-2.0 AND MIT", (), "MPL-2.0 AND MIT"),
        (None, "Copyright (c) 2005", ("License :: OSI Approved :: BSD License",), "BSD"),
        (None, None, ("License :: OSI Approved :: GNU General Public License (GPL)",), ""),
    ],
)
def test_a_licence_is_read_from_metadata(
    expression: str | None, text: str | None, classifiers: tuple[str, ...], licence: str
) -> None:
    assert spdx(expression, text, classifiers) == licence


def test_an_interpreter_is_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert interpreter(version) is not None
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    broken = tmp_path / f"python{version}"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert interpreter(version) is None
    assert interpreter("3.99") is None


def test_programs_of_an_environment_find_no_compiler(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    environment = Environment(tmp_path / "venv", (sys.executable, "-m", "pip"))
    code = f"import json, os, shutil; print(json.dumps([os.environ['CC'], *map(shutil.which, {COMPILERS!r})]))"
    assert json.loads(environment.run("python", "-c", code).stdout) == ["false", *[None] * len(COMPILERS)]
    assert list(environment.room.iterdir()) == []
    with pytest.raises(RuntimeError, match="ended with 3: no"):
        environment.run("python", "-c", "import sys; sys.stderr.write('no'); sys.exit(3)")


def test_the_makefile_makes_wheels() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "-m release --with-torch 3.11" in makefile
    assert "-m release.licences --check" in makefile
