"""A 64-bit mixer: numbers that are near, or multiples, become numbers that look random.

Source: splitmix64 (Steele, Lea and Flood 2014, figure 16).
"""

from typing import Final

import numpy as np

STEP: Final = 0x9E3779B97F4A7C15  # by which its state grows from one number to the next


def mixed(states: np.ndarray) -> np.ndarray:
    """What the generator makes of its states, which grow by `STEP` before.

    Args:
        states: (n,) uint64.

    Returns:
        (n,) uint64, another for every other.

    >>> mixed(np.array([STEP], np.uint64)).tolist() == [0xE220A8397B1DCDAF]
    True
    """
    bits = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = bits ^ (bits >> np.uint64(31))
    return found
