"""What `load_source` takes, and what it says of everything else."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import pytest
import torch

import hecompile
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError
from hecompile.frontend.sources import load_source
from hecompile.models import shapes
from hecompile.options import CompileOptions
from hecompile.passes.trace import Trace
from tests.frontend.architectures import ARCHITECTURES, build
from tests.networks import Tiny, tiny_inputs
from tests.works import refused


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    build("plain").save_pretrained(folder / "unet", safe_serialization=True)  # type: ignore[operator]
    return folder


def test_a_pipeline_folder_and_its_unet_are_the_same_source(saved: Path) -> None:
    whole, own = load_source(saved), load_source(str(saved / "unet"))
    assert (whole.name, own.name) == (saved.name, "unet")
    assert whole.config == own.config
    assert isinstance(whole.module, diffusers.UNet2DModel)
    assert set(whole.inputs) == {("sample",), ("timestep",)}
    assert "timestep" in whole.public


def test_the_schedule_comes_from_the_pipeline_folder_or_the_zoo(saved: Path) -> None:
    from hecompile.models.digits import SCHEDULER

    assert load_source(saved).schedule is None
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear")
    scheduler.save_pretrained(saved / "scheduler")
    source = load_source(saved)
    assert source.schedule is not None
    assert source.schedule["beta_schedule"] == "scaled_linear"
    assert "_class_name" not in source.schedule
    assert Trace().run(source).schedule == source.schedule
    assert load_source("digits").schedule == SCHEDULER
    assert load_source("sd15-shaped").schedule is None


def test_pickled_weights_are_refused_and_never_read(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((saved / "unet" / "config.json").read_bytes())
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for path in (tmp_path, tmp_path / "diffusion_pytorch_model.bin"):
        with pytest.raises(CompileError, match=r"pickled weights are refused.*\n.*safe_serialization=True"):
            load_source(path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pkl", ".bin"])
def test_every_pickled_suffix_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(CompileError, match="pickled weights are refused"):
        load_source(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_all_named(wrong: float) -> None:
    module = Tiny().eval()
    with torch.no_grad():
        module.first.weight[0, 0, 0, 0] = wrong
        module.last.get_parameter("bias")[1] = wrong
    with pytest.raises(CompileError) as caught:
        load_source(module, tiny_inputs())
    assert [finding.message for finding in caught.value.diagnostics] == [
        "weights of first.weight are not finite", "weights of last.bias are not finite",
    ]  # fmt: skip


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"not a model\n.*a diffusers folder, an .onnx file or the name of a zoo model"):
        load_source(tmp_path / "nothing")
    with pytest.raises(CompileError, match="no such file"):
        load_source(tmp_path / "nothing.onnx")


def test_an_onnx_file_is_read_when_it_is_traced(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    source = load_source(path)
    assert source.module is None
    with pytest.raises(CompileError):
        Trace().run(source)


def test_a_folder_without_a_unet(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"no UNet in this folder\n.*config.json"):
        load_source(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not the configuration of a model"),
        ("[]", "not the configuration of a model"),
        ('{"_class_name": "AutoencoderKL"}', "the class AutoencoderKL is not supported\n.*UNet2DModel"),
        ("{}", "the class None is not supported\n.*UNet2DModel"),
        ('{"_class_name": "UNet2DModel"}', "no safetensors weights"),
    ],
)
def test_a_configuration_of_something_else(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CompileError, match=message):
        load_source(tmp_path)


def test_weights_of_another_model(saved: Path, tmp_path: Path) -> None:
    config = json.loads((saved / "unet" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"block_out_channels": [16, 16]}))
    weights = next((saved / "unet").glob("*.safetensors"))
    (tmp_path / weights.name).write_bytes(weights.read_bytes())
    with pytest.raises(CompileError, match="diffusers cannot load it"):
        load_source(tmp_path)
    (tmp_path / weights.name).write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CompileError, match="diffusers cannot load it"):
        load_source(tmp_path)


def test_a_name_that_the_zoo_has_not() -> None:
    with pytest.raises(CompileError, match=r"there is no model 'letters'\n.*digits"):
        load_source("letters")


def test_a_module_of_ones_own_needs_examples() -> None:
    with pytest.raises(CompileError, match=r"Tiny: it is not known how this module is called\n.*example_inputs"):
        load_source(Tiny())


def test_examples_have_a_batch_of_two() -> None:
    with pytest.raises(CompileError, match=r"no example input has a batch of two"):
        load_source(Tiny(), tiny_inputs(3))


def test_examples_by_position_by_name_and_nested_are_the_same() -> None:
    named = tiny_inputs()
    by_position = load_source(Tiny(), list(named.values())).inputs
    by_name = load_source(Tiny(), {**named, "timestep": 31}).inputs
    assert list(by_position) == list(by_name) == [("sample",), ("timestep",), ("condition",)]
    assert all(torch.equal(by_position[key], by_name[key]) for key in by_name)


def test_examples_that_are_no_tensors() -> None:
    with pytest.raises(CompileError, match="example input 'sample' is a set, not a tensor"):
        load_source(Tiny(), {**tiny_inputs(), "sample": {1, 2}})


def test_examples_that_the_module_does_not_take() -> None:
    with pytest.raises(CompileError, match=r"Tiny accepts no argument 'labels'\n.*its arguments are sample, timestep, condition"):
        load_source(Tiny(), {**tiny_inputs(), "labels": torch.ones(2)})


def test_examples_that_lack_an_argument() -> None:
    with pytest.raises(CompileError, match="Tiny needs example inputs for timestep, condition"):
        load_source(Tiny(), [tiny_inputs()["sample"]])


def test_more_examples_than_the_module_takes() -> None:
    with pytest.raises(CompileError, match="4 example inputs"):
        load_source(Tiny(), [*tiny_inputs().values(), torch.ones(2)])


def test_a_declared_input_is_public_beside_those_that_always_are() -> None:
    assert load_source(Tiny(), tiny_inputs(), ["condition"]).public == {"timestep", "time_ids", "condition"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_examples_of_a_unet_are_a_call_of_it(name: str) -> None:
    unet = build(name)
    inputs, again = load_source(unet).inputs, load_source(unet).inputs
    assert all(value.dim() == 0 or len(value) == 2 for value in inputs.values())
    assert list(again) == list(inputs)
    assert all(torch.equal(value, again[key]) for key, value in inputs.items())


def test_a_pipeline_stands_for_its_unet(caplog: pytest.LogCaptureFixture) -> None:
    unet, scheduler = build("plain"), diffusers.DDPMScheduler(num_train_timesteps=100)
    source = load_source(diffusers.DDPMPipeline(unet, scheduler))
    assert source.module is unet
    assert source.schedule is not None
    assert source.schedule["num_train_timesteps"] == 100
    assert "DDPMPipeline: compiling its unet, a UNet2DModel" in caplog.text
    assert "the unet of DDPMPipeline" in Trace().summary(source, Trace().run(source))


def test_what_is_no_model_at_all() -> None:
    for wrong in (3, None, object(), {"unet": 1}):
        with pytest.raises(CompileError, match=r"is not a model\n.*pipeline with a unet"):
            load_source(wrong)


def test_wrappers_are_taken_off() -> None:
    module = Tiny().eval()
    for wrapped in (torch.compile(module), torch.nn.DataParallel(module), torch.compile(torch.nn.DataParallel(module))):
        assert load_source(wrapped, tiny_inputs()).module is module


def test_a_compiled_model_is_not_compiled_again(tiny_clear: Compiled) -> None:
    with pytest.raises(CompileError, match="is a compiled model already"):
        load_source(hecompile.load(str(tiny_clear.artifact), policy="simulation"))


@refused("adapters", "FreeU", "`disable_freeu()` before compiling")
@refused("precision and devices", "attention slicing while compiling", "`disable_attention_slicing()`; the pipeline may have it on")
def test_attention_in_slices_and_freeu_are_named() -> None:
    unet = build("cross attention")
    unet.set_attention_slice(1)  # type: ignore[operator]
    with pytest.raises(CompileError, match=r"SlicedAttnProcessor.*\n.*disable_attention_slicing"):
        load_source(unet)
    unet = build("cross attention")
    unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)  # type: ignore[operator]
    with pytest.raises(CompileError, match=r"FreeU turned on.*\n.*disable_freeu"):
        load_source(unet)


def test_a_folder_with_the_weights_of_one_variant(tmp_path: Path) -> None:
    unet = build("plain")
    unet.half().save_pretrained(tmp_path / "unet", variant="fp16", max_shard_size="100KB")  # type: ignore[operator]
    loaded = load_source(tmp_path).module
    assert loaded is not None
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert all(torch.equal(first.float(), second) for first, second in zip(unet.parameters(), loaded.parameters(), strict=True))
    unet.save_pretrained(tmp_path / "unet", variant="ema")  # type: ignore[operator]
    with pytest.raises(CompileError, match=r"variants ema, fp16\n.*keep only one"):
        load_source(tmp_path)


def test_a_size_and_a_length_of_prompts_are_chosen_when_compiling() -> None:
    inputs = load_source(build("cross attention"), size=(16, 24), tokens=20).inputs
    assert inputs[("sample",)].shape == (2, 4, 16, 24)
    assert inputs[("encoder_hidden_states",)].shape == (2, 20, 12)


def test_a_size_that_does_nothing_is_refused() -> None:
    with pytest.raises(CompileError, match="cannot be combined with example inputs"):
        load_source(Tiny(), tiny_inputs(), size=(8, 8))
    with pytest.raises(CompileError, match="tokens"):
        load_source(build("plain"), tokens=77)


@pytest.mark.parametrize("size", ["64", "0x8", "8x", (8,), (8, 8, 8), 0, "8x8x8", True, 2.5])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(CompileError, match="is not a size"):
        CompileOptions(size=size)


def test_a_size_may_be_written_in_three_ways() -> None:
    assert {CompileOptions(size=size).sample_size for size in ("8x8", (8, 8), 8)} == {(8, 8)}


def test_a_public_input_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(CompileError, match=r"no input 'nosuch' to declare public\n.*known: condition, sample, timestep"):
        Trace().run(load_source(Tiny(), tiny_inputs(), ["nosuch"]))


def test_a_picture_called_timestep_is_secret_all_the_same() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, timestep: torch.Tensor) -> torch.Tensor:
            return self.conv(timestep)

    assert [spec.public for spec in Trace().run(load_source(Odd(), [torch.randn(2, 2, 4, 4)])).inputs] == [False]


def test_an_input_is_declared_public_by_its_path_its_name_or_its_argument() -> None:
    class Nested(Tiny):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor, added: dict[str, torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
            return super().forward(sample, timestep, added["text"])

    inputs = tiny_inputs()
    examples = {"sample": inputs["sample"], "timestep": inputs["timestep"], "added": {"text": inputs["condition"]}}
    for name in ("added.text", "text", "added"):
        graph = Trace().run(load_source(Nested(), examples, [name]))
        assert [spec.public for spec in graph.inputs] == [False, True, True]


def test_the_example_call_is_what_passes_are_compared_on() -> None:
    """A logarithm of a standard normal number is not a number."""

    class Noised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * sigma.log()[:, None, None, None] / (1 - sigma).sqrt()[:, None, None, None]

    options, x = CompileOptions(backend="clear"), torch.randn(2, 2, 4, 4)
    compile_model(Noised(), options=options, example_inputs={"x": x, "sigma": torch.tensor([0.2, 0.9])})
    compile_model(Noised(), options=options, example_inputs={"x": x, "sigma": torch.tensor([0.2, 2.0])})  # half of it is NaN
    with pytest.raises(CompileError, match=r"every result of the example call is NaN or infinite\n.*positive"):
        compile_model(Noised(), options=options, example_inputs={"x": x, "sigma": torch.tensor([-0.2, 2.0])})


@pytest.mark.parametrize(("beside", "residuals"), [("controlnet", "mid_block_additional_residual"), ("adapter", "intrablock")])
def test_a_pipeline_that_adds_residuals_to_its_unet_wants_them_as_examples(beside: str, residuals: str) -> None:
    class Controlled:
        components = {"unet": build("cross attention"), beside: torch.nn.Identity()}  # noqa: RUF012  (a pipeline's attribute)

    with pytest.raises(CompileError, match=rf"Controlled adds the residuals of its {beside}.*\n.*{residuals}"):
        load_source(Controlled())


def test_where_a_model_was_read_from_is_not_kept(tmp_path: Path) -> None:
    shapes.load().save_pretrained(tmp_path / "unet")
    assert str(tmp_path) not in str(load_source(tmp_path / "unet").config)


def test_the_prompt_of_a_zoo_model_has_its_own_length() -> None:
    assert load_source("shapes").inputs[("encoder_hidden_states",)].shape == (2, shapes.TOKENS, 128)


def test_the_prompt_of_a_pipelines_folder_has_its_tokenizers_length() -> None:
    assert load_source(shapes.PIPELINE).inputs[("encoder_hidden_states",)].shape == (2, shapes.TOKENS, 128)


def test_the_prompt_of_a_pipeline_has_its_tokenizers_length() -> None:
    assert load_source(shapes.load_pipeline()).inputs[("encoder_hidden_states",)].shape == (2, shapes.TOKENS, 128)


def test_the_length_that_was_asked_for_comes_first() -> None:
    assert load_source(shapes.PIPELINE, tokens=9).inputs[("encoder_hidden_states",)].shape == (2, 9, 128)
