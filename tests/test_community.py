"""The files that people of the project meet first: changelog, citation, security, conduct, templates of issues, hooks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hecompile.version import __version__

ROOT = Path(__file__).parents[1]
GROUPS = ("Added", "Changed", "Fixed", "Security", "For authors of backends and passes")
VERSION = re.compile(r"^## (Unreleased|(\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2}))$", re.M)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def front_matter(path: Path) -> dict[str, object]:
    """What a template of issues says of itself."""
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert body.strip()
    fields = yaml.safe_load(head)
    assert isinstance(fields, dict)
    return fields


def test_the_changelog_has_what_comes_on_top_and_then_versions_from_the_newest_on() -> None:
    versions = VERSION.findall(text("CHANGELOG.md"))
    assert versions[0][0] == "Unreleased"
    assert len(re.findall(r"^## ", text("CHANGELOG.md"), re.M)) == len(versions)
    numbers = [tuple(map(int, number.split("."))) for _, number, _ in versions[1:]]
    assert numbers == sorted(numbers, reverse=True)
    dates = [date for *_, date in versions[1:]]
    assert dates == sorted(dates, reverse=True)
    assert ".".join(map(str, numbers[0])) == __version__


def test_what_changed_in_a_version_is_grouped() -> None:
    headings = re.findall(r"^### (.+)$", text("CHANGELOG.md"), re.M)
    assert headings
    assert set(headings) <= set(GROUPS)


def test_the_citation_names_this_version_its_day_and_the_paper() -> None:
    cited = yaml.safe_load(text("CITATION.cff"))
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(cited)
    assert str(cited["version"]) == __version__
    assert cited["date-released"] in text("CHANGELOG.md").partition(f"## {__version__} - ")[2].splitlines()[0]
    assert cited["license"] == re.findall(r'^license = "(.+)"$', text("pyproject.toml"), re.M)[0]
    (paper,) = cited["references"]
    names = [author["family-names"] for author in paper["authors"]]
    arxiv = paper["identifiers"][0]["value"].removeprefix("arXiv:")
    assert f"{', '.join(names[:-1])} and {names[-1]} (arXiv {arxiv})" in text("docs/he-diffusion.md")


def test_security_says_how_to_report_what_is_promised_and_what_was_not_done() -> None:
    security = text("SECURITY.md")
    assert "docs/threat-model.md" in security
    assert "not been audited by a third party" in security
    assert "private security advisory" in security
    minor = __version__.rpartition(".")[0]
    assert re.search(rf"^\| {re.escape(minor)} \| yes \|$", security, re.M)


@pytest.mark.parametrize("name", ["SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md"])
def test_nobody_is_sent_to_an_address_that_may_not_exist(name: str) -> None:
    assert not re.search(r"[\w.+-]+@[\w-]+\.\w+", text(name))


@pytest.mark.parametrize("name", ["SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text(name)):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")), ids=lambda path: path.stem)
def test_a_template_of_issues_says_what_it_is_for(path: Path) -> None:
    assert {"name", "about", "title", "labels"} == set(front_matter(path))


def test_security_faults_are_sent_elsewhere() -> None:
    names = {path.stem for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")}
    assert names == {"bug", "question", "refused-model"}  # none that invites to tell a fault in public
    assert "SECURITY.md" in text("CONTRIBUTING.md")
    assert yaml.safe_load(text(".github/ISSUE_TEMPLATE/config.yml")) == {"blank_issues_enabled": False}


def test_hooks_download_nothing_and_run_programs_of_the_environment() -> None:
    (repository,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
    named = {hook["id"] for hook in repository["hooks"]}
    assert named == {"ruff", "ruff-format", "mypy", "clang-format", "typos", "hadolint", "committed", "decisions"}


def test_what_a_hook_checks_is_checked_by_make_lint_too() -> None:
    recipe = text("Makefile").partition("\nlint: ")[2].partition("\n\n")[0]
    for program in (
        "ruff check",
        "ruff format",
        "mypy",
        "typos",
        "hadolint",
        "clang-format",
        "release.committed",
        "release.decisions",
    ):
        assert program in recipe, program
