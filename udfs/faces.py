"""How many faces a picture shows and how large they are, by CenterFace.

Measured on one core, 512 x 384: 42 ms an image, 4 at once 46.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from udfs.bounded_picture import bounded
from udfs.image_codec import Decoded
from udfs.model_file import ModelFile
from udfs.onnx_session import AUTO, Placement, infer_all

if TYPE_CHECKING:
    import onnxruntime as ort

# Chosen: 70 ms an image. Measured: faces 10 px wide are still found, 7 px not, so of a picture
# of 1600 px those from 25 px on; with 1280 px the photographs at hand show no more faces.
LONGEST_PX: Final = 640
# Star-Clouds/CenterFace prj-python/centerface.py, where nothing else is said.
_OUTPUTS: Final = ("537", "538", "539")  # confidence, size, offset of the centre; no landmarks
_INPUT: Final = ("n", 3, "height", "width")  # the export declares 10 x 3 x 32 x 32 and takes any
# Its default. Measured: of 27 photographs and drawings those with a face have 0.83 to 0.93, those
# without at most 0.28; of scikit-image's 100 faces and 100 other cuts of 25 px all are told apart.
_FACE: Final = 0.5
_OVERLAP: Final = 0.3  # two boxes of a higher intersection over union show one face
_MOST_CANDIDATES: Final = 2000  # chosen: a face gives about ten; bounds the time of one picture
_MOST_LOG_CELLS: Final = 10.0  # chosen: e^10 cells reach over any picture; exp stays finite


def find_faces(confidence: np.ndarray, size: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Boxes of faces from the detector's maps.

    Each cell of the maps may be the centre of a face; of boxes that overlap the most confident
    stays.

    Args:
        confidence: (h, w) in [0, 1].
        size: (2, h, w), natural logarithms of the height and the width in cells.
        offset: (2, h, w), of the centre in cells, down and to the right.

    Returns:
        (n, 4) float64: left, top, right, bottom as fractions of the picture's width and height,
        in [0, 1], the most confident first.

    Equals the authors' decoding but where a box passes the left or the upper edge: theirs is
    moved into the picture whole, this one is cut off.

    Source: Xu et al. 2020, "CenterFace: joint face detection and alignment using face as
    point", arXiv:1911.03599, and its authors' code.

    >>> one = np.zeros((8, 8)); one[2, 4] = 0.9
    >>> find_faces(one, np.log(np.full((2, 8, 8), 2.0)), np.zeros((2, 8, 8)))
    array([[0.4375, 0.1875, 0.6875, 0.4375]])
    """
    cells = np.flatnonzero(confidence > _FACE)
    cells = cells[np.argsort(-confidence.ravel()[cells], kind="stable")][:_MOST_CANDIDATES]
    where = np.stack(np.unravel_index(cells, confidence.shape))  # (2, n): rows, columns
    centres = where + 0.5 + offset.reshape(2, -1)[:, cells]
    halves = np.exp(np.minimum(size.reshape(2, -1)[:, cells], _MOST_LOG_CELLS, dtype=float)) / 2
    whole = np.array(confidence.shape, float)[:, None]
    low, high = (np.clip(corner / whole, 0, 1) for corner in (centres - halves, centres + halves))
    boxes = np.stack([low[1], low[0], high[1], high[0]], axis=1)
    return boxes[_distinct(boxes)]


def _distinct(boxes: np.ndarray) -> list[int]:
    """Positions of the boxes that overlap no earlier one that stays."""
    left = np.arange(len(boxes))
    kept = []
    while left.size:
        first, others = left[0], left[1:]
        kept.append(int(first))
        low = np.maximum(boxes[first, :2], boxes[others, :2])
        high = np.minimum(boxes[first, 2:], boxes[others, 2:])
        common = _areas(np.concatenate([low, high], axis=1))
        either = _areas(boxes[first]) + _areas(boxes[others]) - common
        left = others[common < _OVERLAP * either]
    return kept


def _areas(boxes: np.ndarray) -> np.ndarray:
    """Shares of the picture; 0 where a box is turned inside out."""
    return np.asarray(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1))


@dataclass(frozen=True)
class Faces:
    """Number and size of the faces in a picture, as a signal."""

    model: ModelFile
    placement: Placement = AUTO
    columns: ClassVar = ("faces", "face_fraction", "largest_face_fraction", "face_confidence")

    @property
    def version(self) -> str:
        """Rule and model."""
        return f"faces/1:{self.model.sha256}"

    def load(self) -> str:
        """Open the network in this process; the provider that runs it.

        Raises:
            ModelMismatch: the file is not the one described.
        """
        return str(self._network().get_providers()[0])

    def prepare(self, decoded: Decoded) -> np.ndarray:
        """Bound one picture: at most 640 px, sides that the network takes; (h, w, 3) uint8."""
        return bounded(decoded.image, LONGEST_PX)

    def finish(self, prepared: Sequence[np.ndarray]) -> dict[str, list[Any]]:
        """Measure a batch, a picture at a time: their sizes differ.

        Raises:
            ValueError: the network gives no probabilities, or boxes that are not finite.
        """
        columns = zip(*(self._row(pixels) for pixels in prepared), strict=True)
        return dict(zip(self.columns, map(list, columns), strict=True))

    def _row(self, pixels: np.ndarray) -> tuple[int, float, float, float]:
        feeds = {"input.1": pixels.transpose(2, 0, 1)[None]}  # RGB in [0, 255], as they are
        confidence, size, offset = infer_all(self._network(), feeds, _OUTPUTS)
        if not np.all((confidence >= 0) & (confidence <= 1)):
            raise ValueError("face map holds no probabilities; the row cannot be judged")
        if not (np.isfinite(size).all() and np.isfinite(offset).all()):
            raise ValueError("face boxes are not finite; the row cannot be judged")
        areas = _areas(find_faces(confidence[0, 0], size[0], offset[0]))
        total = min(1.0, float(areas.sum()))  # what little they overlap counts twice
        return len(areas), total, float(areas.max(initial=0)), float(confidence.max())

    def _network(self) -> "ort.InferenceSession":
        return self.placement.open(self.model, _INPUT)
