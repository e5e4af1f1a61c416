"""Bytes to pixels: what is accepted, how it is refused, and the one picture that is scored."""

import io
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from PIL import ExifTags, Image

from udfs.refused import Refused

VERSION: Final = "image_codec/1"  # raised whenever the same bytes would give other pixels
_MIMES: Final = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG that carries further pictures (CIPA DC-007)
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
_EXTENSIONS: Final = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "image/jpeg"),
    **dict.fromkeys((".png", ".apng"), "image/png"),
    ".webp": "image/webp",
    ".gif": "image/gif",
    **dict.fromkeys((".bmp", ".dib"), "image/bmp"),
    **dict.fromkeys((".tif", ".tiff"), "image/tiff"),
}
SUFFIXES: Final = frozenset(_EXTENSIONS)  # of files that it decodes, small letters
_SIGNATURES: Final = (  # magic bytes, then what the last bytes of a whole file hold
    (b"\xff\xd8\xff", b"\xff\xd9"),  # JPEG, EOI marker: ITU-T T.81 annex B
    (b"\x89PNG\r\n\x1a\n", b"IEND"),  # PNG: ISO/IEC 15948 §5
    (b"GIF8", b"\x3b"),  # GIF89a, trailer: §27
    (b"RIFF", None),  # WebP: the header declares the size (RFC 9649 §2.4)
    (b"BM", None),  # BMP: likewise
    (b"II*\x00", None),  # TIFF 6.0 §2: offsets anywhere, no end mark
    (b"MM\x00*", None),
)
_TAIL_BYTES: Final = 64  # chosen: an end mark may be followed by a little padding
_UPRIGHT: Final = {  # EXIF 2.32 §4.6.4 A: orientation -> what shows it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FULL_SCALE: Final = 65535  # white of a 16-bit sample
THUMBNAIL_PX: Final = 256  # chosen: what sharpness is measured at, so that it is shared

# Pillow's own limit warns or raises by a process-wide number; max_pixels below is exact,
# per call, and checked before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# Web images warn by the thousand (odd EXIF, odd palettes); what matters becomes a refusal.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class ImageRefused(Refused):
    """Bytes that give no picture."""


@dataclass(frozen=True)
class Header:
    """What the first bytes say.

    Attributes:
        mime: type by content.
        format: the decoder's name of the format.
        width_px: width as stored, before orientation.
        height_px: height as stored, before orientation.
    """

    mime: str
    format: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Decoded:
    """The one picture that is scored, and what it was made from.

    What several signals need is made by the first that asks, and kept with the picture.

    Attributes:
        image: RGB, upright, first frame, transparency on white.
        format: the decoder's name of the format.
        mode: pixel mode as stored.
        width_px: width as displayed.
        height_px: height as displayed.
        frames: number of frames.
        is_animated: more than one frame.
        has_alpha: had transparency.
        exif_orientation: 1 to 8; 1 = upright, none or unreadable.
    """

    image: Image.Image
    format: str
    mode: str
    width_px: int
    height_px: int
    frames: int
    is_animated: bool
    has_alpha: bool
    exif_orientation: int

    # Until Python 3.12 threads take turns in one cached property; these are short.
    @cached_property
    def grey(self) -> Image.Image:
        """The picture in 8-bit grey: ITU-R BT.601 luma."""
        return self.image.convert("L")

    @cached_property
    def grey_histogram(self) -> np.ndarray:
        """(256,) int64: pixels of each grey level."""
        return np.array(self.grey.histogram(), np.int64)

    @cached_property
    def grey_thumbnail(self) -> Image.Image:
        """The grey picture, its longer side at most ``THUMBNAIL_PX``."""
        return shrunk(self.grey, THUMBNAIL_PX, Image.Resampling.BILINEAR)


def shrunk(image: Image.Image, longer_px: int, resampling: Image.Resampling) -> Image.Image:
    """The picture with its longer side at most so long; as it is, if it is no longer.

    >>> shrunk(Image.new("L", (1000, 3)), 100, Image.Resampling.BILINEAR).size
    (100, 1)
    """
    scale = longer_px / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, resampling)


def extension_matches(mime: str, member_name: str) -> bool:
    """Whether a member's extension names no other type than its content has.

    >>> extension_matches("image/png", "000012.PNG")
    True
    >>> extension_matches("image/png", "000012.jpg")
    False
    >>> extension_matches("image/png", "000012.image")
    True
    """
    extension = PurePosixPath(member_name).suffix.lower()
    return _EXTENSIONS.get(extension, mime) == mime


