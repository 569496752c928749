"""A loaded model is called as its module is: names, order, structures, constants, results, precision."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from diffusers.utils import BaseOutput
from torch import nn

import hecompile
from hecompile.runtime.client import EncryptedUNet, InputError

X, Y = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
OPTIONS = hecompile.CompileOptions(backend="clear", max_batch=3)
Forward = Callable[..., Any]


class Module(nn.Module):
    """A convolution whose `forward` is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)


def module_with(forward: Forward) -> nn.Module:
    return type("Given", (Module,), {"forward": forward})().eval()


def loaded(module: nn.Module, folder: Path, examples: Any) -> EncryptedUNet:
    hecompile.compile(module, folder / "m.he", options=OPTIONS, example_inputs=examples)
    return hecompile.load(folder / "m.he", policy="simulation")


def agree(result: torch.Tensor, expected: torch.Tensor) -> bool:
    """Within what int8 weights and 12-bit values leave: 35 dB."""
    assert result.shape == expected.shape
    return bool((result - expected).square().mean() < 10**-3.5 * expected.square().max())


def test_arguments_bind_in_the_order_of_forward_whatever_the_order_of_the_examples(tmp_path: Path) -> None:
    module = module_with(lambda self, x, low: self.conv(x) - low)
    model = loaded(module, tmp_path, {"low": Y, "x": X})
    assert agree(model(X, Y), module(X, Y))
    assert agree(model(low=Y, x=X), module(X, Y))
    assert agree(model(X, low=Y), module(X, Y))


@pytest.mark.parametrize("name", ["input", "type", "X", "Sample", "x_01", "conv", "größe", "_", "class_", "add", "client_00"])
def test_any_name_of_an_argument(name: str, tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(f"def forward(self, {name}, other): return self.conv({name}) + 2 * other", scope)  # the only way to such a parameter
    module = module_with(scope["forward"])
    model = loaded(module, tmp_path, {name: X, "other": Y})
    assert agree(model(X, Y), module(X, Y))
    assert agree(model(**{name: X, "other": Y}), module(X, Y))


def test_an_argument_named_as_a_parameter_of_the_module_is(tmp_path: Path) -> None:
    class Scaled(Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(4, 1, 1) + 1)

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * self.scale * scale[:, None, None, None]

    module, scale = Scaled().eval(), torch.tensor([1.0, 2.0])
    assert agree(loaded(module, tmp_path, {"x": X, "scale": scale})(X, scale), module(X, scale))


def test_modules_with_capitals_and_names_that_meet(tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.Conv_A, self.conv_a = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.lora_B, self.lora_b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lora_B(torch.relu(self.Conv_A(x))) + self.lora_b(torch.relu(self.conv_a(x)))

    module = Named().eval()
    assert agree(loaded(module, tmp_path, [X])(X), module(X))


def test_positional_only_open_ended_and_keyword_only_arguments(tmp_path: Path) -> None:
    def forward(self: Any, x: torch.Tensor, /, *rest: torch.Tensor, **named: torch.Tensor) -> Any:
        return self.conv(x) + sum(rest) + 2 * named["low"]

    module = module_with(forward)
    model = loaded(module, tmp_path, {"x": X, "rest": (Y, X), "low": Y})
    assert agree(model(X, Y, X, low=Y), module(X, Y, X, low=Y))
    with pytest.raises(InputError, match=r"missing arguments: rest\[1\]"):
        model(X, Y, low=Y)


def test_lists_tuples_and_dictionaries_of_tensors_at_any_depth(tmp_path: Path) -> None:
    def forward(self: Any, x: torch.Tensor, residuals: Any = None, extra: Any = None) -> torch.Tensor:
        for residual in residuals:
            x = self.conv(x) + residual
        return x + extra["deep"][0]["a"] * extra["scale"]

    module = module_with(forward)
    arguments = {"residuals": (X, Y), "extra": {"deep": [{"a": Y}], "scale": 2.0}}
    model = loaded(module, tmp_path, {"x": X, **arguments})
    expected = module(X, **arguments)
    assert agree(model(X, **arguments), expected)
    assert agree(model(X, [X, Y], {"deep": ({"a": Y},), "scale": 2}), expected)
    with pytest.raises(InputError, match=r"not compiled in: residuals\[2\]"):
        model(X, [X, Y, Y], arguments["extra"])
    with pytest.raises(InputError, match=r"residuals is a Tensor, but was compiled as a list"):
        model(X, X, arguments["extra"])
    with pytest.raises(InputError, match=r"extra.scale differs from 2.0, which was compiled in"):
        model(X, [X, Y], {"deep": [{"a": Y}], "scale": 3.0})


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "mean"])
def test_constants_are_kept_and_others_refused(value: Any, tmp_path: Path) -> None:
    def forward(self: Any, x: torch.Tensor, how: Any = "default") -> torch.Tensor:
        return self.conv(x) * {None: 1, True: 2, 3: 3, 0.5: 4, "mean": 5, "default": 6}[how]

    module = module_with(forward)
    model = loaded(module, tmp_path, {"x": X, "how": value})
    assert agree(model(X, value), module(X, value))
    with pytest.raises(InputError, match=r"how (differs|was not compiled in)"):
        model(X, how="default")
    with pytest.raises(InputError, match="missing arguments: how="):
        model(X)  # which would mean the default


