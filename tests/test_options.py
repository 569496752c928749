"""Options: an option that does nothing is refused, what was given stays, numbers are read as people write them."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from hecompile.approx.options import ApproximationOptions
from hecompile.backends.ckks.options import CkksOptions
from hecompile.backends.concrete.options import ConcreteOptions
from hecompile.backends.registry import backend, backend_names, family, options_of
from hecompile.errors import CompileError
from hecompile.options import CompileOptions
from hecompile.options.core import CoreOptions
from hecompile.options.gathering import PASSES, gather
from hecompile.options.plan import PlanOptions
from hecompile.panels import Declared, NoOptions, Panel, built, declared, option
from hecompile.policies import policy, policy_names
from hecompile.policies.options import MinDistortionOptions
from hecompile.sampler_artifact import SamplerOptions
from hecompile.wording import number, number_text

# a value of every option, other than its default
VALUES: Mapping[str, Any] = {
    "policy": "strict", "backend": "clear", "security": 128, "max_batch": 2, "public": ("mask",), "size": "8x8", "tokens": 7,
    "machine": "machine.json", "calibration": "calls.safetensors", "passes": ("limit-work",), "verify": True,
    "protect_weights": False,
    "partition": "optimised", "goal": "bytes", "client_seconds": 1.0, "client_weights_mib": 1.0, "most_mb_first": 10.0,
    "most_mb_later": 5.0, "most_rounds": 3, "most_distortion": 0.1,
    "most_leakage": 0.1, "server_mib": 500.0, "pin": ("a=client",), "among": ("concrete",), "activations": "polynomial",
    "norms": "static", "sites": "inner", "degree": 3, "budget_db": 30.0, "total_depth": 20, "clamp": True,
    "client_cache_mib": 32.0, "run_calls": 10,
    "budget": 0.3, "importance": "magnitude", "granularity": "tile", "tile": "2x2", "reveal_bits": 6, "declare": ("sample",),
    "key_mib": 100.0, "p_error": 2.0**-30, "lookup_db": 20.0, "lookup_seconds": 10.0, "lookup_key_mib": 100.0,
}  # fmt: skip
# what makes each option do something, under a backend and policy that have it
BUDGETS = (
    "goal", "client_seconds", "client_weights_mib", "most_mb_first", "most_mb_later", "most_rounds", "most_distortion",
    "server_mib", "pin", "among",
)  # fmt: skip
OF_POLYNOMIALS = ("sites", "degree", "budget_db", "total_depth", "clamp", "calibration")
NEEDS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"partition": "optimised"} for name in BUDGETS},
    **{name: {"activations": "polynomial"} for name in OF_POLYNOMIALS},
    **{name: {"budget": 0.3} for name in ("importance", "granularity", "reveal_bits", "declare")},
    "most_leakage": {"partition": "optimised", "policy": "min-distortion", "budget": 0.3},
    "tile": {"budget": 0.3, "granularity": "tile"},
}
OWNERS = gather().owners
OWN = [kind for kind in gather().titles if kind not in PASSES]  # of backends and policies
MODELS = [name for name in backend_names() if name != "sampler_step"]  # that run models


def policy_for(name: str) -> str:
    """A policy with options that the backend can keep, if there is one."""
    promise = backend(name).guarantee
    return "simulation" if not promise.encrypts else "min-distortion" if promise.hides_key else "strict"


def options_with(kind: type[Panel], name: str) -> dict[str, Any]:
    """What must be given for an option of a panel to do something."""
    options = dict(NEEDS.get(name, {}))
    if kind is MinDistortionOptions:
        return {"policy": "min-distortion", "budget": 0.3} | options
    if kind in OWN:
        return {"backend": next(scheme for scheme in MODELS if options_of(scheme) is kind)} | options
    return options


def test_every_option_has_a_value_here() -> None:
    assert set(VALUES) == set(OWNERS)


@pytest.mark.parametrize("name", VALUES)
def test_an_option_in_its_panel_is_kept(name: str) -> None:
    options = CompileOptions(**(options_with(OWNERS[name], name) | {name: VALUES[name]}))
    assert getattr(options, name) == VALUES[name]
    assert options.given[name] == VALUES[name]


@pytest.mark.parametrize("name", dict.fromkeys(name for kind in OWN for name in declared(kind)))
@pytest.mark.parametrize("scheme", MODELS)
def test_an_option_outside_its_panel_is_refused(scheme: str, name: str) -> None:
    """Under every backend, with the policy that is most likely to have it; with another value and with its default."""
    kinds = (*map(options_of, family((scheme,))), policy(policy_for(scheme)).options)
    if any(name in declared(kind) for kind in kinds):
        return
    for value in (VALUES[name], declared(OWNERS[name])[name].default):
        if value is not None:
            with pytest.raises(CompileError, match=rf"{name} does nothing under --(backend|policy) [\s\S]*leave --"):
                CompileOptions(backend=scheme, **{name: value})


@pytest.mark.parametrize("name", [name for name in NEEDS if name not in ("among",)])
def test_an_option_that_does_nothing_beside_the_others_is_refused(name: str) -> None:
    kind = OWNERS[name]
    options: dict[str, Any] = {"policy": "min-distortion", "budget": 0.3} if name == "tile" else {}
    options = {"backend": "clear"} if kind is MinDistortionOptions and name != "tile" else options
    with pytest.raises(CompileError, match=rf"{name} does nothing: [\s\S]*help: add .* leave --"):
        CompileOptions(**options, **{name: VALUES[name]})


@pytest.mark.parametrize("name", [*declared(ApproximationOptions), *declared(PlanOptions), "tile", "importance"])
def test_a_default_that_does_nothing_is_refused_too(name: str) -> None:
    default = declared(OWNERS[name])[name].default
    if default is None or name not in NEEDS:
        return
    options = options_with(OWNERS[name], name) if OWNERS[name] is MinDistortionOptions else {}
    options = {key: value for key, value in options.items() if key not in ("granularity", "budget")}
    if OWNERS[name] is MinDistortionOptions:
        options["budget"] = 0.0 if name == "importance" else 0.3
    with pytest.raises(CompileError, match=f"{name} does nothing"):
        CompileOptions(**options, **{name: default})


def kept_or_refused(**given: Any) -> dict[str, Any] | str:
    """What the options have for what was given, or why they are refused."""
    try:
        options = CompileOptions(**given)
    except CompileError as error:
        return str(error)
    return {name: getattr(options, name) for name in given}


@pytest.mark.parametrize("scheme", MODELS)
@pytest.mark.parametrize("name", declared(ApproximationOptions))
def test_what_was_given_is_never_overwritten(scheme: str, name: str) -> None:
    """Under every backend, whatever it recommends: kept, or refused with a way out."""
    for value in declared(ApproximationOptions)[name].choices or [VALUES[name]]:
        for given in ({name: value}, {"activations": "polynomial"} | {name: value}):
            outcome = kept_or_refused(backend=scheme, **given)
            assert outcome == {"backend": scheme} | given or "\n  help: " in outcome


def test_a_recommendation_fills_only_what_was_not_given() -> None:
    options = CompileOptions(backend="ckks", degree=3)
    assert options.degree == 3
    assert (options.activations, options.norms, options.sites) == ("polynomial", "static", "inner")
    assert CompileOptions(backend="ckks").degree == 2
    assert CompileOptions(backend="ckks", norms="exact").norms == "exact"
    assert CompileOptions(backend="ckks", budget_db=30).degree is None  # which chooses the degrees


def test_what_cannot_work_with_a_backend_is_refused() -> None:
    with pytest.raises(CompileError, match="with exact activations there is nothing for ckks to run"):
        CompileOptions(backend="ckks", activations="exact")


def replaced(options: CompileOptions, **changes: Any) -> CompileOptions:
    """`replace`, for options that a type checker does not see: they are no fields of the class."""
    return replace(options, **changes)


def test_replace_keeps_what_was_given_and_only_that() -> None:
    options = replaced(CompileOptions(max_batch=2), backend="ckks", degree=3)
    assert options == CompileOptions(backend="ckks", degree=3, max_batch=2)
    assert replaced(options, degree=None).degree == 2
    assert replaced(CompileOptions(), backend="clear").policy == "simulation"
    assert hash(options) == hash(replace(options))
    assert repr(options) == "CompileOptions(backend='ckks', degree=3, max_batch=2)"


def test_options_are_copied_and_frozen() -> None:
    options = CompileOptions(backend="concrete", p_error="2^-40")
    assert copy.deepcopy(options) == options == pickle.loads(pickle.dumps(options))
    with pytest.raises(FrozenInstanceError):
        options.backend = "bfv"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no option 'nothing'"):
        _ = options.nothing


def test_a_panel_is_read_as_a_whole() -> None:
    assert CompileOptions(backend="ckks", key_mib=100).panel(CkksOptions) == CkksOptions(key_mib=100.0)
    assert CompileOptions(backend="concrete_lookups", p_error=1e-6).panel(ConcreteOptions) == ConcreteOptions(p_error=1e-6)
    assert CompileOptions().panel(CkksOptions) == CkksOptions()
    beside = CompileOptions(partition="optimised", among=("concrete",), p_error=1e-6)
    assert beside.panel(ConcreteOptions).p_error == 1e-6


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2^-40", 2.0**-40), ("2**-40", 2.0**-40), (" 2 ^ -40 ", 2.0**-40), ("1e-6", 1e-6), ("10^-6", 1e-6), ("25", 25.0),
        (".5", 0.5), ("-3", -3.0), (7, 7.0), (True, None), ("25 dB", None), ("2^", None),
        ("nan", None), ("inf", None), (float("inf"), None),
        ("9^9999", None), ("0^-1", None), ("", None), ("1_000", None), ("two", None), (None, None),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text: Any, value: float | None) -> None:
    assert number(text) == (None if value is None else pytest.approx(value, rel=1e-15))


@pytest.mark.parametrize(("value", "text"), [(2.0**-40, "2^-40"), (0.25, "0.25"), (128, "128"), (1e-6, "1e-06"), (2048.0, "2048")])
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    assert number_text(value) == text
    assert number(text) == value


def numeric() -> list[tuple[str, Declared]]:
    return [(name, declared(kind)[name]) for name, kind in OWNERS.items() if declared(kind)[name].kind in (int, float)]


@pytest.mark.parametrize(("name", "declaration"), numeric(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_number_is_read_as_text_and_kept_in_its_bounds(name: str, declaration: Declared) -> None:
    options = options_with(OWNERS[name], name)
    text = number_text(VALUES[name])
    assert getattr(CompileOptions(**(options | {name: text})), name) == pytest.approx(VALUES[name])
    wrong = [end - 1 for end in (declaration.at_least,) if end is not None] + [
        end + 1 for end in (declaration.at_most,) if end is not None
    ]
    wrong += [end for end in (declaration.above, declaration.below) if end is not None]
    for value in [*wrong, "many", float("nan")]:
        with pytest.raises(CompileError, match=rf"{name} is .*: it must be [\s\S]*help: "):
            CompileOptions(**(options | {name: value}))


def test_whole_numbers_are_whole() -> None:
    assert CompileOptions(max_batch="2^3").max_batch == 8
    assert isinstance(CompileOptions(max_batch=8.0).max_batch, int)
    with pytest.raises(CompileError, match=r"max_batch is 1\.5: it must be a whole number"):
        CompileOptions(max_batch=1.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"activations": "polynomial", "degree": 40},
            "error: degree is 40: it must be between 1 and 31\n  help: --degree: one degree for every polynomial",
        ),
        (
            {"key_mib": 300},
            "error: key_mib does nothing under --backend bfv\n"
            "  help: use --backend ckks or ckks_clear, or leave --key-mib away",
        ),
        (
            {"policy": "min-distortion", "budget": 0.3, "tile": "4x4"},
            "error: tile does nothing: whole channels are revealed\n  help: add --granularity tile, or leave --tile away",
        ),
        ({"digree": 3}, "error: there is no option 'digree'\n  help: did you mean degree?"),
        ({"norms": "statik"}, "error: norms is 'statik': it must be exact, static or polynomial\n  help: did you mean static?"),
        (
            {"most_rounds": 3, "degree": 0},
            "error: most_rounds does nothing: all layers run at the server, whatever that costs\n"
            "  help: add --partition optimised, or leave --most-rounds away",
        ),
        (
            {"key_mib": 300, "p_error": 1, "sites": "outer"},
            "error: key_mib does nothing under --backend bfv\n"
            "  help: use --backend ckks or ckks_clear, or leave --key-mib away\n"
            "error: p_error does nothing under --backend bfv\n"
            "  help: use --backend concrete, concrete_lookups or concrete_stacks, or leave --p-error away\n"
            "error: sites is 'outer': it must be all or inner\n"
            "  help: --sites: approximate all activations and norms, or only those of inner values, which nothing else reads",
        ),
    ],
)  # fmt: skip
def test_refusals_in_words(given: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError) as caught:
        CompileOptions(**given)
    assert str(caught.value) == message


def test_pins_have_two_sides() -> None:
    with pytest.raises(CompileError, match=r"pins are written layer=side, not a=moon\n  help: sides are client and server"):
        CompileOptions(partition="optimised", pin=("a=moon", "b=client"))


def test_backends_and_policies_declare_the_panels_that_are_gathered() -> None:
    for name in backend_names():
        assert options_of(name) is backend(name).options
    for name in policy_names():
        assert issubclass(policy(name).options, Panel)


def test_every_option_says_what_it_does() -> None:
    for kind in (*gather().titles, SamplerOptions):
        for name, declaration in declared(kind).items():
            assert declaration.help, name
            assert declaration.help[0].islower(), name


def test_one_name_is_declared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import hecompile.options.gathering as module

    @dataclass(frozen=True)
    class Other(Panel):
        degree: int = option(1, help="of something else")

    monkeypatch.setattr(module, "PASSES", (*PASSES, Other))
    with pytest.raises(CompileError, match="both declare an option 'degree'"):
        _ = gather().owners


def test_a_panel_of_a_registered_backend_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the backend names it."""
    from hecompile.backends import registry
    from hecompile.backends.bfv.backend import BfvBackend

    @dataclass(frozen=True)
    class OwnOptions(Panel):
        speed: int = option(1, help="how fast it should be", at_least=1, at_most=9)

    class Own(BfvBackend):
        name = "own"
        options = OwnOptions

    monkeypatch.setattr(registry, "_REGISTERED", {})
    registry.register_backend("own", Own)
    assert gather().titles[OwnOptions] == "--backend own"
    assert CompileOptions(backend="own", speed="2^3").panel(OwnOptions).speed == 8
    with pytest.raises(CompileError, match="speed does nothing under --backend bfv"):
        CompileOptions(speed=2)
    with pytest.raises(CompileError, match="speed is 10: it must be between 1 and 9"):
        CompileOptions(backend="own", speed=10)


