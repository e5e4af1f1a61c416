"""One class's probability by any picture classifier that a card describes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from udfs.class_probability import Activation, probability
from udfs.clip import Preprocessing
from udfs.image_codec import Decoded
from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import AUTO, Placement, infer

AT_ONCE: Final = 8  # as for Open NSFW, whose measurement says that more gains nothing


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
        starts = range(0, len(prepared), AT_ONCE)
        outputs = np.concatenate([self._outputs(prepared[n : n + AT_ONCE]) for n in starts])
        return {self.column: probability(outputs, self.index, self.activation).tolist()}

    def _outputs(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        network = self.placement.open(self.model)
        pixels = self.preprocessing.normalise(crops)
        return infer(network, {network.get_inputs()[0].name: pixels}, network.get_outputs()[0].name)
