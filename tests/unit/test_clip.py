import dataclasses
import pickle

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from PIL import Image

from udfs.clip import ClipImage, ClipText, Preprocessing
from udfs.embedding import unpack
from udfs.image_codec import Decoded
from udfs.model_file import ModelMismatch

CAPTIONS = ["a photo of a cat", "", "two red circles above a blue square", "a " * 200]


def decoded(image) -> Decoded:
    return Decoded(image, "PNG", "RGB", *image.size, 1, False, False, 1)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def embedded(signal, items) -> np.ndarray:
    return unpack(signal.finish(items)["clip_embedding"])


def test_preprocessing_is_clips_own(photographs) -> None:
    """Shorter side to 224 bicubic, centre, standardise: as openai/CLIP does it step by step."""
    for image in [*photographs, photographs[0].rotate(90, expand=True)]:
        preprocessing = Preprocessing()
        scale = 224 / min(image.size)
        size = tuple(int(length * scale + 1e-9) for length in image.size)
        resized = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        top, left = (round((length - 224) / 2) for length in resized.shape[:2])
        centre = resized[top : top + 224, left : left + 224] / 255
        mean = [0.48145466, 0.4578275, 0.40821073]
        std = [0.26862954, 0.26130258, 0.27577711]
        expected = ((centre - mean) / std).transpose(2, 0, 1)
        got = preprocessing.normalise([preprocessing.crop(image)])
        assert got.dtype == np.float32
        assert got.flags.c_contiguous
        assert np.abs(got[0] - expected).max() < 1e-5


def test_squash_keeps_the_whole_picture() -> None:
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (150, 0, 300, 100))
    squashed = Preprocessing(size_px=64, resize="squash", interpolation="bilinear").crop(image)
    assert squashed.shape == (64, 64, 3)
    assert (squashed[:, :30] == 0).all()
    assert (squashed[:, 34:] == 255).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["shortest", "squash", "longest"]))
def test_a_picture_of_any_shape_gives_the_square(width, height, resize) -> None:
    image = Image.new("RGB", (width, height), "red")
    cropped = Preprocessing(size_px=32, resize=resize).crop(image)
    assert cropped.shape == (32, 32, 3)
    is_red = (cropped == [255, 0, 0]).all(axis=2)
    assert is_red.any() if resize == "longest" else is_red.all()


def test_a_very_long_strip_is_not_resized_whole(monkeypatch) -> None:
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *rest: sizes.append(size) or resize(self, size, *rest),
    )
    for size in [(60_000, 3), (3, 60_000)]:
        Preprocessing(size_px=224).crop(Image.new("RGB", size))
    assert len(sizes) == 4
    assert all(max(size) <= 224 for size in sizes)


@pytest.mark.parametrize("size", [(31, 1), (1, 31), (3, 100), (17, 400), (449, 50), (1000, 90)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_the_centre_of_a_strip_is_that_of_the_whole(size, interpolation) -> None:
    """Half a source pixel off would be a hundred pixels of a strip one pixel high."""
    noise = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), np.uint8)
    image = Image.fromarray(noise)
    whole = [224 * length // min(size) for length in size]
    left, top = (round((length - 224) / 2) for length in whole)
    resized = image.resize(tuple(whole), Image.Resampling[interpolation.upper()])
    expected = np.asarray(resized, np.int16)[top : top + 224, left : left + 224]
    got = Preprocessing(interpolation=interpolation).crop(image)
    assert np.abs(got - expected).max() <= 2  # two passes, each of which rounds to bytes


@pytest.mark.parametrize(("half_pixel", "left"), [("even", 36), ("down", 35)])
def test_half_a_pixel_goes_where_the_card_says(half_pixel, left) -> None:
    """167 columns less 96 leave 35.5 on each side."""
    image = Image.fromarray(np.tile(np.arange(167, dtype=np.uint8)[:, None], (96, 1, 3)))
    preprocessing = Preprocessing(size_px=96, half_pixel=half_pixel)
    assert preprocessing.crop(image)[0, 0, 0] == left


def test_the_longer_side_fits_and_the_rest_is_filled() -> None:
    image = Image.new("RGB", (300, 101), "red")
    cropped = Preprocessing(size_px=64, resize="longest", fill=9).crop(image)
    assert cropped.shape == (64, 64, 3)
    is_filled = (cropped == 9).all(axis=2).all(axis=1)
    assert is_filled.tolist() == [True] * 21 + [False] * 22 + [True] * 21
    assert (cropped[~is_filled] == [255, 0, 0]).all()


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_the_centre_is_taken_of_what_was_resized_larger(photographs, resize) -> None:
    larger = Preprocessing(size_px=112, resize=resize).crop(photographs[0])
    centre = Preprocessing(size_px=80, resize=resize, resize_px=112).crop(photographs[0])
    assert (centre == larger[16:96, 16:96]).all()


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("pixel_values", "image_embeds"),
        ("image", "image_embedding"),
        ("pixel_values", "pooler_output"),
    ],
)
@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_images_of_any_export_are_embedded_by_its_own_names(
    tiny_clip, saved, networks, photographs, name, output, batch
) -> None:
    clip = dataclasses.replace(
        tiny_clip, image=saved(networks[0](name=name, output=output, batch=batch))
    )
    signal = ClipImage(clip)
    assert signal.load() == "CPUExecutionProvider"
    crops = [signal.prepare(decoded(image)) for image in photographs]
    free = ort.InferenceSession(tiny_clip.image.locate())
    direct = free.run(["image_embeds"], {"pixel_values": clip.preprocessing.normalise(crops)})[0]
    got = embedded(signal, crops)
    assert np.einsum("nd,nd->n", got, unit(direct)) == pytest.approx(1, abs=1e-5)
    assert signal.finish(crops)["clip_dimension"] == [8] * len(crops)