def test_a_default_that_no_file_can_hold_may_be_left_away(tmp_path: Path) -> None:
    module = module_with(lambda self, x, most=float("inf"), odd=float("nan"): self.conv(x).clamp(max=most))
    model = loaded(module, tmp_path, {"x": X})
    assert agree(model(X), module(X))
    with pytest.raises(InputError, match="not compiled in: most"):
        model(X, most=1.0)


def test_a_default_that_was_compiled_in_may_be_given_or_left_away(tmp_path: Path) -> None:
    module = module_with(lambda self, x, factor=2.0, flag=None: self.conv(x) * factor)
    model = loaded(module, tmp_path, {"x": X})
    several: tuple[tuple[Any, ...], ...] = ((), (2.0,), (2.0, None), (2.0, {}))
    for arguments in several:
        assert agree(model(X, *arguments), module(X))
    with pytest.raises(InputError, match=r"factor differs from 2.0"):
        model(X, 3.0)
    with pytest.raises(InputError, match="flag was not compiled in"):
        model(X, flag=Y)


def test_an_argument_that_the_model_has_not_lists_those_that_it_has(tmp_path: Path) -> None:
    model = loaded(module_with(lambda self, x, low=None: self.conv(x)), tmp_path, {"x": X})
    with pytest.raises(InputError, match=r"not compiled in: mask \(the model takes x, low"):
        model(X, mask=Y)
    with pytest.raises(InputError, match="given twice"):
        model(X, x=Y)
    with pytest.raises(InputError, match="3 positional arguments were given, the model takes 2: x, low"):
        model(X, None, None)


Pair = namedtuple("Pair", "noise variance")  # as people write it


@dataclass
class Learned(BaseOutput):
    """A model's own output class."""

    noise: torch.Tensor
    variance: torch.Tensor | None = None


FORMS: dict[str, Forward] = {
    "a tuple": lambda noise, variance: (noise, variance),
    "a list": lambda noise, variance: [noise, variance],
    "a dictionary": lambda noise, variance: {"noise": noise, "variance": variance},
    "an ordered dictionary": lambda noise, variance: OrderedDict(noise=noise, variance=variance),
    "a named tuple": Pair,
    "nested, with constants": lambda noise, variance: ({"a": [noise, None]}, variance, 3, "text"),
    "the same twice": lambda noise, variance: (noise, variance, noise),
}


