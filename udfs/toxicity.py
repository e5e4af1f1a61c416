"""How likely a text is toxic, by any registered ONNX text classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from udfs.clip_tokenizer import Tokenizer, Tokens
from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import AUTO, Placement, infer
from udfs.token_batches import by_length, feeds

Activation = Literal["none", "sigmoid", "softmax"]
_OUTPUTS: Final = ("toxicity", "logits")  # ours, the usual exporter's; else the first


def probabilities(outputs: np.ndarray, activation: Activation) -> np.ndarray:
    """A classifier's outputs as probabilities.

    Args:
        outputs: (n, labels) float.
        activation: ``none`` where they are probabilities already, ``sigmoid`` where each label
            stands alone, ``softmax`` where one of them holds.

    Returns:
        (n, labels) float32.

    >>> probabilities(np.array([[0.0, 0.0]]), "softmax").tolist()
    [[0.5, 0.5]]
    """
    wide = outputs.astype(np.float64)
    if activation == "sigmoid":
        wide = 0.5 * (1 + np.tanh(wide / 2))  # exp would overflow
    elif activation == "softmax":
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
        wide = powers / powers.sum(axis=1, keepdims=True)
    return wide.astype(np.float32)


@dataclass(frozen=True)
class Toxicity:
    """The probability that a text is toxic, as a signal; what that means says the model's card.

    Attributes:
        model: a network (input_ids[, attention_mask][, token_type_ids]) -> (n, labels).
        tokenizer: how it wants its text.
        label: the column of the outputs that means toxic.
        activation: what makes the outputs probabilities.
        placement: where it runs.
    """

    model: ModelFile
    tokenizer: Tokenizer
    label: int = 0
    activation: Activation = "none"
    placement: Placement = AUTO
    columns: ClassVar = ("toxicity_score",)

    @property
    def version(self) -> str:
        """Rule, label, tokenizer and model."""
        rule = f"toxicity/1:{self.label}:{self.activation}"
        return f"{rule}:{self.model.sha256}:{self.tokenizer.version}"

    def load(self) -> str:
        """Open the network in this process and try it; the provider that runs it.

        Raises:
            ModelMismatch: a file or the output is not what the card describes.
        """
        shape = self._outputs(["a"]).shape
        if len(shape) != 2 or self.label >= shape[1]:
            raise ModelMismatch(
                f"toxicity output of shape {shape}; allowed (n, labels) with label {self.label}; "
                "correct the label in the model's card"
            )
        return str(self.placement.open(self.model).get_providers()[0])

    def finish(self, texts: Sequence[str]) -> dict[str, list[float]]:
        """Score a batch.

        Raises:
            ValueError: a score is no probability.
        """
        scores = probabilities(self._outputs(texts), self.activation)[:, self.label]
        if not np.all((scores >= 0) & (scores <= 1)):
            raise ValueError("toxicity score outside [0, 1]; the row cannot be judged")
        return {"toxicity_score": scores.tolist()}

    def _outputs(self, texts: Sequence[str]) -> np.ndarray:
        return by_length(self.tokenizer.encode(texts), self._run)

    def _run(self, tokens: Tokens) -> np.ndarray:
        network = self.placement.open(self.model)
        names = [item.name for item in network.get_outputs()]
        output = next((name for name in _OUTPUTS if name in names), names[0])
        return infer(network, feeds(network, tokens), output)
