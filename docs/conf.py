"""The configuration of Sphinx for `make docs`, which builds build/docs from the Markdown here and the API from docstrings."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hecompile.version import __version__  # noqa: E402

project = "hecompile"
author = "the authors of hecompile"
reveal = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["images/**"]
default_role = "code"
myst_heading_anchors = 4  # links such as page.md#a-heading work as they do on a code host
myst_enable_extensions = ["attrs_block"]
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # a decision begins with its number

html_theme = "furo"
html_title = f"hecompile {reveal}"
html_copy_source = False
html_show_sphinx = False
highlight_language = "text"
copybutton_exclude = ".linenos, .gp"

autodoc_typehints = "signature"
python_maximum_signature_line_length = 100
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
nitpick_ignore_regex = [("py:.*", ".*")]  # signatures name many types, of which few have a place on these pages


REPOSITORY = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md", "security": "SECURITY.md"}  # page: file
LINK = re.compile(r"\[([^]]*)\]\((?!\w+:|#)([^)#]*)(#[^)]*)?\)")


def take_from_root(app: Sphinx, name: str, source: list[str]) -> None:
    """Pages that only point to a file of the repository's root get its text, with links as they are from here."""
    pages = {file: page for page, file in REPOSITORY.items()}

    def link(match: re.Match[str]) -> str:
        label, target, place = match[1], match[2], match[3] or ""
        if target in pages or target.startswith("docs/"):
            return f"[{label}]({f'{pages[target]}.md' if target in pages else target.removeprefix('docs/')}{place})"
        return f"[{label}](../{target})" if (ROOT / target).is_file() and not target.endswith(".md") else label

    if name in REPOSITORY:
        source[0] = LINK.sub(link, (ROOT / REPOSITORY[name]).read_text("utf-8"))


def list_decisions(app: Sphinx, name: str, source: list[str]) -> None:
    """Decisions are listed by a table that a code host shows too; this puts them into the site's tree."""
    if name == "decisions/README":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"


def keep_properties(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon in a property's docstring for its type: not where it begins with an empty line."""
    if what in ("property", "attribute"):
        lines.insert(0, "")


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", take_from_root)
    app.connect("source-read", list_decisions)
    app.connect("autodoc-process-docstring", keep_properties, priority=100)
