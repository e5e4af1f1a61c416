"""64-bit DCT perceptual hash, equal to ImageHash's."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image
from scipy import fftpack

from udfs.image_codec import Decoded
from udfs.small_grey import small_grey

_KEPT: Final = 8  # lowest frequencies a side; 8 x 8 = 64 bits
_HALF: Final = _KEPT * _KEPT // 2
_MASK: Final = (1 << 64) - 1


def phash(image: Image.Image) -> int:
    """Perceptual hash of an image as a signed integer.

    A bit tells whether a low frequency lies above their median; row by row, the first bit is
    the highest. The transform is the one ImageHash calls: of a flat or symmetric picture many
    frequencies are rounding noise about zero, and only the same arithmetic gives the same bits.

    Args:
        image: any mode and size.

    Returns:
        64 bits as a signed integer.

    Source: ImageHash 4.3, ``phash``; Zauner 2010, "Implementation and Benchmarking of
    Perceptual Image Hash Functions", §3.2.1.

    >>> to_hex(phash(Image.new("RGB", (64, 48), "white")))
    '8000000000000000'
    """
    return of_small(small_grey(image))


def of_small(grey: np.ndarray) -> int:
    """Perceptual hash of a picture that is small and grey already.

    Args:
        grey: (32, 32) uint8.
    """
    # Only what is kept is transformed along the rows: the same numbers, a row by itself.
    frequencies = fftpack.dct(fftpack.dct(grey, axis=0)[:_KEPT], axis=1)[:, :_KEPT]
    # As np.median has it, which takes as long as all else here.
    middle = np.partition(frequencies.ravel(), (_HALF - 1, _HALF))[_HALF - 1 : _HALF + 1]
    bits = np.packbits(frequencies > middle.sum() / 2)
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def to_hex(value: int) -> str:
    """Sixteen hex digits of a hash, as ImageHash writes them.

    >>> to_hex(-1)
    'ffffffffffffffff'
    """
    return f"{value & _MASK:016x}"


def from_hex(digits: str) -> int:
    """The signed integer of sixteen hex digits.

    Raises:
        ValueError: not sixteen hex digits.

    >>> from_hex("ffffffffffffffff")
    -1
    """
    return int.from_bytes(_eight_bytes(digits), "big", signed=True)


def _eight_bytes(digits: str) -> bytes:
    value = bytes.fromhex(digits)
    if len(value) != 8:
        raise ValueError(f"hash of {len(value)} bytes differs from 8; give 16 hex digits")
    return value


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of differing bits.

    Args:
        a: int64 hashes.
        b: int64 hashes, broadcast against ``a``.

    Returns:
        uint8 in [0, 64], in the broadcast shape.

    >>> hamming(np.array([0, -1]), np.array([7, 0])).tolist()
    [3, 64]
    """
    differing: np.ndarray = np.bitwise_count(np.bitwise_xor(a, b).view(np.uint64))
    return differing


class PHash:
    """The perceptual hash as a signal."""

    columns: Final = ("phash",)
    version: Final = "phash/1"

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> int:
        """Hash one picture."""
        return phash(decoded.grey)

    def __reduce__(self) -> tuple[Callable[[], "PHash"], tuple[()]]:
        """Compile where it is unpickled: children that are forked there need not."""
        return _compiled, ()

    def finish(self, prepared: Sequence[int]) -> dict[str, list[int]]:
        """Hashes are final as prepared."""
        return {"phash": list(prepared)}


def _compiled() -> PHash:
    phash(Image.new("L", (1, 1)))
    return PHash()
