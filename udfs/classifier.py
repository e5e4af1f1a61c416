"""One class's probability by any picture classifier that a card describes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import special

from udfs.clip import Preprocessing
from udfs.image_codec import Decoded
from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import AUTO, Placement, infer

Activation = Literal["softmax", "sigmoid", "none"]
_AT_ONCE: Final = 8  # as for Open NSFW, whose measurement says that more gains nothing


def probability(outputs: np.ndarray, index: int, activation: Activation) -> np.ndarray:
    """Probability of one class.

    Args:
        outputs: (n, classes), what the network gives.
        index: position of the class.
        activation: what the network leaves to do: ``softmax`` over the classes, ``sigmoid`` of
            each, ``none`` where its outputs are probabilities.

    Returns:
        (n,) float64 in [0, 1].

    Raises:
        ValueError: an output is not finite, or no probability under ``none``.

    >>> probability(np.array([[2.0, 2.0]]), 0, "softmax")
    array([0.5])
    """
    if not np.isfinite(outputs).all():
        raise ValueError("class scores are not finite; the row cannot be judged")
    outputs = outputs.astype(np.float64)
    if activation == "softmax":
        outputs = special.softmax(outputs, axis=1)
    elif activation == "sigmoid":
        outputs = special.expit(outputs)
    chosen = np.asarray(outputs[:, index])
    if not np.all((chosen >= 0) & (chosen <= 1)):
        raise ValueError("class probability outside [0, 1]; the row cannot be judged")
    return chosen


@dataclass(frozen=True)
class Classifier:
    """The probability of one class as a signal, e.g. of a watermark.

    LAION's watermark detector (an EfficientNet-B3a), for one, takes 256 px squashed, ImageNet's
    mean and std, and gives two classes to be put through softmax, the watermark first.

    Attributes:
        column: the column it fills.
        model: the network: (n, 3, size, size) float, RGB -> (n, classes).
        preprocessing: how it wants its picture.
        classes: how many classes it gives.
        index: position of the class that is wanted.
        activation: what turns its outputs into probabilities.
    """

    column: str
    model: ModelFile
    preprocessing: Preprocessing
    classes: int = 2
    index: int = 0
    activation: Activation = "softmax"
    placement: Placement = AUTO

    @property
    def columns(self) -> tuple[str]:
        """The column it fills."""
        return (self.column,)

    @property
    def version(self) -> str:
        """Rule, model, and how it is fed and read."""
        return (
            f"classifier/1:{self.column}:{self.model.sha256}:{self.preprocessing}"
            f":{self.index}:{self.activation}"
        )

    def load(self) -> str:
        """Open the network in this process and try it; the provider that runs it.

        Raises:
            ModelMismatch: the file or its output is not what the card describes.
        """
        side = self.preprocessing.size_px
        outputs = self._outputs([np.zeros((side, side, 3), np.uint8)])
        if outputs.shape != (1, self.classes) or not 0 <= self.index < self.classes:
            raise ModelMismatch(
                f"classifier output of shape {outputs.shape} and class {self.index} differ from "
                f"(n, {self.classes}) and a class below {self.classes}; "
                "correct the output in the model's card"
            )
        return str(self.placement.open(self.model).get_providers()[0])

    def prepare(self, decoded: Decoded) -> np.ndarray:
        """Crop one picture."""
        return self.preprocessing.crop(decoded.image)

    def finish(self, prepared: Sequence[np.ndarray]) -> dict[str, list[float]]:
        """Score a batch.

        Raises:
            ValueError: an output is not finite or no probability.
        """
        starts = range(0, len(prepared), _AT_ONCE)
        outputs = np.concatenate([self._outputs(prepared[n : n + _AT_ONCE]) for n in starts])
        return {self.column: probability(outputs, self.index, self.activation).tolist()}

    def _outputs(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        network = self.placement.open(self.model)
        pixels = self.preprocessing.normalise(crops)
        return infer(network, {network.get_inputs()[0].name: pixels}, network.get_outputs()[0].name)
