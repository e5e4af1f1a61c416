"""64-bit DCT perceptual hash of the mirror image: what a flipped copy has as its own hash."""

from collections.abc import Sequence
from typing import Final

from PIL import Image

from udfs.image_codec import Decoded
from udfs.phash import of_small
from udfs.small_grey import small_grey


def mirrored_phash(image: Image.Image) -> int:
    """Perceptual hash of the picture with left and right exchanged.

    The small grey picture is flipped, not the large one: its weights are mirror images of each
    other but for their last bit.

    Args:
        image: any mode and size.

    Returns:
        64 bits as a signed integer.

    >>> from udfs.phash import phash
    >>> gradient = Image.linear_gradient("L").rotate(90)
    >>> turned = gradient.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    >>> mirrored_phash(gradient) == phash(turned) != phash(gradient)
    True
    """
    return of_small(small_grey(image)[:, ::-1])


class MirroredPHash:
    """The perceptual hash of the mirror image as a signal."""

    columns: Final = ("mirrored_phash",)
    version: Final = "mirrored_phash/1"

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> int:
        """Hash one picture."""
        return mirrored_phash(decoded.grey)

    def finish(self, prepared: Sequence[int]) -> dict[str, list[int]]:
        """Hashes are final as prepared."""
        return {"mirrored_phash": list(prepared)}
