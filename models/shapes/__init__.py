"""Text-to-image diffusion on drawn scenes: small enough to run encrypted within a second, with captions that a program can check.

Captions such as "a small red circle above a large blue square on a yellow background" become pictures of (32, 32, 3). The folder
`pipeline` is a stock `StableDiffusionPipeline`, except that its autoencoder only rearranges pixels (`Patches`).
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
TOKENS = 16  # tokens of a caption, including start and end
WIDTH = 128
WORD_END = "</w>"  # marks the end of a word in the names of tokens
STEPS, GUIDANCE = 4, 2.0  # enough for the quality that the model card states

# for `DDIMScheduler(**SCHEDULER)`; clipping the predicted picture is off, since it makes pictures with guidance worse
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
    """Return the untrained network for latents (B, 48, 8, 8): one resolution of 128 channels, with cross-attention in the
    middle."""
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
    """Return the untrained text encoder for `vocabulary` tokens, of which the last two are start and end: two layers of width
    128."""
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
    """Return a byte-pair tokenizer in which every word of a caption is one token; other words are spelled. It is always the
    same."""
    from transformers import CLIPTokenizer

    from hecompile.models.shapes.scenes import COLOURS, RELATIONS, SHAPES, SIZES

    words = ["a", "on", "background", *COLOURS, *SHAPES, *SIZES, *" ".join(RELATIONS).split()]
    letters = [chr(code) for code in range(33, 127)]
    merges: dict[tuple[str, str], None] = {}
    for word in dict.fromkeys(words):
        pieces = _merged([*word[:-1], word[-1] + WORD_END], merges)
        while len(pieces) > 1:  # earlier merges apply first, so adding one changes no earlier word
            merges[pieces[0], pieces[1]] = None
            pieces = _merged(pieces, merges)
    tokens = dict.fromkeys([*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges)])
    names = [*tokens, "<|startoftext|>", "<|endoftext|>"]
    own: Any = {"vocab": {name: place for place, name in enumerate(names)}, "merges": list(merges)}
    return CLIPTokenizer(**own, model_max_length=TOKENS)


def _merged(pieces: list[str], merges: Iterable[tuple[str, str]]) -> list[str]:
    """Apply merges to the pieces of a word, the earliest first wherever it applies, and return the remaining pieces."""
    pieces, ranks = list(pieces), {pair: rank for rank, pair in enumerate(merges)}
    while True:
        pairs = [pair for pair in pairwise(pieces) if pair in ranks]
        if not pairs:
            return pieces
        place = list(pairwise(pieces)).index(min(pairs, key=lambda pair: ranks[pair]))
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]


def load_pipeline(**parts: object) -> StableDiffusionPipeline:
    """Return the trained pipeline in float32, without progress bars. `parts` replace its own parts, as in `from_pretrained`."""
    from diffusers import StableDiffusionPipeline

    from hecompile.models.quiet import quietly
    from hecompile.models.shapes import patches  # noqa: F401 - the pipeline's index names it, and diffusers does not import it

    with quietly():
        pipeline = StableDiffusionPipeline.from_pretrained(PIPELINE, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load() -> UNet2DConditionModel:
    """Return the trained network alone, in evaluation mode."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(PIPELINE, subfolder="unet").eval()
