"""Two hundred images as files: photographs, scenes, and all that files can do to a picture."""

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from jobs.demo import scenes
from jobs.demo.photographs import PHOTOGRAPHS

MAX_PIXELS = 100_000_000


class Picture(NamedTuple):
    """A file, and whether the reference's own decoding shows the same picture.

    It does not where transparency is put on white, a picture is turned upright, 16 bits are
    scaled, or CMYK is made RGB before it is resized: there, the reference gets our pixels.
    """

    name: str
    content: bytes
    is_plain: bool


def saved(image: Image.Image, format_: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def two_hundred() -> list[Picture]:
    """The same at every call."""
    rng = np.random.default_rng(5)
    photographs = [Image.open(io.BytesIO(p.content())).convert("RGB") for p in PHOTOGRAPHS]
    made = [Picture(p.path, p.content(), False) for p in PHOTOGRAPHS]
    made += [Picture(f"odd {n}", content, False) for n, content in enumerate(_odd(photographs))]
    for number in range(40):
        scene = scenes.draw(rng, split="held_out")
        width, height = (int(rng.integers(64, 500)) for _ in range(2))
        image = scenes.render(scene, rng, width_px=width, height_px=height)
        made.append(Picture(f"scene {number}", saved(image, "PNG"), True))
    for number in range(200 - len(made)):
        image = _crop(photographs[number % len(photographs)], rng)
        format_, options = [("JPEG", {"quality": 90}), ("PNG", {}), ("WEBP", {})][number % 3]
        made.append(Picture(f"crop {number}", saved(image, format_, **options), True))
    return made


def _odd(photographs: list[Image.Image]) -> list[bytes]:
    first, second, third = photographs[:3]
    alpha = Image.linear_gradient("L").resize(first.size)
    exif = Image.Exif()
    files = [saved(photo.convert("CMYK"), "JPEG") for photo in photographs[:6]]
    transparent = first.copy()
    transparent.putalpha(alpha)
    files += [saved(transparent, "PNG"), saved(transparent.convert("LA"), "PNG")]
    files += [saved(transparent, "WEBP"), saved(first.convert("P"), "PNG", transparency=3)]
    files += [saved(second.convert("P"), "GIF"), saved(second.convert("L"), "JPEG")]
    for orientation in range(1, 9):
        exif[ExifTags.Base.Orientation] = orientation
        files.append(saved(second.resize((400, 260)), "JPEG", exif=exif, quality=95))
    grey = np.asarray(third.convert("L"), np.uint16) * 257
    files += [saved(Image.fromarray(grey), "PNG"), saved(Image.fromarray(grey), "TIFF")]
    files.append(_png16(np.asarray(third, np.uint16) * 257))
    for width, height in [(2000, 100), (100, 2000), (1200, 60), (45, 900)]:  # 1:20
        files.append(saved(first.resize((width, height)), "JPEG", quality=95))
    for width, height in [(4000, 31), (31, 4000), (900, 100), (100, 900), (700, 3), (64, 1)]:
        files.append(saved(second.resize((width, height)), "PNG"))
    return files


def _png16(samples: np.ndarray) -> bytes:
    """A PNG of three 16-bit samples a pixel, which Pillow cannot write."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = (int(rng.integers(min(48, side), side + 1)) for side in image.size)
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))
