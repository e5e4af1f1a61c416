"""What real dumps are full of: near copies, odd formats, damaged images, hostile names, bad texts.

Every maker takes one healthy RGB picture and gives a member's extension and bytes, so that a
picture is planted the same way whether it is sound or not.
"""

import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

KEPT_SHARE: Final = 0.6  # chosen: a cut image keeps its header and most of its rows
DECLARED_SIDE_PX: Final = 30_000  # chosen: 900 megapixels, 2.7 GB once decoded
ORIENTATION_TAG: Final = 0x0112  # EXIF 2.32 §4.6.4, tag Orientation
ROTATE_TO_VIEW: Final = 6  # EXIF 2.32 §4.6.4: stored so that a viewer turns it 90 degrees clockwise

_TRANSPARENT_EDGE: Final = 0.06  # chosen: share of each side, where no scene draws a shape's core
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"  # PNG specification, 3rd edition, §5.2


class File(NamedTuple):
    """One member of a tar: the name's part after the first dot, and the bytes."""

    extension: str
    content: bytes


Maker = Callable[[Image.Image], File]


def encode(picture: Image.Image, extension: str, **options: object) -> File:
    """The picture in the format that the extension names."""
    format_name = "JPEG" if extension == "jpg" else extension.upper()
    return File(extension, _bytes(picture, format_name, **options))