def test_a_package_runs_nothing_before_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from hecompile.backends import registry
    from hecompile.backends.bfv.backend import BfvBackend

    @dataclass(frozen=True)
    class TheirOptions(Panel):
        speed: int = option(1, help="how fast it should be")

    class Theirs(BfvBackend):
        name = "theirs"
        options = TheirOptions

    class Point:
        name = value = "theirs"
        loaded = 0

        def load(self) -> type[Theirs]:
            self.loaded += 1
            return Theirs

    point = Point()
    monkeypatch.setattr(registry, "_installed", lambda: {"theirs": point})
    assert CompileOptions().backend == "bfv"
    with pytest.raises(CompileError, match="there is no option 'speed'"):
        CompileOptions(speed=3)
    assert point.loaded == 0
    options = CompileOptions(backend="theirs", speed=3)
    assert options.backend_panels() == {TheirOptions: TheirOptions(speed=3)}


def test_alternatives_of_a_panel_are_not_filled_beside_each_other() -> None:
    panel = built(ApproximationOptions, {"activations": "polynomial", "total_depth": 20}, {"degree": 2, "norms": "static"})
    assert (panel.degree, panel.total_depth, panel.norms) == (None, 20, "static")


def test_the_panel_of_what_has_no_options_is_empty() -> None:
    assert not fields(NoOptions)