def header(content: bytes, *, max_pixels: int) -> Header:
    """Type and size of an image, from its header alone.

    Args:
        content: the whole file.
        max_pixels: largest accepted width x height.

    Raises:
        ImageRefused: empty, of no accepted format, or too large.
        MemoryError: the process has too little memory.
    """
    image = _open(content, max_pixels)
    return Header(_MIMES[str(image.format)], str(image.format), image.width, image.height)


def decode(content: bytes, *, max_pixels: int) -> Decoded:
    """The picture that bytes show: first frame, upright, on white, 8-bit RGB.

    Args:
        content: the whole file.
        max_pixels: largest accepted width x height, checked before decoding.

    Raises:
        ImageRefused: what ``header`` refuses, data that ends early or that the decoder refuses.
        MemoryError: the process has too little memory.
    """
    image = _open(content, max_pixels)
    try:
        return _decode(image)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise a dozen types on hostile bytes
        raise _refusal(content, error) from None


def _open(content: bytes, max_pixels: int) -> Image.Image:
    if not content:
        raise ImageRefused("empty_media", "0 bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=[name for name in _MIMES if name != "MPO"])
    except MemoryError:
        raise
    except Exception as error:  # decoders raise a dozen types on hostile bytes
        if content.startswith(tuple(magic for magic, _ in _SIGNATURES)):
            raise _refusal(content, error) from None
        raise ImageRefused("not_an_image", "no accepted decoder recognises the bytes") from None
    if image.width * image.height > max_pixels:
        raise ImageRefused(
            "too_many_pixels",
            f"{image.width} x {image.height} pixels exceed the limit of {max_pixels}",
        )
    return image


def _refusal(content: bytes, error: Exception) -> ImageRefused:
    if _ends_early(content) or "truncated" in str(error).lower():
        return ImageRefused("truncated_image", f"the data ends early: {said(error)}")
    return ImageRefused("corrupt_image", f"the decoder refuses the data: {said(error)}")


def said(error: Exception) -> str:
    """What an error says, in a line; decoders name no content.

    >>> said(OSError("image file is truncated"))
    'OSError: image file is truncated'
    """
    # Addresses of objects would differ between two equal runs.
    words = re.sub(r" at 0x[0-9a-f]+", "", str(error))
    return f"{type(error).__name__}: {words}"[:200]  # chosen: a line


def _ends_early(content: bytes) -> bool:
    if content.startswith(b"RIFF"):
        return len(content) < 8 + int.from_bytes(content[4:8], "little")
    if content.startswith(b"BM"):
        return len(content) < int.from_bytes(content[2:6], "little")
    marks = (end for magic, end in _SIGNATURES if end and content.startswith(magic))
    return any(mark not in content[-_TAIL_BYTES:] for mark in marks)


def _decode(image: Image.Image) -> Decoded:
    mode, frames = image.mode, int(getattr(image, "n_frames", 1))
    image.seek(0)  # counting the frames may have moved on
    if image.format == "TIFF":  # Pillow turns a TIFF upright, and drops the tag, while it loads
        orientation = _orientation(image)
        image.load()
    else:
        image.load()
        orientation = _orientation(image)
    has_alpha = image.has_transparency_data
    picture = _on_white(image) if has_alpha else _rgb(image)
    if orientation in _UPRIGHT and image.format != "TIFF":
        picture = picture.transpose(_UPRIGHT[orientation])
    return Decoded(
        image=picture,
        format=str(image.format),
        mode=mode,
        width_px=picture.width,
        height_px=picture.height,
        frames=frames,
        is_animated=frames > 1,
        has_alpha=has_alpha,
        exif_orientation=orientation,
    )


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        return int(orientation) if orientation in _UPRIGHT else 1
    except Exception:  # broken EXIF says nothing about the pixels
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else _eight_bit(image).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    picture = Image.new("RGB", image.size, "white")
    layer = _eight_bit(image).convert("RGBA")
    picture.paste(layer, mask=layer)
    return picture


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale samples of 16 bits and more to 8; Pillow's own conversion clips them."""
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.float32) * (255 / _FULL_SCALE)
    elif image.mode in ("I", "F"):  # no full scale is declared: stretch what is there
        samples = np.asarray(image).astype(np.float64)
        samples = (samples - samples.min()) * (255 / max(np.ptp(samples), 1e-12))
    else:
        return image
    return Image.fromarray(np.rint(samples).astype(np.uint8))
