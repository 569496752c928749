"""What binutils say of compiled files: symbols, and instructions by function."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Instruction", "functions", "innermost_loops", "symbols"]


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly: `operands` as objdump writes them (AT&T: the destination is the last)."""

    address: int
    name: str
    operands: str

    @property
    def jumps_to(self) -> int | None:
        """The address that a jump within the function goes to."""
        match = re.match(r"([0-9a-f]+) <", self.operands)
        return int(match[1], 16) if self.name.startswith("j") and match else None

    def __str__(self) -> str:
        return f"{self.address:x}: {self.name} {self.operands}"


def _run(program: str, *arguments: str | Path) -> str:
    if shutil.which(program) is None:
        raise FileNotFoundError(f"{program} is missing: it comes with binutils, which every g++ needs")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def symbols(file: Path, *options: str) -> dict[str, str]:
    """Kinds of the symbols of a file (the letters of `nm`) by their names."""
    lines = (line.rsplit(maxsplit=2) for line in _run("nm", *options, "--format=bsd", file).splitlines())
    return {parts[-1]: parts[-2] for parts in lines if len(parts) >= 2}


def functions(file: Path) -> dict[str, list[Instruction]]:
    """Instructions of every function of an object file, by its name."""
    by_name: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in _run("objdump", "--disassemble", "--demangle", "--no-show-raw-insn", "--wide", file).splitlines():
        if head := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            current = by_name.setdefault(head[1], [])
        elif code := re.match(r"\s+([0-9a-f]+):\s+(\S+)\s*(.*?)\s*(?:#.*)?$", line):
            current.append(Instruction(int(code[1], 16), code[2], code[3]))
    return by_name


def innermost_loops(code: list[Instruction]) -> list[list[Instruction]]:
    """Runs of instructions that end with a jump back to their first and hold no other such run."""
    jumps = [(jump.jumps_to, jump.address) for jump in code if jump.jumps_to is not None]
    loops = {(first, last) for first, last in jumps if code[0].address <= first <= last}
    inner = {one for one in loops if not any(one[0] <= first and last <= one[1] for first, last in loops - {one})}
    return [[instruction for instruction in code if first <= instruction.address <= last] for first, last in sorted(inner)]
