"""Documents are true: their figures are the benchmarks', their links lead somewhere. tests/docs/ runs their code."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from benchmarks import figures
from hecompile import CompileError
from hecompile.ir.ops import table_markdown
from hecompile.options import CompileOptions

ROOT = Path(__file__).parents[1]
FOLDERS = ("tests", "hecompile", "benchmarks", "passes", "runtime", "models", "examples", "native", "deploy", "release", "docs")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NOT_NOW = {"CHANGELOG.md", "CONTRIBUTING.md"}  # one tells what was, the other what a reader may add
CURRENT = [path for path in DOCUMENTS if path.name not in NOT_NOW and "decisions" not in path.parts]


@pytest.mark.parametrize("name", figures.DOCUMENTS)
def test_figures_are_those_of_the_benchmarks(name: str) -> None:
    text = (ROOT / name).read_text()
    assert figures.BLOCK.search(text)
    assert figures.fill(text) == text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_files_that_documents_name_exist() -> None:
    for path in CURRENT:
        for target in re.findall(
            r"`((?:tests|hecompile|benchmarks|passes|runtime|models|examples|native|deploy|release|docs)/[\w/.-]+)`",
            path.read_text(),
        ):
            assert (ROOT / target).exists(), f"{path.name}: {target}"


def test_names_of_the_code_that_documents_use_exist() -> None:
    """`Backend.carries`, `hecompile.compiler.pipeline`: a class that some file has with this attribute, a module with this name."""
    folders = [ROOT / name for name in ("hecompile", "passes", "runtime", "models")]
    sources = {path: path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py")}
    operations = table_markdown()  # those of our own are named as a module's attributes are
    missing, checked = list[str](), 0
    for path in CURRENT:
        text = path.read_text("utf-8")
        for kind, attribute in re.findall(r"`([A-Z]\w+)\.([a-z]\w+)(?:\(\))?`", text):
            files = [source for source in sources.values() if re.search(rf"^class {kind}\b", source, re.M)]
            checked += bool(files)
            missing += [f"{path.name}: {kind}.{attribute}"] if files and not any(attribute in source for source in files) else []
        for name in re.findall(r"`(hecompile(?:\.\w+)+)(?:\([^`]*\))?`", text):
            if f"`{name.removesuffix('.default')}.default`" in operations:
                continue
            module, _, attribute = name.rpartition(".")
            checked += 1
            missing += [] if exists(module, attribute) else [f"{path.name}: {name}"]
    assert missing == []
    assert checked > 20


def exists(module: str, name: str) -> bool:
    """Whether a module has this attribute, or is a package with such a module."""
    try:
        return hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.fhe
def test_the_code_of_the_readme_runs_and_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for block in blocks:
        assert len(block.strip().splitlines()) <= 15
        namespace: dict[str, object] = {}
        compiled = compile(block, "README.md", "exec")
        run_block(compiled, namespace)
    assert (tmp_path / "out" / "seven.png").is_file()


def test_the_refusal_that_the_options_page_shows_is_the_compilers() -> None:
    (shown,) = re.findall(r"```text\n(error: .*?)```", (ROOT / "docs" / "options.md").read_text(), re.S)
    with pytest.raises(CompileError) as refusal:
        CompileOptions(policy="min-distortion", budget=0.3, tile="4x4")
    assert str(refusal.value).strip() == shown.strip()


def run_block(code: object, namespace: dict[str, object]) -> None:
    """The README is ours: running what it says is the point."""
    exec(code, namespace)  # type: ignore[arg-type]