def test_panels_are_read_without_schemes() -> None:
    """The command line gathers every panel; torch, SEAL and Concrete stay away."""
    code = "import sys; from hecompile.options.gathering import gather; gather(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "seal", "tenseal", "concrete", "onnx", "onnxruntime", "diffusers"} & {
        module.split(".")[0] for module in loaded
    }


def test_flags_are_the_fields_of_the_panels() -> None:
    import typer

    from hecompile.cli.app import app

    command: Any = typer.main.get_command(app)
    parameters = {parameter.name: parameter for parameter in command.commands["compile"].params}
    for kind, title in gather().titles.items():
        for name, declaration in declared(kind).items():
            assert parameters[name].opts == [declaration.flag]
            assert parameters[name].default is None
            assert parameters[name].rich_help_panel == gather().titles[OWNERS[name]], (title, name)
    assert set(parameters) - set(OWNERS) == {"source", "output", "until", "dump_ir", "as_json"}
    sampler = {parameter.name for parameter in command.commands["compile-sampler"].params}
    assert sampler - set(declared(SamplerOptions)) == {"output", "shape", "calibration", "as_json"}


def test_the_shell_reads_what_python_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    import hecompile.compiler
    from hecompile.cli.app import app

    seen: list[CompileOptions] = []

    class Nothing:
        passes = ()

    def compiled(*_: Any, options: CompileOptions, **__: Any) -> Any:
        seen.append(options)
        return Nothing()

    monkeypatch.setattr(hecompile.compiler, "compile_model", compiled)
    flags = [
        "--backend",
        "concrete_lookups",
        "--p-error",
        "2^-30",
        "--activations",
        "polynomial",
        "--clamp",
        "--public",
        "a",
        "--public",
        "b",
    ]
    result = CliRunner().invoke(app, ["compile", "digits", "-o", "out", *flags])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(app, ["compile", "digits", "-o", "out"]).exit_code == 0
    assert seen[0].given == {
        "backend": "concrete_lookups", "p_error": 2.0**-30, "activations": "polynomial", "clamp": True, "public": ("a", "b"),
    }  # fmt: skip
    assert seen[1] == CompileOptions()


