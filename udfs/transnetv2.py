"""Where shots begin, as TransNetV2 sees it: a network instead of a rule.

Measured on one core: 30 ms a frame, and 370 MB of memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from udfs.cpu_network import cpu_network
from udfs.model_file import ModelFile

if TYPE_CHECKING:
    import onnxruntime as ort

# soCzech/TransNetV2, inference/transnetv2.py: predict_frames, predictions_to_scenes.
_WIDTH, _HEIGHT = 48, 27
_WINDOW: Final = 100  # frames that the network sees at once
_MARGIN: Final = 25  # of them on either side are for context alone
_STEP: Final = _WINDOW - 2 * _MARGIN
_THRESHOLD: Final = 0.5  # its default: a frame of a higher probability is a transition


@dataclass(frozen=True)
class TransNetV2:
    """The network that finds shots.

    Attributes:
        model: takes ``frames`` (n, 100, 27, 48, 3) uint8 RGB, gives ``transition`` (n, 100).
    """

    model: ModelFile

    @property
    def version(self) -> str:
        """Rule and model."""
        return f"transnetv2/1:{self.model.sha256}"

    def detector(self) -> "TransNetDetector":
        """A detector for the frames of one video.

        Raises:
            ModelMismatch: the file is not the one described.
        """
        return TransNetDetector(cpu_network(self.model))


class TransNetDetector:
    """A ``udfs.shots.ShotDetector``: the network sees the frames as they go by, a window at a time.

    A hundred small frames are held, and four bytes a frame.

    Source: Soucek and Lokoc 2020, "TransNet V2", arXiv:2008.04838.
    """

    def __init__(self, network: "ort.InferenceSession") -> None:
        """Begin a video.

        Args:
            network: see ``TransNetV2``.
        """
        self._network = network
        self._window: list[npt.NDArray[np.uint8]] = []
        self._judged: list[npt.NDArray[np.float32]] = []
        self._frames = 0

    def add(self, small: npt.NDArray[np.uint8]) -> None:
        """Take the next frame, uint8 RGB (height, width, 3) of any size; it is squeezed to 48 x 27.

        Raises:
            ValueError: the network gives no probabilities.
        """
        # Bicubic, as the original has FFmpeg do it.
        size = Image.fromarray(small).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        frame = np.asarray(size, np.uint8)
        if not self._frames:
            self._window = [frame] * _MARGIN
        self._frames += 1
        self._window.append(frame)
        if len(self._window) == _WINDOW:
            self._judged.append(self._judge(self._window))
            self._window = self._window[_STEP:]

    def probabilities(self) -> npt.NDArray[np.float32]:
        """The probability that a frame is a transition, (frames,), in [0, 1].

        Raises:
            ValueError: the network gives no probabilities.
        """
        judged, window = list(self._judged), list(self._window)
        while _STEP * len(judged) < self._frames:
            window += [window[-1]] * (_WINDOW - len(window))
            judged.append(self._judge(window))
            window = window[_STEP:]
        found = np.concatenate(judged) if judged else np.empty(0, np.float32)
        return found[: self._frames]

    def boundaries(self) -> list[int]:
        """The first frame of each shot but the first, ascending.

        Raises:
            ValueError: the network gives no probabilities.
        """
        return after_transitions(self.probabilities())

    def _judge(self, window: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """The probabilities of the frames in the middle of a window."""
        (given,) = self._network.run(["transition"], {"frames": np.stack(window)[None]})
        found = np.asarray(given, np.float32)
        if found.shape != (1, _WINDOW) or not np.all((found >= 0) & (found <= 1)):
            raise ValueError("transnetv2 got no probabilities; the video cannot be cut by it")
        return found[0, _MARGIN:-_MARGIN]


def after_transitions(probabilities: npt.NDArray[np.float32]) -> list[int]:
    """The frames after runs of transitions; of a run at the start or the end no shot is one side.

    >>> after_transitions(np.array([0, 0, 0.9, 0, 0, 0.6, 0.7, 0, 0.8], np.float32))
    [3, 7]
    """
    is_transition = probabilities > _THRESHOLD
    ends = np.flatnonzero(is_transition[:-1] & ~is_transition[1:]) + 1
    stills = np.flatnonzero(~is_transition)
    return [int(at) for at in ends if stills[0] < at]
