"""Text-to-image diffusion on drawn scenes: small enough to run encrypted in a second, with captions that can be checked.

Captions such as "a small red circle above a large blue square on a yellow background" become pictures of (32, 32, 3). The folder
`pipeline` is a stock `StableDiffusionPipeline` but for its autoencoder, which only rearranges pixels (`Patches`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

__all__ = [
    "FOLDER",
    "GUIDANCE",
    "PIPELINE",
    "SCHEDULER",
    "STEPS",
    "TOKENS",
    "build_text_encoder",
    "build_tokenizer",
    "build_unet",
    "load",
    "load_pipeline",
]

FOLDER = Path(__file__).parent
PIPELINE = FOLDER / "pipeline"
TOKENS = 16  # of a caption, its start and end included
WIDTH = 128
WORD_END = "</w>"  # after the last letter of a word, in the names of tokens
STEPS, GUIDANCE = 4, 2.0  # enough for the quality that the card tells

# `DDIMScheduler(**SCHEDULER)`. Clipping of the predicted picture stays off: with guidance it hurts
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "steps_offset": 1,
}


def build_unet() -> UNet2DConditionModel:
    """The untrained network on latents (B, 48, 8, 8): one resolution of 128 channels, cross-attention in the middle."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=48,
        out_channels=48,
        block_out_channels=(WIDTH,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_text_encoder(vocabulary: int) -> CLIPTextModel:
    """The untrained text encoder for that many tokens: two layers of width 128; its two last tokens are start and end."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=WIDTH,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def build_tokenizer() -> CLIPTokenizer:
    """A byte-pair tokenizer in which every word of a caption is one token; other words are spelled. Always the same."""
    from transformers import CLIPTokenizer

    from hecompile.models.shapes.scenes import COLOURS, RELATIONS, SHAPES, SIZES

    words = ["a", "on", "background", *COLOURS, *SHAPES, *SIZES, *" ".join(RELATIONS).split()]
    letters = [chr(code) for code in range(33, 127)]
    merges: dict[tuple[str, str], None] = {}
    for word in dict.fromkeys(words):
        pieces = _merged([*word[:-1], word[-1] + WORD_END], merges)
        while len(pieces) > 1:  # later merges are never tried before earlier ones, so no word before this one changes
            merges[pieces[0], pieces[1]] = None
            pieces = _merged(pieces, merges)
    tokens = dict.fromkeys([*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges)])
    names = [*tokens, "<|startoftext|>", "<|endoftext|>"]
    own: Any = {"vocab": {name: place for place, name in enumerate(names)}, "merges": list(merges)}
    return CLIPTokenizer(**own, model_max_length=TOKENS)


def _merged(pieces: list[str], merges: Iterable[tuple[str, str]]) -> list[str]:
    """The pieces of a word after these merges, the earliest first wherever it applies."""
    pieces, ranks = list(pieces), {pair: rank for rank, pair in enumerate(merges)}
    while True:
        pairs = [pair for pair in pairwise(pieces) if pair in ranks]
        if not pairs:
            return pieces
        place = list(pairwise(pieces)).index(min(pairs, key=lambda pair: ranks[pair]))
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]


def load_pipeline(**parts: object) -> StableDiffusionPipeline:
    """The trained pipeline in float32, without progress bars; `parts` replace its own, as in `from_pretrained`."""
    from diffusers import StableDiffusionPipeline

    from hecompile.models.quiet import quietly
    from hecompile.models.shapes import patches  # noqa: F401 - the pipeline's index names it, and diffusers imports nothing for that

    with quietly():
        pipeline = StableDiffusionPipeline.from_pretrained(PIPELINE, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load() -> UNet2DConditionModel:
    """The trained network alone, in evaluation mode."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(PIPELINE, subfolder="unet").eval()
