"""Models of diffusers are called without example inputs: what `example_arguments` gives is a call of the model, and a whole one."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch.utils import _pytree as trees

from hecompile.errors import CompileError
from hecompile.frontend.examples import example_arguments, known_models
from tests.frontend.architectures import ARCHITECTURES, build
from tests.frontend.models import ADAPTERS, FURTHER, MODELS, adapted
from tests.networks import Tiny

ALL = {**MODELS, **FURTHER}
WITHOUT_CROSS_ATTENTION = ("conditional resnet sampling", "conditional attention", "katherine")  # the prompt is not read


def results(module: torch.nn.Module, arguments: dict[str, object]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [leaf for leaf in trees.tree_leaves(module(**arguments)) if isinstance(leaf, torch.Tensor)]


def moved(tensor: torch.Tensor) -> torch.Tensor:
    """Other numbers; masks, classes and codes of the two elements of the batch exchanged."""
    return tensor * 1.25 + 0.25 if tensor.is_floating_point() else tensor.flip(0)


def example(module: torch.nn.Module, size: tuple[int, int] | None = None, tokens: int | None = None) -> dict[str, Any]:
    arguments = example_arguments(module, size, tokens)
    assert arguments is not None
    return arguments


def reads_all_of(module: torch.nn.Module, arguments: dict[str, object]) -> None:
    """Every tensor among the arguments changes a result, where there is more than one value to choose from."""
    leaves, form = trees.tree_flatten(arguments)
    before = results(module, arguments)
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor) and not torch.equal(moved(leaf), leaf):
            changed = [*leaves[:place], moved(leaf), *leaves[place + 1 :]]
            after = results(module, trees.tree_unflatten(changed, form))
            assert any(not torch.equal(first, second) for first, second in zip(before, after, strict=True)), place


@pytest.mark.parametrize("name", ALL)
def test_every_argument_matters(name: str) -> None:
    module = ALL[name].build()
    reads_all_of(module, ALL[name].arguments(module))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_argument_of_a_unet_matters(name: str) -> None:
    module = build(name)
    arguments = example(module)
    if name in WITHOUT_CROSS_ATTENTION:
        arguments["encoder_hidden_states"] = None
    reads_all_of(module, arguments)


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_picture_of_an_adapter_matters(name: str) -> None:
    module = adapted(name)
    arguments = example(module, tokens=7)
    assert isinstance(arguments["added_cond_kwargs"]["image_embeds"], list)
    assert len(arguments["added_cond_kwargs"]["image_embeds"]) == len(ADAPTERS[name])
    reads_all_of(module, arguments)


@pytest.mark.parametrize("name", ALL)
def test_arguments_are_in_the_order_of_the_signature(name: str) -> None:
    module = ALL[name].build()
    order = list(inspect.signature(module.forward).parameters)
    given = list(ALL[name].arguments(module))
    assert given == [argument for argument in order if argument in given]


@pytest.mark.parametrize("name", ALL)
def test_examples_are_the_same_every_time(name: str) -> None:
    module = ALL[name].build()
    first, second = (trees.tree_leaves(ALL[name].arguments(module)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_the_first_example_has_a_batch_of_two_and_results_have_it_too(name: str) -> None:
    module = ALL[name].build()
    arguments = ALL[name].arguments(module)
    leading = [next(iter(arguments.values())), *results(module, arguments)]
    assert {len(tensor) for tensor in leading} == {2}  # type: ignore[arg-type]


def test_every_known_model_is_tried() -> None:
    assert {type(model.build()).__name__ for model in ALL.values()} == set(known_models())


def test_known_models_are_named_in_order() -> None:
    assert list(known_models()) == sorted(known_models())


@pytest.mark.parametrize(
    ("name", "argument", "shape"),
    [
        ("UNet2DModel", "sample", (2, 3, 4, 6)),
        ("UNet2DConditionModel", "sample", (2, 4, 4, 6)),
        ("UNet3DConditionModel", "sample", (2, 4, 16, 4, 6)),
        ("UNetSpatioTemporalConditionModel", "sample", (2, 3, 8, 4, 6)),
        ("PixArtTransformer2DModel", "hidden_states", (2, 4, 4, 6)),
        ("SD3Transformer2DModel", "hidden_states", (2, 4, 4, 6)),
        ("FluxTransformer2DModel", "hidden_states", (2, 6, 8)),
        ("FluxTransformer2DModel", "img_ids", (6, 3)),
        ("SanaTransformer2DModel", "hidden_states", (2, 4, 4, 6)),
        ("ControlNetModel", "sample", (2, 4, 4, 6)),
        ("ControlNetModel", "controlnet_cond", (2, 3, 8, 12)),
        ("AutoencoderKL encoder", "sample", (2, 3, 4, 6)),
        ("AutoencoderKL decoder", "sample", (2, 4, 4, 6)),
    ],
)
def test_a_size_is_that_of_the_sample(name: str, argument: str, shape: tuple[int, ...]) -> None:
    arguments = example(ALL[name].build(), size=(4, 6))
    assert tuple(arguments[argument].shape) == shape


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("UNet1DModel", "DiTTransformer2DModel")])
def test_models_take_examples_of_another_size(name: str) -> None:
    module = MODELS[name].build()
    assert all(torch.isfinite(result).all() for result in results(module, example(module, (4, 8), MODELS[name].tokens)))


def test_a_transformer_of_classes_takes_another_square() -> None:
    assert tuple(example(MODELS["DiTTransformer2DModel"].build(), size=(4, 4))["hidden_states"].shape) == (2, 4, 4, 4)


def test_a_transformer_of_classes_draws_squares_only() -> None:
    with pytest.raises(CompileError, match=r"supports only 8x8, not 4x6\n.*leave size out"):
        example_arguments(MODELS["DiTTransformer2DModel"].build(), size=(4, 6))


@pytest.mark.parametrize("size", [(4, 5), (0, 4), (-2, 4)])
def test_a_size_that_a_model_cannot_take(size: tuple[int, int]) -> None:
    with pytest.raises(CompileError, match=r"does not support samples of .*\n.*multiples of 2"):
        example_arguments(MODELS["SD3Transformer2DModel"].build(), size=size)


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("UNet2DConditionModel", 77),
        ("UNet3DConditionModel", 77),
        ("ControlNetModel", 77),
        ("PixArtTransformer2DModel", 300),
        ("SD3Transformer2DModel", 333),
        ("FluxTransformer2DModel", 512),
        ("SanaTransformer2DModel", 300),
    ],
)
def test_a_prompt_is_as_long_as_the_pipeline_makes_it(name: str, usual: int) -> None:
    module = MODELS[name].build()
    assert example(module)["encoder_hidden_states"].shape[1] == usual
    assert example(module, tokens=5)["encoder_hidden_states"].shape[1] == 5


@pytest.mark.parametrize("name", ["PixArtTransformer2DModel", "SanaTransformer2DModel"])
def test_a_mask_is_as_long_as_the_prompt(name: str) -> None:
    assert example(MODELS[name].build(), tokens=5)["encoder_attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]


def test_a_prompt_of_no_tokens() -> None:
    with pytest.raises(CompileError, match=r"prompts of 0 tokens\n.*one token or more"):
        example_arguments(MODELS["UNet2DConditionModel"].build(), tokens=0)


def test_tokens_that_look_like_the_batch() -> None:
    with pytest.raises(CompileError, match="two tokens cannot be told from a batch of two"):
        example_arguments(MODELS["FluxTransformer2DModel"].build(), tokens=2)


def test_a_size_for_a_model_without_pictures() -> None:
    with pytest.raises(CompileError, match=r"UNet1DModel has no picture whose size could be chosen\n.*leave size out"):
        example_arguments(MODELS["UNet1DModel"].build(), size=(4, 4))


@pytest.mark.parametrize("name", ["UNet1DModel", "UNet2DModel", "DiTTransformer2DModel", "AutoencoderKL decoder"])
def test_tokens_for_a_model_without_a_prompt(name: str) -> None:
    with pytest.raises(CompileError, match=r"has no prompt whose length could be chosen\n.*leave tokens out"):
        example_arguments(MODELS[name].build(), tokens=7)


def test_tokens_for_a_unet_whose_prompt_is_a_picture() -> None:
    assert example(build("image"))["encoder_hidden_states"] is None
    with pytest.raises(CompileError, match="has no prompt"):
        example_arguments(build("image"), tokens=7)


def test_size_and_tokens_are_refused_together() -> None:
    with pytest.raises(CompileError) as caught:
        example_arguments(MODELS["UNet1DModel"].build(), size=(4, 4), tokens=7)
    assert len(caught.value.diagnostics) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_examples_are_single_precision_whatever_the_weights_are(dtype: torch.dtype) -> None:
    arguments = example(MODELS["UNet2DConditionModel"].build().to(dtype))
    assert {tensor.dtype for tensor in arguments.values()} == {torch.float32}


def test_examples_are_where_the_weights_are() -> None:
    arguments = example(build("text and time").to("meta"))
    assert {leaf.device.type for leaf in trees.tree_leaves(arguments)} == {"meta"}


class Own(torch.nn.Module):
    """Named as a class of diffusers is."""

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return sample


def test_modules_that_are_not_known() -> None:
    Own.__name__ = "Encoder"
    assert example_arguments(Own()) is None
    assert example_arguments(Tiny()) is None


def test_a_class_that_inherits_the_call_is_known() -> None:
    from diffusers import UNet2DModel

    class Named(UNet2DModel):
        pass

    class Called(UNet2DModel):
        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture

    config = MODELS["UNet2DModel"].config
    assert list(example(Named(**config))) == ["sample", "timestep"]
    assert example_arguments(Called(**config)) is None


def test_an_adapter_that_is_not_known() -> None:
    module: Any = adapted("one picture")
    module.encoder_hid_proj.image_projection_layers[0] = torch.nn.Identity()
    with pytest.raises(CompileError, match=r"inputs of an IP-Adapter with Identity.*\n.*pass example_inputs"):
        example_arguments(module)


@pytest.mark.parametrize(
    ("name", "latent"),
    [("AutoencoderKL decoder", 256), ("AutoencoderTiny decoder", 64), ("AutoencoderDC decoder", 256)],
)
def test_pictures_of_a_decoder_are_512_pixels_wide_unless_told_otherwise(name: str, latent: int) -> None:
    (sample,) = example(ALL[name].build()).values()
    assert tuple(sample.shape) == (2, 4, latent, latent)
