"""Which files of the library a call goes through: every Python function of ours that runs, and who called it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

__all__ = ["Walk", "traced"]

FOLDERS = ("hecompile", "passes", "runtime", "models")  # where the library lies
SERVER = """
import sys
from pathlib import Path
import hecompile.runtime.server
from hecompile.runtime.service import load_service
load_service(Path(sys.argv[1]) / "server")
print(*[name for name in sys.modules if name.partition(".")[0] == "hecompile"])
"""


@dataclass
class Walk:
    """What ran. Comprehensions and lambdas count as part of their function; a generator counts each time that it goes on."""

    calls: int = 0
    files: dict[str, None] = field(default_factory=dict)  # in the order of their first calls, such as `runtime/client.py`
    arrows: dict[tuple[str, str], None] = field(default_factory=dict)  # from a file to another that it calls

    def note(self, file: str, caller: str) -> None:
        """One more call of a function in `file`."""
        self.calls += 1
        self.files.setdefault(file)
        if caller != file:
            self.arrows.setdefault((caller, file))


@contextmanager
def traced(root: Path, within: str = "") -> Iterator[list[Walk]]:
    """Watch this thread's calls of the library's functions below `root`: one walk in all, or one for every call of a function named
    `within`.

    A call of ours that goes through somebody else's code counts as one from the last file of ours.
    """
    walks, above_all, depth = list[Walk](), f"{root.resolve()}/", 0
    known = dict[CodeType, str]()

    def name_of(code: CodeType) -> str:
        """The file's name below `root`; empty for code of others, for bodies of modules and classes, and within a comprehension."""
        if code not in known:
            function = code.co_flags & CO_OPTIMIZED and not code.co_name.startswith("<")
            path = str(Path(code.co_filename).resolve()) if function and code.co_filename.endswith(".py") else ""
            name = path.removeprefix(above_all) if path.startswith(above_all) else ""
            known[code] = name if name.partition("/")[0] in FOLDERS else ""
        return known[code]

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal depth
        file = name_of(frame.f_code) if event in ("call", "return") else ""
        if file and frame.f_code.co_name == within:
            depth += 1 if event == "call" else -1
            if event == "call" and depth == 1:
                walks.append(Walk())
        if file and event == "call" and (depth or not within):
            above = frame.f_back
            while above is not None and not name_of(above.f_code):
                above = above.f_back
            walks[-1].note(file, name_of(above.f_code) if above is not None else file)

    if not within:
        walks.append(Walk())
    sys.setprofile(watch)
    try:
        yield walks
    finally:
        sys.setprofile(None)


def main(tree: Path) -> None:
    """Print as JSON what compiling a small network, a request to it and its server go through. `tree` must be on the path."""
    import hecompile
    from tests.networks import Tiny, tiny_inputs

    options = hecompile.CompileOptions(max_batch=3)
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "tiny.he"
        with traced(tree) as compiling:
            hecompile.compile(Tiny().eval(), artifact, example_inputs=tiny_inputs(), options=options)
        unet = hecompile.load(artifact)
        unet(**tiny_inputs())  # what is made once is made
        with traced(tree, "_exchange") as requests:
            unet(**tiny_inputs())
        command = [sys.executable, "-c", SERVER, str(artifact)]
        names = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tree).stdout.split()
    print(json.dumps({
        "files that compiling goes through": len(compiling[0].files),
        "arrows that compiling goes along": len(compiling[0].arrows),
        "calls of a request": max(walk.calls for walk in requests),
        "files of a request": len(requests[0].files),
        "arrows of a request": len(requests[0].arrows),
        "arrows of a request to another folder": sum(Path(a).parent != Path(b).parent for a, b in requests[0].arrows),
        "server": names,
    }))  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(Path(sys.argv[1]).resolve())
