"""Tiny pipelines of diffusers from configurations alone: random weights from a seed, and a prompt that changes the picture."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionPipeline, T2IAdapter, UNet2DConditionModel
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

import hecompile
from hecompile.runtime.client import EncryptedUNet

WIDTH = 32  # of the prompt's and of the picture's embeddings
PROMPT, OTHER, NEGATIVE = "a red cat", "two big green dogs", "dark and bad"
ONE_LEVEL = {"block_out_channels": (32,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
PLAIN_LEVELS = {  # two, with cross attention between them alone
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
}
ATTENTION_LEVELS = PLAIN_LEVELS | {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")
}  # as Stable Diffusion's first and last
SDXL = {  # what the second text encoder and the sizes add
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": WIDTH + 6 * 8,
}
CLIP: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": WIDTH,
}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


class Pair(NamedTuple):
    """A pipeline of diffusers, and the same one around the compiled UNet."""

    plain: Any
    encrypted: Any


def network(levels: dict[str, Any] | None = None, **changes: Any) -> UNet2DConditionModel:
    """A UNet for latents of (4, 8, 8), with one level unless told otherwise, in which the prompt matters."""
    torch.manual_seed(0)
    sizes = {"sample_size": 8, "layers_per_block": 1, "cross_attention_dim": WIDTH, "norm_num_groups": 8, "attention_head_dim": 4}
    unet = UNet2DConditionModel(**sizes | (levels or ONE_LEVEL) | changes).eval()
    with torch.no_grad():
        for name, layer in unet.named_modules():
            if name.endswith("attn2"):  # with plain random weights two prompts give nearly the same picture
                for linear, factor in ((layer.to_v, 12), (layer.to_out[0], 12), (layer.to_q, 3), (layer.to_k, 3)):
                    linear.weight.mul_(factor)
    return unet


def autoencoder() -> AutoencoderKL:
    """Pictures of 16x16 to latents of 8x8 and back."""
    torch.manual_seed(1)
    sizes = {"block_out_channels": (16, 32), "norm_num_groups": 8, "sample_size": 16}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(**sizes, **blocks, latent_channels=4, scaling_factor=1.0).eval()


def tokenizer() -> CLIPTokenizer:
    """Byte pairs over small letters, with a few merges; 77 tokens a prompt."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = [("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "t</w>"), ("d", "o"), ("g", "re")]
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {word: place for place, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)  # type: ignore[arg-type]  # pairs, as its tokenizer has them


def text_encoder(words: CLIPTokenizer, kind: Any = CLIPTextModel) -> Any:
    """CLIP's text model with two layers, of the size of the tokenizer."""
    torch.manual_seed(2)
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    return kind(CLIPTextConfig(vocab_size=len(words), max_position_embeddings=77, **CLIP, **ends)).eval()


def image_encoder() -> CLIPVisionModelWithProjection:
    """CLIP's picture model for pictures of 32x32."""
    torch.manual_seed(3)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=32, patch_size=8, **CLIP)).eval()


def pipeline(unet: Any, kind: Any = StableDiffusionPipeline, scheduler: Any = None, **parts: Any) -> Any:
    """A Stable Diffusion pipeline with this UNet: DDIM unless told otherwise, no safety checker, no progress bar."""
    words = tokenizer()
    own = {"vae": autoencoder(), "text_encoder": text_encoder(words), "tokenizer": words, "unet": unet}
    own["scheduler"] = scheduler or DDIMScheduler(**SCHEDULE, clip_sample=False, steps_offset=1)
    pipe = kind(**own | _safety(kind) | parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def control_network(unet: UNet2DConditionModel, channels: tuple[int, ...] = (16, 32)) -> ControlNetModel:
    """A ControlNet whose residuals are not zero, for pictures of twice the latents' size; each further channel doubles it again."""
    torch.manual_seed(4)
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=channels).eval()
    for layer in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
        torch.nn.init.normal_(layer.weight, std=0.1)
    torch.nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=3)
    return control