@pytest.mark.parametrize(
    ("name", "dtype", "output", "with_mask"),
    [
        ("input_ids", TensorProto.INT64, "text_embeds", False),
        ("input_ids", TensorProto.INT64, "text_embeds", True),
        ("input_ids", TensorProto.INT32, "pooler_output", True),
        ("text", TensorProto.INT32, "text_embedding", False),
        ("tokens", TensorProto.INT64, "sentence", False),
    ],
)
@pytest.mark.parametrize("batch", ["N", 3])
def test_texts_of_any_export_are_embedded_by_its_own_names(
    tiny_clip, saved, networks, name, dtype, output, with_mask, batch
) -> None:
    made = networks[1](name=name, dtype=dtype, output=output, with_mask=with_mask, batch=batch)
    signal = ClipText(dataclasses.replace(tiny_clip, text=saved(made)))
    assert signal.load() == "CPUExecutionProvider"
    tokens = tiny_clip.tokenizer.encode(CAPTIONS)
    free = ort.InferenceSession(tiny_clip.text.locate())
    direct = free.run(["text_embeds"], {"input_ids": tokens.ids})[0]
    assert np.einsum("nd,nd->n", embedded(signal, CAPTIONS), unit(direct)) == pytest.approx(
        1, abs=1e-5
    )


def test_the_mask_is_fed_where_it_is_declared(tiny_clip, saved, networks) -> None:
    padded = dataclasses.replace(tiny_clip.tokenizer, pad_id=49407)
    clip = dataclasses.replace(tiny_clip, tokenizer=padded)
    plain = ClipText(clip)
    masked = ClipText(dataclasses.replace(clip, text=saved(networks[1](with_mask=True))))
    unpadded = ClipText(tiny_clip)
    assert embedded(masked, ["a cat"]) == pytest.approx(embedded(unpadded, ["a cat"]), abs=1e-3)
    assert embedded(plain, ["a cat"]) != pytest.approx(embedded(unpadded, ["a cat"]), abs=1e-3)


@pytest.mark.parametrize("side", [ClipImage, ClipText])
def test_another_dimension_than_the_cards_is_refused_at_load(tiny_clip, side) -> None:
    signal = side(dataclasses.replace(tiny_clip, dimension=512))
    with pytest.raises(ModelMismatch, match=r"shape \(1, 8\) differs from \(n, 512\)"):
        signal.load()


@pytest.mark.parametrize("side", [ClipImage, ClipText])
def test_an_embedding_that_is_not_finite_is_an_error(monkeypatch, tiny_clip, side) -> None:
    monkeypatch.setattr("udfs.clip.infer", lambda *_: np.array([[np.nan] * 8], np.float32))
    item = np.zeros((16, 16, 3), np.uint8) if side is ClipImage else "a"
    with pytest.raises(ValueError, match="1 of 1 embeddings have no direction"):
        side(tiny_clip).finish([item])


def test_both_sides_travel(tiny_clip) -> None:
    for signal in (ClipImage(tiny_clip), ClipText(tiny_clip)):
        travelled = pickle.loads(pickle.dumps(signal))
        assert travelled.version == signal.version
        assert travelled.load() == "CPUExecutionProvider"


def test_versions_follow_what_decides(tiny_clip) -> None:
    other = dataclasses.replace(
        tiny_clip,
        preprocessing=Preprocessing(size_px=32),
        tokenizer=dataclasses.replace(tiny_clip.tokenizer, pad_id=1),
    )
    assert ClipImage(tiny_clip).version != ClipImage(other).version
    assert ClipText(tiny_clip).version != ClipText(other).version
