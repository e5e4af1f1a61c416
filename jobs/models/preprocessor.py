"""The exporters' descriptions of how an image network wants its picture, in the card's words.

Two families are read: `preprocessor_config.json` of transformers, and the `preprocess_cfg` of
open_clip, which immich's exports and JinaCLIP write too. What would change the picture and cannot
be done here is refused by its name: a score of a wrongly prepared picture looks like any other.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from jobs.models.card import CardPreprocessing
from jobs.runtime.errors import ModelProblem

_RESAMPLING: Final = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # PIL's order
# open_clip's evaluation reads "random" as bicubic: it is a choice of the training's augmentation.
_INTERPOLATIONS: Final = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}
_SQUASHING: Final = ("Siglip", "ViT", "Deit")  # types whose plain size means both sides
_CROPPING: Final = ("CLIP", "ChineseCLIP")
# Keys of transformers that say how a picture is prepared in another way than ours.
_REFUSED: Final = (
    "crop_pct",
    "do_pad",
    "pad_size",
    "do_reduce_labels",
    "do_thumbnail",
    "patch_size",
)
_MAX_CONSTANT: Final = 1e6  # chosen: a mean or a std beyond it is no such thing


def from_transformers(written: Mapping[str, Any], origin: str) -> CardPreprocessing:
    """What a `preprocessor_config.json` says.

    Args:
        written: its keys; what it leaves out is as its type's own default, CLIP's without a type.
        origin: the file, for messages.

    Raises:
        ModelProblem: a key that asks for what is not done here, named.
    """
    type_ = str(
        written.get("image_processor_type") or written.get("feature_extractor_type") or "CLIP"
    )
    is_squashing = type_.startswith(_SQUASHING)
    is_known = type_.startswith((*_SQUASHING, *_CROPPING))
    if not is_known or type_.startswith("Siglip2"):
        raise _refused(origin, "image_processor_type", type_, "CLIP, Siglip or ViT processors")
    for key in _REFUSED:
        if written.get(key):
            raise _refused(origin, key, written[key], "nothing there")
    if written.get("do_resize") is False:
        raise _refused(origin, "do_resize", False, "true: pictures come in every size")
    does_crop = written.get("do_center_crop", not is_squashing)
    fields = _sizes(written, origin, is_squashing=is_squashing, does_crop=does_crop)
    if "resample" in written:
        number = written["resample"]
        if number not in range(len(_RESAMPLING)):
            raise _refused(origin, "resample", number, f"0 to {len(_RESAMPLING) - 1}, PIL's")
        fields["interpolation"] = _RESAMPLING[number]
    elif type_.startswith(("ViT", "Deit")):
        fields["interpolation"] = "bilinear"  # transformers' default of these types
    default = (0.5, 0.5, 0.5) if is_squashing else None
    return _card(fields | _constants(written, default, origin), origin)


def from_open_clip(written: Mapping[str, Any], origin: str) -> CardPreprocessing:
    """What open_clip's `preprocess_cfg` says; what it leaves out is open_clip's default.

    Raises:
        ModelProblem: a key that asks for what is not done here, named.
    """
    size = _square(written.get("size", 224), origin, "size")
    mode = written.get("resize_mode", "shortest")
    interpolation = written.get("interpolation", "bicubic")
    if written.get("mode", "RGB") != "RGB":
        raise _refused(origin, "mode", written["mode"], "RGB")
    if mode not in ("shortest", "longest", "squash"):
        raise _refused(origin, "resize_mode", mode, "shortest, longest or squash")
    if interpolation not in _INTERPOLATIONS:
        raise _refused(origin, "interpolation", interpolation, ", ".join(_INTERPOLATIONS))
    fill = written.get("fill_color", 0)
    if not isinstance(fill, int) or not 0 <= fill <= 255:
        raise _refused(origin, "fill_color", fill, "a grey of 0 to 255")
    fields: dict[str, Any] = {
        "size_px": size,
        "resize": mode,
        "interpolation": _INTERPOLATIONS[interpolation],
        "fill": fill,
    }
    fields |= {key: tuple(written[key]) for key in ("mean", "std") if written.get(key)}
    return _card(fields, origin)


def _sizes(
    written: Mapping[str, Any], origin: str, *, is_squashing: bool, does_crop: bool
) -> dict[str, Any]:
    size = written.get("size", 224)
    if isinstance(size, Mapping) and "shortest_edge" not in size:
        is_squashing = True
        side = _square([size.get("height"), size.get("width")], origin, "size")
    elif isinstance(size, Mapping):
        is_squashing, side = False, _whole(size["shortest_edge"], origin, "size.shortest_edge")
    else:
        side = _square(size, origin, "size")
    if not does_crop:
        if not is_squashing:
            raise _refused(
                origin,
                "do_center_crop",
                False,
                "true, or a size with height and width: a batch is of one size",
            )
        return {"size_px": side, "resize": "squash"}
    crop = written.get("crop_size", side)
    if isinstance(crop, Mapping):
        crop = [crop.get("height"), crop.get("width")]
    cropped = _square(crop, origin, "crop_size")
    if cropped > side:
        raise _refused(origin, "crop_size", cropped, f"up to size, {side}: padding is not done")
    resized = {} if cropped == side else {"resize_px": side}
    resize = "squash" if is_squashing else "shortest"
    # transformers image_transforms.py center_crop, beside torchvision's
    return {"size_px": cropped, "resize": resize, "half_pixel": "down"} | resized


def _constants(
    written: Mapping[str, Any], default: tuple[float, ...] | None, origin: str
) -> dict[str, Any]:
    """Mean and standard deviation of values in [0, 1], with the rescaling that is asked for.

    `(r p - mean) / std` of a byte p is `(p / 255 - mean / 255 r) / (std / 255 r)`.
    """
    fields: dict[str, Any] = {}
    for ours, theirs, without in (("mean", "image_mean", 0.0), ("std", "image_std", 1.0)):
        values = written.get(theirs, default)
        if written.get("do_normalize") is False:
            values = [without] * 3
        values = values or getattr(CardPreprocessing(), ours)
        if not isinstance(values, list | tuple) or len(values) != 3:
            raise _refused(origin, theirs, values, "three numbers")
        fields[ours] = tuple(values)
    rescale = 1.0 if written.get("do_rescale") is False else written.get("rescale_factor", 1 / 255)
    if not _is_number(rescale) or rescale <= 0:
        raise _refused(origin, "rescale_factor", rescale, "a number above 0")
    if abs(255 * rescale - 1) > 1e-6:  # chosen: 0.00392156862745098 is 1/255, however it is rounded
        fields = {key: tuple(v / (255 * rescale) for v in values) for key, values in fields.items()}
    return fields


def _square(size: Any, origin: str, key: str) -> int:
    if isinstance(size, list | tuple) and len(size) == 1:
        size = size[0]
    if isinstance(size, list | tuple):
        if len(size) != 2 or size[0] != size[1]:
            raise _refused(origin, key, size, "a square")
        size = size[0]
    return _whole(size, origin, key)


def _whole(value: Any, origin: str, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
        raise _refused(origin, key, value, "1 to 4096 px")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _card(fields: dict[str, Any], origin: str) -> CardPreprocessing:
    for key in ("mean", "std"):
        least: Callable[[float], bool] = (lambda v: v > 0) if key == "std" else (lambda _: True)
        for value in fields.get(key, ()):
            if not _is_number(value) or not abs(value) <= _MAX_CONSTANT or not least(value):
                raise _refused(origin, key, value, "finite numbers, a std above 0")
    try:
        return CardPreprocessing(**fields)
    except ValidationError as error:
        raise ModelProblem(f"{origin} got {error.error_count()} wrong values: {error}") from error


def _refused(origin: str, key: str, got: object, allowed: str) -> ModelProblem:
    return ModelProblem(
        f"{origin} got {key} {got!r}; allowed {allowed}; export the model with another "
        f"preprocessing, or write its card by hand where {key} does not matter"
    )
