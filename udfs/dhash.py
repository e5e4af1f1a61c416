"""64-bit difference hash, equal to ImageHash's."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

from udfs.image_codec import Decoded

_SIDE: Final = 8  # ImageHash's default: 8 x 8 = 64 bits


def dhash(image: Image.Image) -> int:
    """Difference hash of an image as a signed integer.

    A bit tells whether the picture, at 9 x 8 pixels, gets brighter to the right; row by row,
    the first bit is the highest. ``udfs.phash`` has its hex form and the distance.

    Args:
        image: any mode and size.

    Returns:
        64 bits as a signed integer; 0 for a flat picture.

    Source: ImageHash 4.3, ``dhash``; Krawetz 2013, "Kind of Like That", hackerfactor.com.

    >>> dhash(Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90))
    -1
    """
    grey = image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey)
    bits = np.packbits(pixels[:, 1:] > pixels[:, :-1])
    return int.from_bytes(bits.tobytes(), "big", signed=True)


class DHash:
    """The difference hash as a signal."""

    columns: Final = ("dhash",)
    version: Final = "dhash/1"

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> int:
        """Hash one picture."""
        return dhash(decoded.grey)

    def finish(self, prepared: Sequence[int]) -> dict[str, list[int]]:
        """Hashes are final as prepared."""
        return {"dhash": list(prepared)}
