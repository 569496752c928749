"""What the compiled core must not hold: weak symbols, hooks of the tests, and instructions whose time tells secrets."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
from pathlib import Path

import pytest

from tests.native.disassembly import Instruction, functions, innermost_loops, symbols

BUILD = Path(__file__).parents[2] / "build" / "native"
X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the kernels are those of x86_64")
PUBLIC = r"::(expand|unpack|limbs::\w+)\("  # functions of a kernel that see words of requests, replies and public streams only
PRODUCTS = {"amx": "tdpbsud", "avx512": "vpdpbusd", "avx2": "vpmaddwd"}  # the instruction that multiplies limbs by weights


def kernel_objects() -> list[Path]:
    objects = sorted((BUILD / "CMakeFiles" / "core.dir" / "kernels").glob("*.o"))
    assert objects, f"there is no kernel in {BUILD}: `make core-tests` builds it"
    return objects


def kernel(name: str) -> Path:
    objects = [path for path in kernel_objects() if path.name == f"{name}.cpp.o"]
    if not objects and name == "amx":
        pytest.skip("the compiler knows no AMX")
    return objects[0]


def on_the_stack(code: list[Instruction]) -> set[Instruction]:
    """Instructions of a function with an operand on the stack, by its pointer or by that of the frame, if there is one."""
    framed = any(instruction.name == "mov" and instruction.operands == "%rsp,%rbp" for instruction in code)
    stack = re.compile(r"\(%(rsp|rbp)" if framed else r"\(%rsp")
    return {instruction for instruction in code if stack.search(instruction.operands)}


def test_kernels_have_no_weak_symbols() -> None:
    """The linker gives one copy of a weak function to everyone; that of a kernel's file could need what a processor lacks."""
    for path in kernel_objects():
        assert not [name for name, kind in symbols(path).items() if kind in ("W", "w", "u", "V", "v")], path.name


def test_the_installed_module_shows_its_entry_only() -> None:
    core = importlib.import_module("hecompile._core")
    assert core.__file__ is not None
    shown = symbols(Path(core.__file__), "--dynamic", "--defined-only")
    assert {name for name in shown if not name.startswith("_")} == {"PyInit__core"}


def test_the_installed_module_has_no_hooks() -> None:
    """Hooks give secrets and streams from outside. Their module is built for tests, beside the installed one."""
    core = importlib.import_module("hecompile._core")
    assert core.__file__ is not None
    assert not re.findall(rb"(?i)planted|_core_hooks", Path(core.__file__).read_bytes())
    assert importlib.util.find_spec("hecompile._core_hooks") is None
    assert list(BUILD.rglob("_core_hooks*.so"))


@X86
@pytest.mark.parametrize("name", PRODUCTS)
def test_inner_loops_of_products_stay_in_registers(name: str) -> None:
    """One accumulator that goes through memory halves the speed, and only the compiler decides it."""
    spilled, loops = [], 0
    for function, code in functions(kernel(name)).items():
        for loop in innermost_loops(code):
            if any(instruction.name == PRODUCTS[name] for instruction in loop):
                loops += 1
                spilled += [f"{function}: {instruction}" for instruction in loop if instruction in on_the_stack(code)]
    assert loops
    assert not spilled


@X86
@pytest.mark.parametrize("name", ["amx", "avx512", "avx2"])
def test_no_value_takes_time_by_what_it_is(name: str) -> None:
    """No look-up by lanes of a vector anywhere, and no division of integers in an innermost loop, where values are: those outside
    divide sizes."""
    lookups = re.compile(r"v?p?gather|v?p?scatter")
    forbidden = []
    for function, code in functions(kernel(name)).items():
        forbidden += [f"{function}: {instruction}" for instruction in code if lookups.match(instruction.name)]
        loops = (loop for loop in innermost_loops(code) if not any(instruction.name.startswith("call") for instruction in loop))
        divisions = (instruction for loop in loops for instruction in loop if re.match(r"i?div", instruction.name))
        forbidden += [f"{function}: {division}" for division in divisions]
    assert not forbidden


@X86
def test_vectors_decide_no_jump() -> None:
    """Secrets, noise and messages of the AVX-512 kernel are in vectors and masks. No instruction makes flags or a number of their
    values, by which a jump or an address could depend on them. Whole registers may move, since the compiler parks pointers in
    vectors: that none of these is secret is for memcheck to say, of the same source compiled for AVX2."""
    telling = re.compile(r"v?ptest|vtestp|kortest|ktest|v?u?comis|v?cvtt?[sp][sdh]2u?si|v?p?movmsk|v?pextr|kmov")
    leaks = []
    for function, code in functions(kernel("avx512")).items():
        if re.search(PUBLIC, function):
            continue
        # masks of all ones or none, which the compiler keeps in a register and takes for a number of its own, say nothing
        masks = {
            f"%k{number}": [instruction for instruction in code if instruction.operands.endswith(f"%k{number}")]
            for number in range(8)
        }
        constant = {name for name, writes in masks.items() if writes and all(re.match("kxn?or", write.name) for write in writes)}
        for instruction in code:
            if instruction.name.startswith("kmov") and instruction.operands.partition(",")[0] in constant:
                continue
            general = re.fullmatch(r"%[re]\w+", instruction.operands.rpartition(",")[2]) is not None
            masked = "::peak(" in function and instruction.name == "vpextrd"  # whether a value is infinite, which becomes a mask
            if telling.match(instruction.name) and (general or not instruction.name.startswith("kmov")) and not masked:
                leaks.append(f"{function}: {instruction}")
    assert not leaks
