"""One picture, decoded once for all signals; this is what runs in a child process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from udfs.image_codec import decode

if TYPE_CHECKING:
    from udfs.image_signals import ImageSignal

FACTS: Final = (  # what decoding itself tells
    "format",
    "mode",
    "width_px",
    "height_px",
    "frames",
    "is_animated",
    "has_alpha",
    "exif_orientation",
)

Image.init()  # formats are imported when first met: here, once for all children


@dataclass(frozen=True)
class Examine:
    """Bytes to what decoding tells and what each signal takes; needs neither Spark nor networks.

    Attributes:
        signals: what to measure.
        max_pixels: largest accepted width x height.
    """

    signals: Sequence["ImageSignal"]
    max_pixels: int

    def __call__(self, content: bytes) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """Facts by column, and one prepared item a signal.

        Raises:
            ImageRefused: the bytes give no picture.
            Exception: whatever a signal raises.
        """
        decoded = decode(content, max_pixels=self.max_pixels)
        facts = {name: getattr(decoded, name) for name in FACTS}
        return facts, tuple(signal.prepare(decoded) for signal in self.signals)
