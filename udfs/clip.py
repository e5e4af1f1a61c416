"""CLIP's two encoders, from any standard two-file ONNX export."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import numpy as np
import onnxruntime as ort
from PIL import Image

from udfs.clip_tokenizer import Tokenizer, Tokens
from udfs.embedding import pack, unit
from udfs.image_codec import Decoded
from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import AUTO, Placement, infer

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
_Three = tuple[float, float, float]
_Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"]


@dataclass(frozen=True)
class Preprocessing:
    """How an image encoder wants its picture.

    Attributes:
        size_px: side of the square that goes in.
        resize: ``shortest`` = shorter side to size, then the centre (CLIP); ``longest`` =
            longer side to size, then black around it; ``squash`` = both sides to size (SigLIP).
        interpolation: how the picture is resized.
        mean: per channel, of values in [0, 1].
        std: per channel, of values in [0, 1].
        resize_px: the size to resize to before the centre is taken; null for size_px.
    """

    size_px: int = 224
    resize: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: _Interpolation = "bicubic"
    mean: _Three = (0.48145466, 0.4578275, 0.40821073)  # openai/CLIP clip.py
    std: _Three = (0.26862954, 0.26130258, 0.27577711)  # the same
    resize_px: int | None = field(default=None, repr=False)

    @property
    def version(self) -> str:
        """All that decides; what is null is left out, so that it names no other set than before."""
        return f"{self}" + (f":{self.resize_px}" if self.resize_px else "")

    def crop(self, image: Image.Image) -> np.ndarray:
        """The square of the picture that goes in.

        Args:
            image: RGB of any size.

        Returns:
            (size_px, size_px, 3) uint8.
        """
        side, final = self.resize_px or self.size_px, (self.size_px, self.size_px)
        resampling = Image.Resampling[self.interpolation.upper()]
        if self.resize == "squash":
            return np.asarray(_centre(image.resize((side, side), resampling), final))
        if self.resize == "longest":
            longer = max(image.size)
            width, height = (max(1, round(side * length / longer)) for length in image.size)
            return np.asarray(_padded(image.resize((width, height), resampling), final))
        shorter = min(image.size)
        image = _centre(image, (shorter * _MOST_ASPECT, shorter * _MOST_ASPECT))
        width, height = (side * length // shorter for length in image.size)
        return np.asarray(_centre(image.resize((width, height), resampling), final))

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
        return f"clip_image/1:{self.clip.image.sha256}:{self.clip.preprocessing.version}"

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


def _centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture, no larger than a size; the whole, where it is smaller."""
    width, height = min(image.width, size[0]), min(image.height, size[1])
    if (width, height) == image.size:
        return image
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture in the middle of a black one."""
    whole = Image.new("RGB", size)
    whole.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return whole


def _output(network: ort.InferenceSession) -> str:
    names = [item.name for item in network.get_outputs()]
    return next((name for name in OUTPUTS if name in names), names[0])


def _feeds(network: ort.InferenceSession, tokens: Tokens) -> dict[str, np.ndarray]:
    names = [item.name for item in network.get_inputs()]
    ids = next((name for name in IDS if name in names), names[0])
    return {ids: tokens.ids} | ({MASK: tokens.mask} if MASK in names else {})
