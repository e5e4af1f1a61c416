import numpy as np
import pytest
from PIL import Image

from jobs.models.card import CardPreprocessing
from jobs.models.preprocessor import from_open_clip, from_transformers
from jobs.runtime.errors import ModelProblem
from udfs.clip import Preprocessing

CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}
SIGLIP = {
    "image_processor_type": "SiglipImageProcessor",
    "do_resize": True,
    "size": {"height": 256, "width": 256},
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
OPEN_CLIP = {
    "size": [224, 224],
    "mode": "RGB",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


@pytest.mark.parametrize("written", [CLIP, {}, {"size": 224, "feature_extractor_type": "CLIPX"}])
def test_clips_own_files_are_clips_own_values(written) -> None:
    assert from_transformers(written, "f") == CardPreprocessing(half_pixel="down")


def test_the_border_of_open_clip_has_its_colour() -> None:
    card = from_open_clip(OPEN_CLIP | {"resize_mode": "longest", "fill_color": 128}, "f")
    made = Preprocessing(**card.model_dump()).crop(Image.new("RGB", (2, 1)))
    assert (made[0] == 128).all()


def test_open_clips_own_file_is_clips_own_values() -> None:
    assert from_open_clip(OPEN_CLIP, "f") == from_open_clip({}, "f") == CardPreprocessing()


@pytest.mark.parametrize(
    "written", [SIGLIP, {"image_processor_type": "SiglipImageProcessor", "size": 256}]
)
def test_siglip_squashes_and_halves(written) -> None:
    made = from_transformers(written, "f")
    assert (made.size_px, made.resize, made.interpolation) == (256, "squash", "bicubic")
    assert made.mean == made.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"size": {"shortest_edge": 256}}, "resize_px", 256),
        ({"size": {"height": 224, "width": 224}}, "resize", "squash"),
        ({"resample": 2}, "interpolation", "bilinear"),
        ({"resample": 1}, "interpolation", "lanczos"),
        ({"do_normalize": False}, "std", (1.0, 1.0, 1.0)),
        ({"do_normalize": False}, "mean", (0.0, 0.0, 0.0)),
        ({"do_convert_rgb": False}, "size_px", 224),
    ],
)
def test_each_key_is_honoured(change, field, value) -> None:
    assert getattr(from_transformers(CLIP | change, "f"), field) == value


@pytest.mark.parametrize(
    "change", [{"rescale_factor": 1 / 127.5}, {"do_rescale": False}, {"rescale_factor": 1 / 255}]
)
def test_rescaling_is_what_transformers_would_do(change) -> None:
    written = CLIP | change
    made = Preprocessing(**from_transformers(written, "f").model_dump())
    crop = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    factor = 1 if written["do_rescale"] is False else written["rescale_factor"]
    expected = (crop * factor - written["image_mean"]) / written["image_std"]
    given = made.normalise([crop])[0].transpose(1, 2, 0)
    assert given == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize(
    ("read", "change", "named"),
    [
        (from_transformers, {"do_resize": False}, "do_resize"),
        (from_transformers, {"do_center_crop": False}, "do_center_crop"),
        (from_transformers, {"crop_size": 300}, "crop_size"),
        (from_transformers, {"crop_size": {"height": 224, "width": 200}}, "crop_size"),
        (from_transformers, {"size": {"longest_edge": 224}}, "size"),
        (from_transformers, {"size": 0}, "size"),
        (from_transformers, {"size": 10**9}, "size"),
        (from_transformers, {"size": "224"}, "size"),
        (from_transformers, {"resample": 9}, "resample"),
        (from_transformers, {"resample": [1]}, "resample"),
        (from_transformers, {"crop_pct": 0.875}, "crop_pct"),
        (from_transformers, {"do_pad": True}, "do_pad"),
        (from_transformers, {"rescale_factor": 0}, "rescale_factor"),
        (from_transformers, {"rescale_factor": "x"}, "rescale_factor"),
        (from_transformers, {"image_mean": [0.5]}, "image_mean"),
        (from_transformers, {"image_std": [0, 1, 1]}, "std"),
        (from_transformers, {"image_std": [float("nan"), 1, 1]}, "std"),
        (from_transformers, {"image_mean": ["a", 1, 1]}, "mean"),
        (from_transformers, {"image_processor_type": "Siglip2ImageProcessor"}, "Siglip2"),
        (from_transformers, {"image_processor_type": "ConvNextImageProcessor"}, "ConvNext"),
        (from_open_clip, {"resize_mode": "tile"}, "resize_mode"),
        (from_open_clip, {"interpolation": "area"}, "interpolation"),
        (from_open_clip, {"mode": "L"}, "mode"),
        (from_open_clip, {"size": [224, 256]}, "size"),
        (from_open_clip, {"resize_mode": "longest", "fill_color": 256}, "fill_color"),
        (from_open_clip, {"mean": [1, 2]}, "mean"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(read, change, named) -> None:
    written = (CLIP if read is from_transformers else OPEN_CLIP) | change
    with pytest.raises(ModelProblem, match=named):
        read(written, "preprocessor_config.json")


def test_longest_keeps_the_whole_picture_on_black() -> None:
    card = from_open_clip(OPEN_CLIP | {"size": 64, "resize_mode": "longest"}, "f")
    image = Image.new("RGB", (200, 101), "white")
    crop = Preprocessing(**card.model_dump()).crop(image)

    assert crop.shape == (64, 64, 3)
    rows = crop[:, 32, 0]  # 32 rows of picture, 16 of black on each side
    assert rows.tolist() == [0] * 16 + [255] * 32 + [0] * 16
    assert Preprocessing(64, "longest").crop(Image.new("RGB", (9000, 1))).shape == (64, 64, 3)


def test_resizing_to_more_than_the_crop_cuts_the_rim() -> None:
    card = from_transformers(CLIP | {"size": {"shortest_edge": 256}}, "f")
    image = Image.new("RGB", (256, 256), "white")
    image.paste("black", (16, 16, 240, 240))
    made = Preprocessing(**card.model_dump())

    assert made.crop(image).shape == (224, 224, 3)
    assert not made.crop(image).any()
    assert made != Preprocessing()
