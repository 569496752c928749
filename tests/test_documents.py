"""Documents are true: their figures are the benchmarks', their code runs, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import figures

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


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
    for path in DOCUMENTS:
        for target in re.findall(r"`((?:tests|hecompile|benchmarks|passes|runtime|models|examples)/[\w/.-]+)`", path.read_text()):
            assert (ROOT / target).exists(), f"{path.name}: {target}"


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


@pytest.mark.parametrize("name", ["he-diffusion.md", "options.md", pytest.param("calling.md", marks=pytest.mark.slow)])
def test_the_code_of_documents_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(), re.S):
        run_block(compile(block, name, "exec"), {})


def run_block(code: object, namespace: dict[str, object]) -> None:
    """The README is ours: running what it says is the point."""
    exec(code, namespace)  # type: ignore[arg-type]
