"""The demo dump's ground truth: what independent judges say of it, and how to read it.

The judges are ImageHash for near copies, Pillow for what a picture is and Python's tarfile for
what lies in the shards. None of them is the pipeline's own code.
"""

import contextlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import imagehash
import numpy as np
from PIL import Image, ImageOps

FILE_NAME: Final = "truth.jsonl"
NEAR_BITS: Final = 3  # the default recipe's Hamming radius for a near copy

_FORMATS: Final = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}
_ORIENTATION_TAG: Final = 0x0112  # EXIF 2.32 §4.6.4, tag Orientation


class Listed(NamedTuple):
    """Consecutive members of one key in one shard."""

    shard: str
    sample_key: str | None  # None: the shard is no tar
    occurrence: int  # 0 for the first entry of this key in the shard
    members: tuple[str, ...]


def as_seen(content: bytes) -> Image.Image:
    """The RGB picture a viewer sees: first frame, upright, transparency on white.

    Raises:
        OSError: the bytes are no image or a damaged one.
    """
    with Image.open(io.BytesIO(content)) as stored:
        upright = ImageOps.exif_transpose(stored)
    if upright.mode == "I;16":  # Pillow would clip at 255 instead of dropping the low byte
        return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8)).convert("RGB")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def phash(content: bytes) -> int:
    """ImageHash's 64-bit perceptual hash of the picture as seen, first bit highest.

    Raises:
        OSError: the bytes are no image or a damaged one.
    """
    return int(str(imagehash.phash(as_seen(content))), 16)


def facts(extension: str, content: bytes) -> dict[str, object]:
    """What the image is beside its pixels; see `schemas.image_signals` for the names.

    Raises:
        OSError: the bytes are no image.
    """
    with Image.open(io.BytesIO(content)) as image:
        return {
            "mode": image.mode,
            "exif_orientation": image.getexif().get(_ORIENTATION_TAG, 1),
            "frames": getattr(image, "n_frames", 1),
            "has_alpha": image.has_transparency_data,
            "is_extension_mismatch": image.format != _FORMATS[extension],
        }


def expected(folder: Path) -> list[dict[str, Any]]:
    """Every planted entry, one dict a line of the manifest, in the dump's order.

    Raises:
        FileNotFoundError: the folder holds no complete demo dump.
    """
    with (folder / FILE_NAME).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def listing(folder: Path) -> list[Listed]:
    """Every entry that Python's tarfile finds, grouped as WebDataset does.

    A key is the member's path up to the first dot of its last part. The member that a cut shard
    ends in counts; a file that is no tar is one entry without a key.
    """
    return [entry for path in sorted(folder.glob("*.tar")) for entry in _entries(path)]


def _entries(path: Path) -> list[Listed]:
    groups: list[tuple[str, list[str]]] = []
    for name in _member_names(path):
        key = _key(name)
        if not groups or groups[-1][0] != key:
            groups.append((key, []))
        groups[-1][1].append(name)
    if not groups:
        return [Listed(path.name, None, 0, ())]
    seen: dict[str, int] = {}
    entries = []
    for key, names in groups:
        seen[key] = seen.get(key, -1) + 1
        entries.append(Listed(path.name, key, seen[key], tuple(names)))
    return entries


def _member_names(path: Path) -> list[str]:
    names: list[str] = []
    # ReadError: no tar at all, or one that ends inside the member named last
    with contextlib.suppress(tarfile.ReadError), tarfile.open(path, "r:") as shard:
        for member in shard:
            names.append(member.name)  # noqa: PERF401 - what came before the error must stay
    return names


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.split(".")[0]
