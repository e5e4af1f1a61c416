"""How much a picture's grey levels say."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from udfs.image_codec import Decoded


def entropy_bits(histogram: np.ndarray) -> float:
    """Shannon entropy of a grey histogram.

    Args:
        histogram: (256,) counts, at least one above 0.

    Returns:
        Bits in [0, 8]; 0 for one level, 8 for 256 levels in equal shares.

    Source: Shannon 1948, "A Mathematical Theory of Communication", §6,
    doi:10.1002/j.1538-7305.1948.tb01338.x.

    >>> entropy_bits(np.repeat([3, 0], [4, 252]))
    2.0
    """
    counts = histogram[histogram > 0]
    shares = counts / counts.sum()
    bits = -float(np.sum(shares * np.log2(shares)))
    return min(8.0, max(0.0, bits))  # rounding leaves the range by an ulp


class Entropy:
    """Entropy of the grey levels as a signal."""

    columns: Final = ("entropy_bits",)
    version: Final = "entropy/1"

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> float:
        """Measure one picture."""
        return entropy_bits(decoded.grey_histogram)

    def finish(self, prepared: Sequence[float]) -> dict[str, list[float]]:
        """Values are final as prepared."""
        return {"entropy_bits": list(prepared)}