def structure(result: Any) -> Any:
    """Types and names of a result, with a word for every tensor."""
    if isinstance(result, dict):
        return type(result).__name__, {key: structure(item) for key, item in result.items()}
    if isinstance(result, list | tuple):
        return type(result).__name__, [structure(item) for item in result]
    return "tensor" if isinstance(result, torch.Tensor) else result


def leaves(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    items = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else ()
    return [leaf for item in items for leaf in leaves(item)]


@pytest.mark.parametrize("form", FORMS)
def test_results_come_back_as_they_are_returned(form: str, tmp_path: Path) -> None:
    module = module_with(lambda self, x: FORMS[form](*self.conv(x).chunk(2, dim=1)))
    model = loaded(module, tmp_path, {"x": X})
    assert structure(model(X)) == structure(module(X))
    assert all(agree(*pair) for pair in zip(leaves(model(X)), leaves(module(X)), strict=True))


def test_a_named_tuple_has_its_names(tmp_path: Path) -> None:
    model = loaded(module_with(lambda self, x: Pair(*self.conv(x).chunk(2, dim=1))), tmp_path, {"x": X})
    assert model(X).variance.shape == (2, 2, 6, 6)


def test_an_output_class_of_the_users_own_has_its_name_and_fields(tmp_path: Path) -> None:
    module = module_with(lambda self, x: Learned(*self.conv(x).chunk(2, dim=1)))
    model = loaded(module, tmp_path, {"x": X})
    result = model(X)
    assert (type(result).__name__, isinstance(result, BaseOutput)) == ("Learned", True)
    assert agree(result.variance, module(X).variance)
    assert isinstance(model(X, return_dict=False), tuple)


def test_one_tensor_for_two_arguments(tmp_path: Path) -> None:
    module = module_with(lambda self, x, low: self.conv(x) - low)
    assert agree(loaded(module, tmp_path, {"x": X, "low": X})(X, Y), module(X, Y))


@pytest.mark.parametrize("wrap", [lambda part: torch.compile(part), lambda part: (part.compile(), part)[1]])
def test_parts_under_torch_compile(wrap: Forward, tmp_path: Path) -> None:
    module = module_with(lambda self, x: torch.relu(self.conv(x)))
    expected = module(X)
    module.conv = wrap(module.conv)
    assert agree(loaded(module, tmp_path, [X])(X), expected)


def test_return_dict_gives_a_tuple_where_the_module_has_no_such_argument(tmp_path: Path) -> None:
    model = loaded(module_with(lambda self, x: {"a": self.conv(x), "b": x * 2}), tmp_path, {"x": X})
    assert [type(value) for value in model(X, return_dict=False)] == [torch.Tensor, torch.Tensor]


def test_an_input_beside_the_result_is_returned_unchanged(tmp_path: Path) -> None:
    model = loaded(module_with(lambda self, x: (self.conv(x), x)), tmp_path, {"x": X})
    many = torch.randn(7, 4, 6, 6)
    for batch in (X, many):
        torch.testing.assert_close(model(batch)[1], batch, rtol=0, atol=0)


def test_results_of_a_batch_that_is_cut_are_put_together(tmp_path: Path) -> None:
    module = module_with(lambda self, x, timestep: (self.conv(x), timestep * 2, x.mean((2, 3))))
    model = loaded(module, tmp_path, {"x": X, "timestep": 3})
    many = torch.randn(8, 4, 6, 6)
    picture, scalar, means = model(many, 5)
    assert (picture.shape, scalar.shape, means.shape) == ((8, 4, 6, 6), (), (8, 4))
    assert float(scalar) == 10


CHANGES: dict[str, Forward] = {
    "clamp": lambda self, x: self.conv(x.clamp_(-0.5, 0.5)),
    "relu": lambda self, x: self.conv(F.relu(x, inplace=True)),
    "arithmetic": lambda self, x: (x.mul_(2), x.sub_(1), self.conv(x))[-1],
    "copy": lambda self, x: (x[:, :2].zero_(), self.conv(x))[-1],
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_in_place_is_no_result(name: str, tmp_path: Path) -> None:
    module = module_with(CHANGES[name])
    assert agree(loaded(module, tmp_path, [X.clone()])(X.clone()), module(X.clone()))


class Counting(Module):
    """Counts its calls in a buffer."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.used = used
        self.calls: torch.Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.conv(x) * (self.calls if self.used else 1)


def test_a_buffer_that_counts_is_no_result(tmp_path: Path) -> None:
    module = Counting(used=False).eval()
    assert agree(loaded(module, tmp_path, [X])(X), module(X))


def test_a_result_that_depends_on_a_buffer_that_changes_is_refused() -> None:
    with pytest.raises(hecompile.CompileError, match=r"changes its buffer 'calls' in every call.*\n.*make the buffer an argument"):
        hecompile.compile(Counting(used=True).eval(), options=OPTIONS, example_inputs=[X])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_and_latents_of_any_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    def forward(self: Any, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * sigma.to(x.dtype)[:, None, None, None] + x.to(torch.float32).exp().to(x.dtype)

    module, exact, sigma = module_with(forward).to(dtype), module_with(forward), torch.tensor([0.5, 2.0])
    model = loaded(module, tmp_path, {"x": X.to(dtype), "sigma": sigma})
    result = model(X.to(dtype), sigma)
    assert result.dtype == dtype
    assert agree(result.float(), exact(X.to(dtype).float(), sigma))
    assert {parameter.dtype for parameter in module.parameters()} == {dtype}  # the user's module stays as it is


def test_dtype_and_device_follow_to(tmp_path: Path) -> None:
    model = loaded(module_with(lambda self, x: self.conv(x)), tmp_path, [X])
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    assert model.to(torch.float16).dtype == torch.float16
    assert model.bfloat16().dtype == torch.bfloat16
    assert model.to("meta").device.type == "meta"
    assert model(X).dtype == torch.float32  # that of the latents
    assert list(model.parameters()) == []
    assert model.state_dict() == {}


def test_numpy_latents_are_taken_and_texts_refused(tmp_path: Path) -> None:
    module = module_with(lambda self, x: self.conv(x))
    model = loaded(module, tmp_path, [X])
    assert agree(model(X.numpy()), module(X))
    for wrong in ("noise", object(), np.array(["a", "b"])):
        with pytest.raises(InputError, match=r"must be a tensor|not a tensor"):
            model(wrong)
    with pytest.raises(InputError, match="complex"):
        model(X.to(torch.complex64))


def test_a_result_that_is_a_constant_is_refused() -> None:
    with pytest.raises(hecompile.CompileError, match=r"result %.* is a constant tensor\n.*leave it out"):
        hecompile.compile(module_with(lambda self, x: (self.conv(x), torch.ones(3))), options=OPTIONS, example_inputs=[X])


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x: x * 2, "nothing to encrypt"),
        (lambda self, x: x, "unchanged"),
        (lambda self, x: None, "returns no tensor"),
        (lambda self, x: (self.conv(x), x.shape[0]), "size that depends on the batch"),
        (lambda self, x: {1: self.conv(x)}, "key 1"),
        (lambda self, x: {self.conv(x)}, "cannot trace"),
    ],
)
def test_what_no_artifact_can_return_is_refused(forward: Forward, message: str) -> None:
    with pytest.raises(hecompile.CompileError, match=message):
        hecompile.compile(module_with(forward), options=OPTIONS, example_inputs=[X])


def test_a_loaded_model_under_torch_compile_is_itself(tmp_path: Path) -> None:
    module = module_with(lambda self, x: self.conv(x))
    model = loaded(module, tmp_path, [X])
    assert torch.equal(torch.compile(model)(X), model(X))
    model.compile()
    assert agree(model(X), module(X))
