"""What a classifier's outputs say of one class."""

from typing import Literal

import numpy as np
from scipy import special

Activation = Literal["softmax", "sigmoid", "none"]


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
