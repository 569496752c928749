"""The text-to-image model: scenes and their captions, what is held out, the two judges, and that pictures show their captions."""

from __future__ import annotations

import json
import random
from typing import Any, get_args

import numpy as np
import pytest
import torch

from hecompile.models import load_model, schedule_of, tokens_of, zoo
from hecompile.models.shapes import FOLDER, GUIDANCE, PIPELINE, SCHEDULER, STEPS, TOKENS, build_tokenizer, load_pipeline
from hecompile.models.shapes.card import card, held_out, plain_scenes, sampled
from hecompile.models.shapes.classifier import classified_shares
from hecompile.models.shapes.patches import Patches
from hecompile.models.shapes.reader import ATTRIBUTES, agreement, read, shares
from hecompile.models.shapes.scenes import HELD_OUT_PAIRS, SIDE, Scene, Split, Thing, drawn, random_scene

SPLITS: tuple[Split, ...] = get_args(Split)
SCENE = Scene("yellow", (Thing("circle", "red", "small"), Thing("square", "blue", "large")), "above")


def test_a_scene_has_a_caption() -> None:
    assert SCENE.caption == "a small red circle above a large blue square on a yellow background"


def test_a_scene_of_one_thing_has_a_caption() -> None:
    assert Scene("black", (Thing("cross", "white", "large"),), None).caption == "a large white cross on a black background"


def test_what_goes_without_saying_may_be_left_away() -> None:
    scene = Scene("white", (Thing("circle", "red", "large"), Thing("square", "blue", "large")), "above")
    assert scene.shortest_caption == "a red circle above a blue square"


def test_what_does_not_go_without_saying_is_said() -> None:
    assert SCENE.shortest_caption == SCENE.caption


def test_white_things_are_on_black_if_nothing_else_is_said() -> None:
    assert Scene("yellow", (Thing("cross", "white", "small"),), None).plain() == Scene(
        "black", (Thing("cross", "white", "large"),), None
    )


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_is_of_the_split_that_it_was_drawn_for(split: Split) -> None:
    rng = random.Random(1)
    assert {random_scene(rng, split).split for _ in range(50)} == {split}


def test_training_never_shows_a_pair_that_is_held_out() -> None:
    rng = random.Random(2)
    things = [thing for _ in range(2000) for thing in random_scene(rng, "train").things]
    assert not HELD_OUT_PAIRS & {(thing.shape, thing.colour) for thing in things}


def test_half_of_what_is_asked_has_such_a_pair() -> None:
    assert [scene.split for scene in held_out(4)] == ["pairs", "captions", "pairs", "captions"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_reader_errs_on_no_drawn_picture(split: Split) -> None:
    rng = random.Random(3)
    scenes = [random_scene(rng, split) for _ in range(40)]
    assert set(shares(scenes, [drawn(scene, rng) for scene in scenes]).values()) == {1.0}


@pytest.mark.parametrize(
    ("change", "attribute"),
    [
        ({"background": "green"}, "background"),
        ({"things": (Thing("cross", "red", "small"), SCENE.things[1])}, "shape"),
        ({"things": (Thing("circle", "white", "small"), SCENE.things[1])}, "colour"),
        ({"things": (Thing("circle", "red", "large"), SCENE.things[1])}, "size"),
        ({"relation": "below"}, "relation"),
        ({"relation": "left of"}, "relation"),
        ({"things": SCENE.things[:1], "relation": None}, "count"),
    ],
)
def test_the_reader_tells_what_is_wrong(change: dict[str, object], attribute: str) -> None:
    other = Scene(**({"background": "yellow", "things": SCENE.things, "relation": "above"} | change))  # type: ignore[arg-type]
    judged = agreement(SCENE, read(drawn(other, random.Random(4))))
    assert judged[attribute] < 1
    assert judged["all"] == 0
    assert [name for name in ATTRIBUTES if judged[name] < 1] == ([attribute, "all"] if attribute != "count" else
                                                                 [name for name in ATTRIBUTES if name != "background"])  # fmt: skip


def test_a_blob_is_no_shape() -> None:
    picture = np.full((SIDE, SIDE, 3), 245, np.uint8)
    picture[10:14, 4:28] = (220, 40, 40)
    assert [seen.shape for seen in read(picture).things] == ["?"]


def test_noise_is_not_taken_for_a_picture() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    assert agreement(SCENE, read(noise))["all"] == 0


def test_the_classifier_knows_drawn_pictures_of_all_splits() -> None:
    rng = random.Random(6)
    scenes = [random_scene(rng, split) for split in SPLITS for _ in range(100)]
    assert classified_shares(scenes, [drawn(scene, rng) for scene in scenes])["all"] >= 0.98


def test_every_word_is_a_token_and_the_longest_caption_fits() -> None:
    assert len(build_tokenizer()("a small red circle left of a large blue square on a yellow background").input_ids) == TOKENS


def test_the_tokenizer_in_the_folder_is_the_one_that_is_built() -> None:
    texts = [scene.caption for scene in held_out(20)]
    assert load_pipeline().tokenizer(texts).input_ids == build_tokenizer()(texts).input_ids


def test_patches_lose_nothing() -> None:
    patches, pictures = Patches(), torch.rand(2, 3, SIDE, SIDE)
    latents = patches.encode(pictures).latents
    assert latents.shape == (2, 48, 8, 8)
    assert torch.equal(patches.decode(latents).sample, pictures)


def test_the_zoo_has_it() -> None:
    assert "shapes" in zoo()
    assert tokens_of("shapes") == TOKENS
    assert schedule_of("shapes") == SCHEDULER
    config: Any = load_model("shapes").config
    assert config.in_channels == 48


def test_the_weights_fit_the_repository() -> None:
    assert sum(path.stat().st_size for path in PIPELINE.rglob("*.safetensors")) < 12e6


def test_the_card_is_made_of_what_was_measured() -> None:
    assert card(json.loads((FOLDER / "quality.json").read_text())) == (FOLDER / "README.md").read_text()


def test_what_was_measured_is_what_the_project_promises() -> None:
    quality = json.loads((FOLDER / "quality.json").read_text())["by_steps"][str(STEPS)]
    assert quality["reader"]["all"] >= 0.75
    assert quality["classifier"]["all"] >= 0.75


def test_pictures_show_their_captions() -> None:
    """24 captions: even at 75 % fewer than 12 would be right once in 300 tries."""
    scenes = held_out(24)
    assert shares(scenes, sampled(load_pipeline(), scenes, STEPS, GUIDANCE))["all"] >= 0.5


def test_pictures_show_short_captions() -> None:
    scenes = plain_scenes(24)
    assert shares(scenes, sampled(load_pipeline(), scenes, short=True))["all"] >= 0.5


def test_the_prompt_is_what_decides() -> None:
    scenes = held_out(12)
    others = [*scenes[1:], scenes[0]]
    assert shares(others, sampled(load_pipeline(), scenes))["all"] < 0.2
