"""How much of a clip's sound is speech, by Silero VAD.

Measured on one core: 3 ms a second of sound.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from udfs.cpu_network import cpu_network
from udfs.model_file import ModelFile

if TYPE_CHECKING:
    import onnxruntime as ort

# snakers4/silero-vad: src/silero_vad/utils_vad.py and sequence_vad.py.
_WINDOW: Final = 512  # samples at 16 kHz, 32 ms: what one probability is of
_CONTEXT: Final = 64  # samples before it that the network is shown as well
_STATE: Final = (1, 1, 128)
_SPEECH: Final = 0.5  # its default: a window with a higher probability is speech
_WINDOWS_AT_ONCE: Final = 512  # 16 s; bounds what is held


@dataclass(frozen=True)
class Speech:
    """The detector of speech; it runs on the CPU, in the process that hears the sound.

    Attributes:
        model: the network for sequences of windows at 16 kHz.
    """

    model: ModelFile
    columns: ClassVar = ("speech_fraction",)

    @property
    def version(self) -> str:
        """Rule and model."""
        return f"speech/1:{self.model.sha256}"

    def load(self) -> str:
        """Open the network in this process; the provider that runs it.

        Raises:
            ModelMismatch: the file is not the one described.
        """
        return str(cpu_network(self.model).get_providers()[0])

    def meter(self) -> "SpeechMeter":
        """A meter for the sound of one clip."""
        return SpeechMeter(cpu_network(self.model))


class SpeechMeter:
    """Measures speech in sound that comes in blocks of any length; at most 16 s are held.

    Every window is judged in the light of all before it, as the network is a recurrent one.

    Source: Silero Team 2024, "Silero VAD", github.com/snakers4/silero-vad.
    """

    def __init__(self, network: "ort.InferenceSession") -> None:
        """Begin a clip.

        Args:
            network: takes ``input`` (n, 576), ``h`` and ``c`` (1, 1, 128), gives
                ``speech_probs`` (n), ``hn`` and ``cn``.
        """
        self._network = network
        self._state = np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32)
        self._rest = np.zeros(_CONTEXT, np.float32)  # the context, and what is no whole window yet
        self._speech, self._windows = 0, 0

    def add(self, sound: np.ndarray) -> None:
        """Hear the next block.

        Args:
            sound: (n,) mono float32 at 16 kHz in [-1, 1]; what is not a number is silence.

        Raises:
            ValueError: the network gives no probabilities.
        """
        clean = np.clip(np.nan_to_num(sound, nan=0.0), -1, 1).astype(np.float32, copy=False)
        sound = np.concatenate([self._rest, clean])
        while len(sound) >= _CONTEXT + _WINDOW:
            windows = min(_WINDOWS_AT_ONCE, (len(sound) - _CONTEXT) // _WINDOW)
            self._judge(sound[: _CONTEXT + windows * _WINDOW])
            sound = sound[windows * _WINDOW :]
        self._rest = sound

    def fraction(self) -> float | None:
        """Share of windows of 32 ms that are speech, in [0, 1]; null for less than one window."""
        return self._speech / self._windows if self._windows else None

    def _judge(self, sound: np.ndarray) -> None:
        shown = np.lib.stride_tricks.sliding_window_view(sound, _CONTEXT + _WINDOW)[::_WINDOW]
        h, c = self._state
        feeds = {"input": np.ascontiguousarray(shown), "h": h, "c": c}
        probabilities, h, c = self._network.run(["speech_probs", "hn", "cn"], feeds)
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise ValueError("speech got no probabilities; the row cannot be judged")
        self._state = h, c
        self._speech += int(np.sum(probabilities > _SPEECH))
        self._windows += len(shown)