def resized(picture: Image.Image) -> File:
    """Half as wide and half as high."""
    width, height = picture.size
    return encode(picture.resize((width // 2, height // 2)), "jpg", quality=92)


def reencoded(picture: Image.Image) -> File:
    """JPEG at quality 60."""
    return encode(picture, "jpg", quality=60)


def brightened(picture: Image.Image) -> File:
    """Every value 5 % higher."""
    return encode(ImageEnhance.Brightness(picture).enhance(1.05), "jpg", quality=92)


def cmyk_jpeg(picture: Image.Image) -> File:
    """Four inks instead of three lights."""
    return encode(picture.convert("CMYK"), "jpg", quality=92)


def grey_16_bit_png(picture: Image.Image) -> File:
    """65,536 levels of grey: a decoder that clips at 255 sees a white picture."""
    levels = np.asarray(picture.convert("L"), dtype=np.uint16) * 257  # 255 -> 65,535
    return encode(Image.fromarray(levels), "png")


def colour_16_bit_png(picture: Image.Image) -> File:
    """16 bits for each of red, green and blue, which Pillow reads but cannot write."""
    rows = np.asarray(picture, dtype=">u2") * 257  # 255 -> 65,535
    scanlines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    width, height = picture.size
    return File("png", _png(width, height, zlib.compress(scanlines), bit_depth=16))


def palette_alpha_png(picture: Image.Image) -> File:
    """A palette whose last entry is transparent: a frame of nothing around the picture."""
    alpha = Image.new("L", picture.size)
    width, height = picture.size
    x, y = int(width * _TRANSPARENT_EDGE), int(height * _TRANSPARENT_EDGE)
    alpha.paste(255, (x, y, width - x, height - y))
    framed = picture.copy()
    framed.putalpha(alpha)
    return encode(framed.quantize(128, method=Image.Quantize.FASTOCTREE), "png")


def rotated_jpeg(picture: Image.Image) -> File:
    """Stored on its side, with the EXIF tag that sets it upright."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = ROTATE_TO_VIEW
    lying = picture.transpose(Image.Transpose.ROTATE_90)
    return encode(lying, "jpg", quality=92, exif=exif)


def gif(picture: Image.Image) -> File:
    """256 colours."""
    return encode(picture, "gif")


def animated_webp(picture: Image.Image) -> File:
    """Three frames that fade to black; the first is the picture."""
    darker = [Image.blend(picture, Image.new("RGB", picture.size), share) for share in (0.3, 0.6)]
    return encode(picture, "webp", save_all=True, append_images=darker, duration=200)


def png_named_jpg(picture: Image.Image) -> File:
    """A PNG under a JPEG's name."""
    return File("jpg", _bytes(picture, "PNG"))


def truncated_jpeg(picture: Image.Image) -> File:
    """A download that broke off."""
    return _cut(encode(picture, "jpg", quality=90))


def truncated_png(picture: Image.Image) -> File:
    """A download that broke off."""
    return _cut(encode(picture, "png"))


def empty(picture: Image.Image) -> File:  # noqa: ARG001 - a maker takes the picture it destroys
    """Zero bytes."""
    return File("jpg", b"")


def html_named_jpg(picture: Image.Image) -> File:  # noqa: ARG001 - as above
    """What a server sends instead of the picture it no longer has."""
    return File("jpg", b"<!doctype html><title>404 Not Found</title><p>The picture has moved.</p>")


def svg_named_jpg(picture: Image.Image) -> File:
    """A drawing, but no raster image."""
    width, height = picture.size
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    return File("jpg", f'{head}<circle cx="50" cy="50" r="40" fill="red"/></svg>'.encode())


def giant_png(picture: Image.Image) -> File:  # noqa: ARG001 - as above
    """About a hundred bytes whose header declares 900 megapixels."""
    return File("png", _png(DECLARED_SIDE_PX, DECLARED_SIDE_PX, zlib.compress(bytes(1_000))))


def corrupt_png(picture: Image.Image) -> File:
    """A sound header before pixel data that no inflater accepts."""
    return _overwrite(encode(picture, "png"), b"IDAT", skip=0, count=2)  # the zlib header


def corrupt_jpeg(picture: Image.Image) -> File:
    """A sound header before Huffman tables that cannot be."""
    return _overwrite(encode(picture, "jpg", quality=90), b"\xff\xc4", skip=3, count=16)


NEAR_COPIES: Final[dict[str, Maker]] = {
    "resized": resized,
    "reencoded": reencoded,
    "brightened": brightened,
}
ODD: Final[dict[str, tuple[Maker, ...]]] = {
    "cmyk": (cmyk_jpeg,),
    "16_bit": (grey_16_bit_png, colour_16_bit_png),
    "palette_alpha": (palette_alpha_png,),
    "exif_rotated": (rotated_jpeg,),
    "gif": (gif,),
    "animated_webp": (animated_webp,),
    "wrong_extension": (png_named_jpg,),
}
DAMAGED: Final[dict[str, tuple[Maker, ...]]] = {  # by the error class that each must get
    "truncated_image": (truncated_jpeg, truncated_png),
    "empty_media": (empty,),
    "not_an_image": (html_named_jpg, svg_named_jpg),
    "too_many_pixels": (giant_png,),
    "corrupt_image": (corrupt_png, corrupt_jpeg),
}
UNSAFE_STEMS: Final = ("../../x", "/x")  # the parent of the parent, and the root
LINK_TYPES: Final = (tarfile.SYMTYPE, tarfile.LNKTYPE)
LINK_TARGET: Final = "../../../etc/passwd"  # chosen: what an attacker would link to
NOT_UTF8: Final = (
    "a drawing of a café in the centre".encode("latin-1"),
    "a heart".encode("utf-16"),
)
ONE_WORDS: Final = ("picture", "untitled", "IMG_0042", "circle", "download")
LONG_CHARS: Final = 5_000  # chosen: five times the longest caption that the default recipe keeps
SENTENCES: Final = {  # each at least 0.9 sure by lid.176; a test asks it
    "de": (
        "Zwei rote Kreise liegen links auf einem hellen Hintergrund.",
        "Auf dem Bild sind drei blaue Sterne und ein grünes Quadrat zu sehen.",
        "Ein gestreiftes gelbes Dreieck steht oben in der Mitte des Bildes.",
        "Die Zeichnung zeigt vier schwarze Herzen am unteren Rand.",
        "Fünf gepunktete violette Ringe schweben vor einem wolkigen Himmel.",
    ),
    "zh": (
        "这幅画的左边有两个红色的圆形。",
        "这张图片的中间有三颗蓝色的星星。",
        "画面上方有一个带条纹的黄色三角形。",
        "这幅画的下面画着四颗黑色的爱心。",
        "图片的右边有五个紫色的圆环。",
    ),
    "ar": (
        "توجد دائرتان حمراوان على يسار الصورة فوق خلفية فاتحة.",
        "في وسط هذه الصورة ثلاث نجوم زرقاء كبيرة.",
        "يظهر مثلث أصفر مخطط في أعلى الصورة.",
        "تظهر أربعة قلوب سوداء في أسفل هذا الرسم.",
        "على يمين الصورة خمس حلقات بنفسجية منقطة.",
    ),
}


def _bytes(picture: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_name, **options)
    return buffer.getvalue()


def _cut(file: File) -> File:
    return file._replace(content=file.content[: int(len(file.content) * KEPT_SHARE)])


def _overwrite(file: File, mark: bytes, *, skip: int, count: int) -> File:
    """`count` bytes of 0xFF, `skip` bytes after the first occurrence of the mark."""
    start = file.content.index(mark) + len(mark) + skip
    broken = file.content[:start] + b"\xff" * count + file.content[start + count :]
    return file._replace(content=broken)


def _png(width: int, height: int, pixels: bytes, *, bit_depth: int = 8) -> bytes:
    """A truecolour PNG around zlib-compressed scanlines (PNG specification, §5.3 and §11.2)."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, 2, 0, 0, 0)  # 2: truecolour
    return _PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