def text_to_image_adapter() -> T2IAdapter:
    """A T2I-Adapter for pictures of 16x16 whose features are as large as the UNet's."""
    torch.manual_seed(5)
    adapter = T2IAdapter(channels=[32, 64], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter").eval()
    with torch.no_grad():
        for name, layer in adapter.named_modules():
            if name.endswith(("block2", "conv_in")):
                layer.weight.mul_(20)
    return adapter


def image_prompt_adapter(unet: UNet2DConditionModel, seed: int) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of an IP-Adapter for this UNet, four tokens a picture, as `load_ip_adapter` takes them."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    prompt = unet.config.cross_attention_dim
    projection = {"proj.weight": random(4 * prompt, WIDTH), "proj.bias": random(4 * prompt)}
    projection |= {"norm.weight": torch.ones(prompt), "norm.bias": torch.zeros(prompt)}
    keys: dict[str, torch.Tensor] = {}
    for place, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            keys |= {f"{place}.to_{kind}_ip.weight": random(width, prompt, scale=0.25) for kind in "kv"}
    return {"image_proj": projection, "ip_adapter": keys}


def detailed_image_prompt_adapter(unet: UNet2DConditionModel) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of an IP-Adapter Plus, which reads a picture's patches in place of one embedding."""
    torch.manual_seed(9)
    projection = IPAdapterPlusImageProjection(embed_dims=WIDTH, output_dims=WIDTH, hidden_dims=64, heads=1, num_queries=4)
    named = {name.replace("to_out.0", "to_out"): value for name, value in projection.state_dict().items()}
    return image_prompt_adapter(unet, 10) | {"image_proj": named}


def example(channels: int = 4, height: int = 8, width: int = 8, tokens: int = 77) -> dict[str, Any]:
    """One call of a UNet with a batch of two: `sample`, `timestep`, `encoder_hidden_states`."""
    generator = torch.Generator().manual_seed(8)
    sample = torch.randn(2, channels, height, width, generator=generator)
    return {
        "sample": sample,
        "timestep": torch.tensor(481.5),
        "encoder_hidden_states": torch.randn(2, tokens, WIDTH, generator=generator),
    }


def compiled(unet: Any, folder: Path, backend: str = "clear", **keywords: Any) -> EncryptedUNet:
    """The UNet (or a pipeline's), compiled into this folder and loaded, with the server in this process."""
    hecompile.compile(unet, folder, options=hecompile.CompileOptions(backend=backend), **keywords)
    return hecompile.load(folder, policy="simulation" if backend == "clear" else "strict")


def encrypted(pipe: Any, folder: Path, backend: str = "clear", **keywords: Any) -> Pair:
    """This pipeline, and the same one around its UNet compiled into this folder."""
    return Pair(pipe, with_unet(pipe, compiled(pipe.unet, folder, backend, **keywords)))


def _safety(kind: Any) -> dict[str, Any]:
    """The arguments of pipelines that have a safety checker, for none."""
    known = inspect.signature(kind.__init__).parameters
    off = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    return {name: value for name, value in off.items() if name in known}


def with_unet(pipe: Any, unet: Any, kind: Any = None, **parts: Any) -> Any:
    """The same pipeline, or one of another kind with the same parts, around another UNet."""
    kind = kind or type(pipe)
    other = kind(**_safety(kind) | pipe.components | {"unet": unet} | parts)
    other.set_progress_bar_config(disable=True)
    return other


def draw(pipe: Any, prompt: Any = PROMPT, **arguments: Any) -> torch.Tensor:
    """Pictures in two steps, (B, 3, 16, 16) of float32 between 0 and 1; the same noise in every call."""
    settings = {"num_inference_steps": 2, "guidance_scale": 7.5, "output_type": "pt", "generator": torch.Generator().manual_seed(7)}
    return torch.as_tensor(pipe(prompt, **settings | arguments).images).float()


def picture(seed: int, size: int = 16) -> torch.Tensor:
    """A picture of smooth colours between 0 and 1, (1, 3, size, size)."""
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def psnr(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Peak signal to noise ratio in dB; the peak is the range of what is expected."""
    error = float((result.double() - expected.double()).square().mean())
    return math.inf if not error else 20 * math.log10(float(expected.max() - expected.min())) - 10 * math.log10(error)
