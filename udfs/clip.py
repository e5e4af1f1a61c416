"""CLIP's two encoders, from any standard two-file ONNX export."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from PIL import Image

from udfs.clip_tokenizer import Tokenizer, Tokens
from udfs.embedding import pack, unit
from udfs.image_codec import Decoded
from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import AUTO, Placement, infer

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = [
    "IDS",
    "MASK",
    "OUTPUTS",
    "Clip",
    "ClipImage",
    "ClipText",
    "Preprocessing",
    "Tokenizer",
]

OUTPUTS: Final = (  # names in the exports of optimum, immich, SigLIP 2, in order of preference
    "image_embeds",
    "image_embedding",
    "text_embeds",
    "text_embedding",
    "pooler_output",
)
IDS: Final = ("input_ids", "text")  # optimum, immich
MASK: Final = "attention_mask"
_MOST_ASPECT: Final = 8  # chosen: a 1:20000 strip must not be resized whole for its centre
_SUPPORT: Final = 3  # source pixels to each side of one, of Pillow's widest filter, lanczos
_Three = tuple[float, float, float]
_Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"]


@dataclass(frozen=True)
class Preprocessing:
    """How an image encoder wants its picture.

    Attributes:
        size_px: side of the square that goes in.
        resize: ``shortest`` = shorter side to size, then the centre (CLIP); ``longest`` =
            longer side to size, then a border; ``squash`` = both sides to size (SigLIP).
        interpolation: how the picture is resized.
        mean: per channel, of values in [0, 1].
        std: per channel, of values in [0, 1].
        resize_px: the size to resize to before the centre is taken; null for size_px.
        fill: grey of the border that ``longest`` adds, 0 to 255.
        half_pixel: where a centre half a pixel off goes: ``even`` = to the nearest even corner
            (torchvision, open_clip), ``down`` = to the lower one (transformers).
    """

    size_px: int = 224
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: _Interpolation = "bicubic"
    mean: _Three = (0.48145466, 0.4578275, 0.40821073)  # openai/CLIP clip.py
    std: _Three = (0.26862954, 0.26130258, 0.27577711)  # the same
    resize_px: int | None = None
    fill: int = 0  # open_clip transform.py
    half_pixel: Literal["even", "down"] = "even"

    def crop(self, image: Image.Image) -> np.ndarray:
        """The square of the picture that goes in.

        Args:
            image: RGB of any size.

        Returns:
            (size_px, size_px, 3) uint8.
        """
        inner = self.resize_px or self.size_px
        resampling = Image.Resampling[self.interpolation.upper()]
        if self.resize == "squash":
            resized = image.resize((inner, inner), resampling)
        elif self.resize == "longest":
            ratio = max(image.size) / inner
            width, height = (max(1, round(length / ratio)) for length in image.size)
            resized = image.resize((width, height), resampling)
        else:
            shorter = min(image.size)
            width, height = (inner * length // shorter for length in image.size)
            if max(image.size) > shorter * _MOST_ASPECT:
                return np.asarray(self._part(image, (width, height), resampling))
            resized = image.resize((width, height), resampling)
        return np.asarray(self._square(resized))

    def normalise(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Standardised channels first.

        Args:
            crops: n times (size_px, size_px, 3) uint8.

        Returns:
            (n, 3, size_px, size_px) float32.
        """
        mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (self.mean, self.std))
        scale, shift = 1 / (255 * std), mean / std
        pixels = np.empty((len(crops), 3, self.size_px, self.size_px), np.float32)
        for crop, target in zip(crops, pixels, strict=True):
            np.multiply(crop.transpose(2, 0, 1), scale, out=target)
            target -= shift
        return pixels

    def _square(self, image: Image.Image) -> Image.Image:
        """The middle of a picture, with a border where it is smaller."""
        side = self.size_px
        if image.size == (side, side):
            return image
        left, top = (
            self._corner(length) if length >= side else -((side - length) // 2)
            for length in image.size
        )
        square = Image.new("RGB", (side, side), (self.fill, self.fill, self.fill))
        square.paste(image, (-left, -top))
        return square

    def _part(
        self, image: Image.Image, size: tuple[int, int], resampling: Image.Resampling
    ) -> Image.Image:
        """The middle of what a picture would be at a size, without making the rest of it."""
        (x, left, right), (y, top, bottom) = (
            _needed(source, target, self._corner(target), self.size_px)
            for source, target in zip(image.size, size, strict=True)
        )
        near = image.crop((x[0], y[0], x[1], y[1]))
        # In Pillow's own order, which shows: it rounds to bytes between the two.
        wide = (self.size_px, near.height)
        near = near.resize(wide, resampling, (left, 0, right, near.height))
        square = (self.size_px, self.size_px)
        return near.resize(square, resampling, (0, top, self.size_px, bottom))

    def _corner(self, length: int) -> int:
        """Where the middle of a side begins."""
        beyond = length - self.size_px
        return beyond // 2 if self.half_pixel == "down" else round(beyond / 2)


@dataclass(frozen=True)
class Clip:
    """A dual encoder as its card describes it.

    Attributes:
        image: the image network.
        text: the text network.
        tokenizer: how the text network wants its text.
        preprocessing: how the image network wants its picture.
        dimension: length of the embeddings.
    """

    image: ModelFile
    text: ModelFile
    tokenizer: Tokenizer
    preprocessing: Preprocessing
    dimension: int

    def columns(self, embeddings: np.ndarray) -> dict[str, list[Any]]:
        """Embeddings as the columns of a signals table.

        Args:
            embeddings: (n, dimension) float32, any norm: exports differ in whether they normalise.

        Raises:
            ValueError: an embedding is not finite or all zeros.
        """
        packed = pack(unit(embeddings))
        return {"clip_embedding": packed, "clip_dimension": [self.dimension] * len(packed)}

    def check(self, embeddings: np.ndarray) -> None:
        """Refuse a network whose output is not the card's.

        Raises:
            ModelMismatch: another shape than (n, dimension).
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise ModelMismatch(
                f"CLIP output of shape {embeddings.shape} differs from (n, {self.dimension}); "
                "correct the dimension in the model's card or take the export with projection"
            )


@dataclass(frozen=True)
class ClipImage:
    """The image side as a signal."""

    clip: Clip
    placement: Placement = AUTO
    columns: ClassVar = ("clip_embedding", "clip_dimension")

    @property
    def version(self) -> str:
        """Rule, preprocessing and model."""
        return f"clip_image/2:{self.clip.image.sha256}:{self.clip.preprocessing}"

    def load(self) -> str:
        """Open the network in this process and try it; the provider that runs it.

        Raises:
            ModelMismatch: the file or its output is not what the card describes.
        """
        side = self.clip.preprocessing.size_px
        self.clip.check(self._embed([np.zeros((side, side, 3), np.uint8)]))
        return str(self.placement.open(self.clip.image).get_providers()[0])

    def prepare(self, decoded: Decoded) -> np.ndarray:
        """Crop one picture."""
        return self.clip.preprocessing.crop(decoded.image)

    def finish(self, prepared: Sequence[np.ndarray]) -> dict[str, list[Any]]:
        """Embed a batch.

        Raises:
            ValueError: an embedding is not finite or all zeros.
        """
        return self.clip.columns(self._embed(prepared))

    def _embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        network = self.placement.open(self.clip.image)
        pixels = self.clip.preprocessing.normalise(crops)
        return infer(network, {network.get_inputs()[0].name: pixels}, _output(network))


@dataclass(frozen=True)
class ClipText:
    """The text side as a signal."""

    clip: Clip
    placement: Placement = AUTO
    columns: ClassVar = ("clip_embedding", "clip_dimension")

    @property
    def version(self) -> str:
        """Rule, tokenizer and model."""
        return f"clip_text/1:{self.clip.text.sha256}:{self.clip.tokenizer.version}"

    def load(self) -> str:
        """Open the network in this process and try it; the provider that runs it.

        Raises:
            ModelMismatch: a file or the output is not what the card describes.
        """
        self.clip.check(self._embed(["a"]))
        return str(self.placement.open(self.clip.text).get_providers()[0])

    def finish(self, texts: Sequence[str]) -> dict[str, list[Any]]:
        """Embed a batch.

        Raises:
            ValueError: an embedding is not finite or all zeros.
        """
        return self.clip.columns(self._embed(texts))

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        network = self.placement.open(self.clip.text)
        feeds = _feeds(network, self.clip.tokenizer.encode(texts))
        return infer(network, feeds, _output(network))


def _needed(
    source: int, target: int, corner: int, side: int
) -> tuple[tuple[int, int], float, float]:
    """Which pixels a part of a resized side is made of, and from where to where in them."""
    start, stop = (at * source / target for at in (corner, corner + side))
    reach = math.ceil(_SUPPORT * max(1, source / target))
    first, last = max(0, math.floor(start) - reach), min(source, math.ceil(stop) + reach)
    return (first, last), start - first, stop - first


def _output(network: "ort.InferenceSession") -> str:
    names = [item.name for item in network.get_outputs()]
    return next((name for name in OUTPUTS if name in names), names[0])


def _feeds(network: "ort.InferenceSession", tokens: Tokens) -> dict[str, np.ndarray]:
    names = [item.name for item in network.get_inputs()]
    ids = next((name for name in IDS if name in names), names[0])
    return {ids: tokens.ids} | ({MASK: tokens.mask} if MASK in names else {})
