"""How much of a picture text covers, by PP-OCR's text detector.

Measured on one core, 512 x 384: 41 ms an image, 4 at once 44; the rule on the map 1 to 4 ms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from udfs.bounded_picture import bounded
from udfs.image_codec import Decoded
from udfs.model_file import ModelFile
from udfs.onnx_session import AUTO, Placement, infer

# PaddleOCR configs/det/PP-OCRv6/PP-OCRv6_small_det.yml, where nothing else is said.
# The side that it is trained at. Measured: lines of 12 px type are found at a half of their
# size, on grass of 24 px; at 960 px an image takes 2.3 times as long.
LONGEST_PX: Final = 640
_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)  # of blue, green, red in [0, 1]:
_STD: Final = np.array([0.229, 0.224, 0.225], np.float32)  # in the file's order, on BGR
_TEXT: Final = 0.3  # a pixel of the map is text above it
_REGION: Final = 0.6  # a region is text where its rectangle's mean is at least this
_MOST_REGIONS: Final = 1000
_LEAST_SIDE_PX: Final = 3  # PaddleOCR ppocr/postprocess/db_postprocess.py
# Cores are grown by area x this / perimeter. The file's 1.5 leaves a margin for a recogniser;
# measured: area over that of the lines' boxes, on 28 rendered pictures of 12 to 96 px type,
# 10 %, median, 90 %: with 1.5 1.11, 1.24, 1.40; with 1.0 0.87, 0.96, 1.10.
_GROWTH: Final = 1.0
# Measured: of 24 photographs and drawings without text 6 have one core, all rounder than 1.5 (a
# cup, a crater, a clock, a cell, a colour wheel, a round logo). Lost with them: one or two glyphs
# alone, and letters higher than about a third of the picture, joined to such a core.
_LEAST_ASPECT: Final = 2.0
_NEIGHBOURS: Final = np.ones((3, 3), bool)  # corners touch, as in OpenCV's contours


@dataclass(frozen=True)
class _Rectangle:
    """A rectangle at any angle, in pixels.

    Attributes:
        axes: (2, 2), a unit vector a row: along it and across it.
        low: least coordinate on either axis.
        high: greatest coordinate on either axis.
    """

    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def sides(self) -> np.ndarray:
        """Both lengths."""
        return np.asarray(self.high - self.low)

    def grown(self) -> "_Rectangle":
        """The region of the text itself, of which the network marks the core."""
        distance = self.sides.prod() * _GROWTH / (2 * self.sides.sum())
        return _Rectangle(self.axes, self.low - distance, self.high + distance)

    def pixels(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
        """A window of a (height, width) map, and which of its pixels' centres lie inside."""
        corners = np.array([(u, v) for u in self._ends(0) for v in self._ends(1)]) @ self.axes
        left, top = np.clip(np.floor(corners.min(0)), 0, None).astype(int)
        right, bottom = np.ceil(corners.max(0)).astype(int)
        window = slice(top, min(bottom, shape[0])), slice(left, min(right, shape[1]))
        rows, columns = np.mgrid[window] + 0.5
        inside = np.ones(rows.shape, bool)
        for (x, y), low, high in zip(self.axes, self.low, self.high, strict=True):
            along = x * columns + y * rows
            inside &= (along >= low) & (along <= high)
        return window, inside

    def _ends(self, axis: int) -> tuple[float, float]:
        return self.low[axis], self.high[axis]


def text_area(probabilities: np.ndarray) -> tuple[float, int]:
    """Share of a picture that text covers, and in how many regions, from the detector's map.

    The map marks the core of each line of text. A connected core is scored by the mean over
    its smallest rectangle; that rectangle, grown, is the line. A core about as long as thick is
    left out: it would be one or two glyphs, and the detector takes a round object for a letter.
    Measured: 24 photographs and drawings without text have 0; a portrait before a flag has 0.07,
    for the flag's stars and the ribbons of the uniform more than for its name tag.

    Args:
        probabilities: (height, width) in [0, 1], of the whole picture.

    Returns:
        Share in [0, 1]; number of regions.

    Source: Liao et al. 2020, "Real-time scene text detection with differentiable
    binarization", AAAI, arXiv:1911.08947, §3.4, with PaddleOCR's numbers.

    >>> line = np.zeros((32, 64)); line[14:18, 10:50] = 0.9
    >>> text_area(line)
    (0.123046875, 1)
    """
    height, width = probabilities.shape
    covered = np.zeros((height, width), bool)
    regions = 0
    for core in _cores(probabilities > _TEXT):
        window, inside = core.pixels((height, width))
        if inside.any() and probabilities[window][inside].mean() >= _REGION:
            window, inside = core.grown().pixels((height, width))
            covered[window] |= inside
            regions += 1
    return float(covered.mean()), regions


