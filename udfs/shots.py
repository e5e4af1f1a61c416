"""Where one shot ends and the next begins, from what changes between the frames."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from udfs.content_cuts import ContentChange, adaptive_cuts, content_cuts
from udfs.frame_change import REACH_FRAMES, FrameChange

VERSION: Final = "shots/1"  # raised whenever the same frames would give other shots
Series = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ShotConfig:
    """When a change is a boundary; all levels are shares of the range of a pixel.

    Attributes:
        mads: how many median absolute deviations above the median of the frames around. With mean
            and standard deviation the cuts themselves raise the bar.
        floor: least change of a cut, where nothing else moves.
        gradual_floor: least change of a dissolve or fade.
        stays: how much of the change must not be undone soon, as after a flash.
        lone: how many times the change of the frames beside it. A camera that starts to turn
            changes as much at once, and goes on.
        beside_frames: how many frames on either side that is.
        window_frames: how many frames the median is of.
        dark: mean of a frame that is black.
        dark_frames: longest black between two shots; a longer one is a shot.
    """

    mads: float = 8.0  # Leys et al. 2013 call 3 very conservative; a cut is far above that
    # Measured: real clips without a cut reach 0.022 and a gradual 0.017, rendered ones that turn
    # and are flashed 0.06 and 0.019; the least of rendered cuts is 0.20, of dissolves 0.06.
    floor: float = 0.05
    gradual_floor: float = 0.04
    stays: float = 0.5  # chosen: of a cut it is nearly all, after a flash in a pan about 0.1
    lone: float = (
        1.6  # chosen: rendered cuts between fast pans have 1.7 and more, a pan that starts 1.1
    )
    beside_frames: int = 3  # chosen: pictures at 10 fps in a video at 30 come in threes
    window_frames: int = 121  # chosen: four seconds, of which no shot's beginning is half
    dark: float = 12 / 255  # PySceneDetect's ThresholdDetector
    dark_frames: int = 60  # chosen: two seconds


class ShotDetector(Protocol):
    """Takes the small frames of one video in their order, and then says where shots begin."""

    def add(self, small: npt.NDArray[np.uint8]) -> None:
        """Take the next frame, uint8 RGB (height, width, 3)."""
        ...

    def boundaries(self) -> list[int]:
        """The first frame of each shot but the first, ascending."""
        ...


class RobustDetector(FrameChange):
    """Cuts, dissolves and fades by a bar that follows what moves around them: the default."""

    def __init__(self, config: ShotConfig = ShotConfig()) -> None:
        super().__init__()
        self._config = config

    def boundaries(self) -> list[int]:
        """The first frame of each shot but the first, ascending; of a dissolve its middle."""
        return boundaries(self, self._config)


class ContentDetector(ContentChange):
    """PySceneDetect's ContentDetector."""

    def boundaries(self) -> list[int]:
        """The first frame of each shot but the first, ascending."""
        return content_cuts(self.values)


class AdaptiveDetector(ContentChange):
    """PySceneDetect's AdaptiveDetector."""

    def boundaries(self) -> list[int]:
        """The first frame of each shot but the first, ascending."""
        return adaptive_cuts(self.values)


DETECTORS: Final[dict[str, type[ShotDetector]]] = {
    "robust": RobustDetector,
    "content": ContentDetector,
    "adaptive": AdaptiveDetector,
}


def boundaries(change: FrameChange, config: ShotConfig = ShotConfig()) -> list[int]:
    """The first frame of each shot but the first, ascending; of a dissolve its middle.

    >>> black, white = (np.full((36, 64, 3), level, np.uint8) for level in (20, 235))
    >>> change = FrameChange()
    >>> for frame in [black] * 20 + [white] * 20:
    ...     change.add(frame)
    >>> boundaries(change)
    [20]
    """
    cuts = _cuts(change.cut, change.change, config)
    gradual = [
        at
        for at in _peaks(change.gradual, config)
        if not any(abs(at - cut) <= config.beside_frames for cut in cuts)
    ]
    return _through_black(sorted(cuts + gradual), change.light, config)


def _cuts(cut: Series, change: Series, config: ShotConfig) -> list[int]:
    beside = np.zeros_like(cut)
    for lag in range(1, config.beside_frames + 1):
        beside[lag:] = np.maximum(beside[lag:], cut[:-lag])
        beside[:-lag] = np.maximum(beside[:-lag], cut[lag:])
    is_cut = cut >= _bar(cut, config.floor, config)
    is_cut &= (cut >= config.stays * change) & (cut >= config.lone * beside)
    return [int(at) for at in np.flatnonzero(is_cut)]


def _peaks(gradual: Series, config: ShotConfig) -> list[int]:
    """The middle of each stretch above the bar, weighted by how far above."""
    over = np.maximum(0, gradual - _bar(gradual, config.gradual_floor, config))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], over > 0, [0]]).astype(np.int8)))
    return [
        round(float(np.average(np.arange(first, end), weights=over[first:end])))
        for first, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def _bar(series: Series, floor: float, config: ShotConfig) -> Series:
    if not len(series):
        return series
    size = min(config.window_frames, len(series))
    median = median_filter(series, size, mode="nearest")
    deviation = median_filter(np.abs(series - median), size, mode="nearest")
    bar: Series = np.maximum(floor, median + config.mads * deviation)
    return bar


def _through_black(found: list[int], light: Series, config: ShotConfig) -> list[int]:
    """One boundary in the middle of a short black, none where the video begins or ends with it."""
    is_dark = light <= config.dark
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_dark, [0]]).astype(np.int8)))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        if end - first > config.dark_frames:
            continue
        near = REACH_FRAMES
        around = [at for at in found if first - near <= at <= end + near]
        is_inner = first > 0 and end < len(light)
        if around:
            found = [at for at in found if at not in around]
            found += [(int(first) + int(end)) // 2] if is_inner else []
    return sorted(found)