def test_options_of_a_sampler_are_checked_and_read_alike() -> None:
    assert SamplerOptions(**dict[str, Any](tau="2^-7")).tau == 2.0**-7
    for wrong in ({"tau": 1.0}, {"most_clear": 1.1}, {"max_batch": 0}):
        with pytest.raises(CompileError, match="it must be"):
            SamplerOptions(**wrong)


def test_the_core_has_what_every_compilation_reads() -> None:
    assert list(declared(CoreOptions)) == [
        "policy", "backend", "security", "max_batch", "public", "size", "tokens", "machine", "calibration", "passes",
        "verify", "protect_weights",
    ]  # fmt: skip


def table() -> str:
    """What the panels say of every option, as a table in Markdown."""
    rows = list[str]()
    for kind, title in gather().titles.items():
        shown = [declaration for name, declaration in declared(kind).items() if OWNERS[name] is kind and not declaration.hidden]
        rows += ["", f"| {title if title != 'Options' else 'always'} | |", "|---|---|"]
        for declaration in shown:
            choices = f"; one of {', '.join(declaration.choices)}" if declaration.choices else ""
            rows.append(f"| `{declaration.flag}` | {declaration.described}{choices} |")
    return "\n".join(rows)


def test_the_document_lists_every_option() -> None:
    text = (Path(__file__).parents[1] / "docs" / "options.md").read_text()
    start, end = "<!-- options: this table is what the panels say -->\n", "\n<!-- end -->"
    assert text.split(start)[1].split(end)[0] == table()