def _cores(marked: np.ndarray) -> Iterator[_Rectangle]:
    """The smallest rectangles around the largest connected regions that may be a line."""
    labels, count = ndimage.label(marked, _NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    windows = ndimage.find_objects(labels)
    for index in np.argsort(-sizes, kind="stable")[:_MOST_REGIONS]:
        if sizes[index] < _LEAST_SIDE_PX**2:
            return
        window = windows[index]
        rectangle = _smallest(_outline(labels[window] == index + 1, window))
        least, most = sorted(rectangle.sides)
        if least >= _LEAST_SIDE_PX and most >= _LEAST_ASPECT * least:
            yield rectangle


def _outline(region: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """The corners (x, y) of the outermost pixels of every row."""
    rows = np.flatnonzero(region.any(1))
    left = region[rows].argmax(1)
    right = region.shape[1] - region[rows, ::-1].argmax(1)
    corners = [np.stack([x, y], 1) for x in (left, right) for y in (rows, rows + 1)]
    origin = np.array([window[1].start, window[0].start])
    return np.asarray(np.concatenate(corners) + origin)


def _smallest(points: np.ndarray) -> _Rectangle:
    """The rectangle of least area around points: a side of it lies on a side of their hull."""
    hull = points[ConvexHull(points).vertices]
    sides = np.roll(hull, -1, axis=0) - hull
    along = sides / np.linalg.norm(sides, axis=1, keepdims=True)
    axes = np.stack([along, np.stack([-along[:, 1], along[:, 0]], 1)], 1)  # (sides, 2, 2)
    coordinates = axes @ hull.T  # (sides, 2, points)
    low, high = coordinates.min(2) + 0.5, coordinates.max(2) - 0.5  # centres, as in OpenCV
    best = (high - low).prod(1).argmin()
    return _Rectangle(axes[best], low[best], high[best])


@dataclass(frozen=True)
class TextArea:
    """The share of a picture that text covers, as a signal.

    Source: PaddleOCR's PP-OCRv6 small text detector.
    """

    model: ModelFile
    placement: Placement = AUTO
    columns: ClassVar = ("text_fraction", "text_regions")

    @property
    def version(self) -> str:
        """Rule and model."""
        return f"text_area/1:{self.model.sha256}"

    def load(self) -> str:
        """Open the network in this process; the provider that runs it.

        Raises:
            ModelMismatch: the file is not the one described.
        """
        return str(self.placement.open(self.model).get_providers()[0])

    def prepare(self, decoded: Decoded) -> np.ndarray:
        """Bound one picture: at most 640 px, sides that the network takes; (h, w, 3) uint8."""
        return bounded(decoded.image, LONGEST_PX)

    def finish(self, prepared: Sequence[np.ndarray]) -> dict[str, list[float] | list[int]]:
        """Measure a batch, a picture at a time: their sizes differ.

        Raises:
            ValueError: the network gives no probabilities.
        """
        areas = [text_area(self._map(pixels)) for pixels in prepared]
        return {
            "text_fraction": [share for share, _ in areas],
            "text_regions": [regions for _, regions in areas],
        }

    def _map(self, pixels: np.ndarray) -> np.ndarray:
        network = self.placement.open(self.model)
        batch = ((pixels[..., ::-1] / np.float32(255) - _MEAN) / _STD).transpose(2, 0, 1)[None]
        feeds = {network.get_inputs()[0].name: np.ascontiguousarray(batch)}
        probabilities: np.ndarray = infer(network, feeds, network.get_outputs()[0].name)[0, 0]
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise ValueError("text map holds no probabilities; the row cannot be judged")
        return probabilities
