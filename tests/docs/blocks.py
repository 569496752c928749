"""The fenced blocks of all documents and notebooks, and the commands of those that are for a shell."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENTS", "NOTEBOOKS", "ROOT", "Block", "Command", "blocks", "commands", "of_language"]

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = [path for folder in ("examples", "docs") for path in sorted((ROOT / folder).rglob("*.ipynb"))]
FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its document, its first line there, what stands behind the fence, and its text."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The block for people: `docs/calling.md:12`."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a shell block, without its comment."""

    block: Block
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command as it is typed."""
        return shlex.join(self.words)


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document, or the code cells of a notebook as blocks of python."""
    if document.suffix == ".ipynb":
        cells = json.loads(document.read_text("utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        return [Block(document, number, "python", text) for number, text in enumerate(code, 1)]
    text = document.read_text("utf-8")
    return [
        Block(document, text.count("\n", 0, match.start()) + 1, match["language"].strip(), match["text"])
        for match in FENCE.finditer(text)
    ]


def of_language(document: Path, *languages: str) -> list[Block]:
    """The document's blocks of these languages, in their order."""
    return [block for block in blocks(document) if block.language in languages]


def commands(block: Block) -> list[Command]:
    """The commands of a shell block in their order; `&&`, `;` and the end of a line part them. Comments are left out."""
    result = list[Command]()
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|<>")
        lexer.whitespace_split, words = True, list[str]()
        for word in [*lexer, ";"]:
            if word in ("&&", ";"):
                result += [Command(block, tuple(words))] if words else []
                words = []
            else:
                words.append(word)
    return result
