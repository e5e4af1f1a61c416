import io
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from schemas.error_classes import ERROR_CLASSES
from udfs.image_codec import ImageRefused, decode, extension_matches, header, shrunk

# As the codec has it; the test runner's own filters replace those of the modules.
pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")
LIMIT = 89_478_485
ROOT = Path(__file__).parents[2]

MIMES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
UNDO = {  # orientation -> how a picture that is to be shown upright must be stored
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def saved(image, format, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def quarters(side: int = 32) -> Image.Image:
    """Four colours, wider than high, so that every turn and mirror shows."""
    pixels = np.zeros((side, 2 * side, 3), np.uint8)
    pixels[: side // 2, :side] = [200, 30, 30]
    pixels[: side // 2, side:] = [30, 200, 30]
    pixels[side // 2 :, :side] = [30, 30, 200]
    pixels[side // 2 :, side:] = [200, 200, 30]
    return Image.fromarray(pixels)


def largest_difference(a, b) -> int:
    return max(high for _, high in ImageChops.difference(a, b).getextrema())


def refusal(content: bytes, read=decode, limit: int = LIMIT) -> ImageRefused:
    with pytest.raises(ImageRefused) as caught:
        read(content, max_pixels=limit)
    assert caught.value.error_class in ERROR_CLASSES
    return caught.value


def png_declaring(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("format", MIMES)
def test_every_accepted_format_is_known_by_its_bytes_and_decoded(format) -> None:
    content = saved(quarters(), format)
    found = header(content, max_pixels=LIMIT)
    assert (found.mime, found.format) == (MIMES[format], format)
    assert (found.width_px, found.height_px) == (64, 32)
    decoded = decode(content, max_pixels=LIMIT)
    assert (decoded.image.mode, decoded.image.size) == ("RGB", (64, 32))
    assert (decoded.format, decoded.frames, decoded.is_animated) == (format, 1, False)
    assert (decoded.has_alpha, decoded.exif_orientation) == (False, 1)


def test_nothing_is_empty_media() -> None:
    assert refusal(b"").error_class == refusal(b"", header).error_class == "empty_media"


@pytest.mark.parametrize(
    "content",
    [b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", saved(quarters(), "PPM")],
)
def test_other_bytes_are_not_an_image(content) -> None:
    assert refusal(content).error_class == refusal(content, header).error_class == "not_an_image"


@pytest.mark.parametrize("read", [header, decode])
def test_too_many_pixels_are_refused_from_the_header_alone(read) -> None:
    content = png_declaring(30_000, 30_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = refusal(content, read)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    assert refused.error_class == "too_many_pixels"
    assert refused.detail == "30000 x 30000 pixels exceed the limit of 89478485"


def test_the_limit_itself_is_accepted() -> None:
    content = saved(quarters(), "PNG")
    assert decode(content, max_pixels=64 * 32).image.size == (64, 32)
    assert refusal(content, limit=64 * 32 - 1).error_class == "too_many_pixels"


def test_large_pictures_within_the_limit_raise_no_warning() -> None:
    content = png_declaring(10_000, 9_500)  # beyond Pillow's own limit, where it warns
    assert header(content, max_pixels=10**9).width_px == 10_000


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_data_that_ends_early_is_refused(photographs, format, share) -> None:
    content = saved(photographs[0].resize((160, 120)), format)
    refused = refusal(content[: max(8, int(len(content) * share))])
    if format != "TIFF":  # its pieces may lie in any order: an early end looks like any damage
        assert refused.error_class == "truncated_image"
    assert "ends early" in refused.detail or format == "TIFF"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("read", [header, decode])
def test_a_header_that_ends_early_is_truncated_not_unknown(read, format) -> None:
    assert refusal(saved(quarters(), format)[:20], read).error_class == "truncated_image"


def test_damage_in_the_middle_is_corrupt() -> None:
    content = bytearray(saved(quarters(200), "PNG"))
    middle = content.index(b"IDAT") + 10
    content[middle : middle + 20] = bytes(20)
    refused = refusal(bytes(content))
    assert refused.error_class == "corrupt_image"
    assert refused.detail.startswith("the decoder refuses the data: ")


def test_a_known_signature_before_rubbish_is_corrupt_not_unknown() -> None:
    assert refusal(b"GIF89a" + b"\xff" * 40 + b"\x3b").error_class == "corrupt_image"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_turned_upright(format, orientation) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    method = UNDO[orientation]
    stored = quarters() if method is None else quarters().transpose(method)
    decoded = decode(saved(stored, format, exif=exif), max_pixels=LIMIT)
    assert decoded.exif_orientation == orientation
    assert (decoded.width_px, decoded.height_px) == decoded.image.size == (64, 32)
    mean = [ImageChops.difference(decoded.image, quarters()).resize((1, 1)).getpixel((0, 0))]
    assert max(mean[0]) < 12  # lossy formats blur the borders


@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_says_nothing(format, exif) -> None:
    decoded = decode(saved(quarters(), format, exif=exif), max_pixels=LIMIT)
    assert decoded.exif_orientation == 1
    assert decoded.image.size == (64, 32)


def test_what_pillow_thinks_of_a_file_is_not_printed(tmp_path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    read = (
        "import sys; from pathlib import Path; from udfs.image_codec import decode;"
        "print(decode(Path(sys.argv[1]).read_bytes(), max_pixels=10**6).width_px)"
    )
    command = [sys.executable, "-W", "default", "-c", read, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert (ran.stdout, ran.stderr) == ("64\n", "")


def test_an_orientation_outside_1_to_8_is_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    assert decode(saved(quarters(), "JPEG", exif=exif), max_pixels=LIMIT).exif_orientation == 1


def test_cmyk_becomes_rgb() -> None:
    image = quarters().convert("CMYK")
    decoded = decode(saved(image, "JPEG", quality=100, subsampling=0), max_pixels=LIMIT)
    assert decoded.mode == "CMYK"
    assert largest_difference(decoded.image, image.convert("RGB")) < 30
    assert decoded.image.getpixel((5, 5))[0] > 180


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    decoded = decode(saved(Image.fromarray(ramp), format), max_pixels=LIMIT)
    assert decoded.mode == "I;16"
    grey = np.asarray(decoded.image)[..., 0]
    assert np.array_equal(grey, np.rint(ramp / 257))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_samples_without_a_full_scale_are_stretched(dtype) -> None:
    ramp = (np.linspace(-1, 1, 256) * 90_000).astype(dtype).reshape(16, 16)
    grey = np.asarray(decode(saved(Image.fromarray(ramp), "TIFF"), max_pixels=LIMIT).image)[..., 0]
    assert np.abs(grey.ravel().astype(int) - np.arange(256)).max() <= 1


def test_a_flat_float_picture_is_flat() -> None:
    flat = Image.fromarray(np.full((4, 4), 3.5, np.float32))
    assert decode(saved(flat, "TIFF"), max_pixels=LIMIT).image.getextrema() == ((0, 0),) * 3


def test_a_float_picture_with_nan_is_corrupt() -> None:
    content = saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF")
    assert refusal(content).error_class == "corrupt_image"


def half_clear(mode: str) -> Image.Image:
    alpha = Image.new("L", (64, 32), 255)
    alpha.paste(0, (0, 0, 32, 32))
    image = quarters().convert("L" if mode == "LA" else "RGB")
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (saved(half_clear("RGBA"), "PNG"), "RGBA"),
        (saved(half_clear("LA"), "PNG"), "LA"),
        (saved(half_clear("RGBA"), "WEBP", lossless=True), "RGBA"),
        (saved(half_clear("RGBA").quantize(16, Image.Quantize.FASTOCTREE), "PNG"), "P"),
        (saved(half_clear("RGBA"), "GIF"), "P"),
    ],
)
def test_transparency_shows_white(content, mode) -> None:
    decoded = decode(content, max_pixels=LIMIT)
    assert (decoded.has_alpha, decoded.mode) == (True, mode)
    assert decoded.image.crop((0, 0, 32, 32)).getextrema() == ((255, 255),) * 3
    assert min(decoded.image.getpixel((60, 5))) < 150


def test_a_transparent_colour_shows_white() -> None:
    content = saved(Image.new("RGB", (4, 4), (9, 8, 7)), "PNG", transparency=(9, 8, 7))
    assert decode(content, max_pixels=LIMIT).image.getpixel((0, 0)) == (255, 255, 255)


def test_half_transparency_is_mixed_with_white() -> None:
    content = saved(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG")
    assert decode(content, max_pixels=LIMIT).image.getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several_is_shown(format) -> None:
    later = [Image.new("RGB", (64, 32), colour) for colour in ("black", "white")]
    options = {"lossless": True} if format == "WEBP" else {}
    content = saved(quarters(), format, save_all=True, append_images=later, **options)
    decoded = decode(content, max_pixels=LIMIT)
    assert (decoded.frames, decoded.is_animated) == (3, True)
    assert largest_difference(decoded.image, quarters()) < 8


def test_a_jpeg_that_carries_further_pictures_is_a_jpeg() -> None:
    content = saved(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 32))])
    assert header(content, max_pixels=LIMIT).mime == "image/jpeg"
    assert decode(content, max_pixels=LIMIT).frames == 2


@pytest.mark.parametrize(
    ("mime", "name", "matches"),
    [
        ("image/jpeg", "a/b.c/0001.JPG", True),
        ("image/jpeg", "0001.jpeg", True),
        ("image/jpeg", "0001.png", False),
        ("image/webp", "0001.jpg", False),
        ("image/tiff", "0001.tif", True),
        ("image/png", "0001", True),
        ("image/png", "0001.bin", True),
    ],
)
def test_an_extension_mismatch_is_another_types_extension(mime, name, matches) -> None:
    assert extension_matches(mime, name) is matches


def outcome(read, content: bytes, limit: int):
    """What was read, or the class it was refused under."""
    try:
        return read(content, max_pixels=limit)
    except ImageRefused as refused:
        return refused.error_class


@given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"]))
def test_arbitrary_bytes_are_refused_with_a_class(content, magic) -> None:
    for read in (header, decode):
        found = outcome(read, magic + content, 10_000)
        assert not isinstance(found, str) or found in ERROR_CLASSES


SAMPLES = [saved(quarters(), format) for format in MIMES]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4))),
    st.floats(0, 1),
)
def test_mutated_images_are_decoded_or_refused(content, edits, cut) -> None:
    mutated = bytearray(content)
    for position, replacement in edits:
        start = int(position * len(mutated))
        mutated[start : start + len(replacement)] = replacement
    del mutated[int(len(mutated) * (0.5 + cut / 2)) :]
    found = outcome(decode, bytes(mutated), 1_000_000)
    if isinstance(found, str):
        assert found in ERROR_CLASSES
    else:
        assert found.image.mode == "RGB"
        assert found.image.size == (found.width_px, found.height_px)


def test_what_signals_share_is_made_once(photographs) -> None:
    decoded = decode(saved(photographs[0], "PNG"), max_pixels=LIMIT)
    assert decoded.grey == photographs[0].convert("L")
    assert decoded.grey is decoded.grey
    assert decoded.grey_histogram.tolist() == decoded.grey.histogram()
    assert decoded.grey_histogram is decoded.grey_histogram
    assert decoded.grey_thumbnail.size == (256, 256)
    assert decoded.grey_thumbnail is decoded.grey_thumbnail


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), longer_px=st.integers(1, 600))
def test_a_shrunk_picture_keeps_its_shape(width, height, longer_px) -> None:
    image = Image.new("L", (width, height))
    small = shrunk(image, longer_px, Image.Resampling.NEAREST)
    if max(image.size) <= longer_px:
        assert small is image
    else:
        assert max(small.size) == longer_px
        expected = min(image.size) * longer_px / max(image.size)
        assert min(small.size) == pytest.approx(max(1, expected), abs=0.5)
