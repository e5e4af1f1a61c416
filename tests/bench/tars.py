"""Tars of JPEGs with captions and facts, no two images of the same bytes, made quickly."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import jpegs

SIZE_PX: Final = (672, 504)  # chosen: weighs 100 kB, as the larger half of web crawls does
# What an item takes in its tar: 105.3 kB of JPEG, two texts, three headers, padding; measured.
ITEM_BYTES: Final = 108_000
_DRAWN: Final = 2_000  # chosen: 210 MB; drawing every one would take longer than what is measured
_SOI: Final = b"\xff\xd8"  # ITU-T T.81 table B.1: start of image
_COM: Final = b"\xff\xfe"  # likewise: comment


@dataclass(frozen=True)
class Tar:
    """A shard that lies on the disk.

    Attributes:
        path: of the file.
        items: how many it holds, each with one image.
    """

    path: Path
    items: int

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self.path.stat().st_size


def items_in(size_bytes: float) -> int:
    """How many items make about so many bytes of a tar; one at least."""
    return max(1, round(size_bytes / ITEM_BYTES))


def write(folder: Path, drawn: Path, counts: Sequence[int]) -> list[Tar]:
    """Tars `00000.tar` and on under a folder; those that are there stay.

    Args:
        folder: one for each sequence of counts.
        drawn: what was drawn before, and will be kept.
        counts: items of each tar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    width_px, height_px = SIZE_PX
    tars = [Tar(folder / f"{n:05d}.tar", count) for n, count in enumerate(counts)]
    if all(tar.path.is_file() for tar in tars):
        return tars
    pictures = jpegs.draw(drawn, min(_DRAWN, sum(counts)), width_px=width_px, height_px=height_px)
    first = 0
    for tar in tars:
        if not tar.path.is_file():
            part = tar.path.with_suffix(".part")
            with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as archive:
                for number in range(first, first + tar.items):
                    picture = pictures[number % len(pictures)].read_bytes()
                    for kind, content in _members(number, picture):
                        member = tarfile.TarInfo(f"{number:08d}.{kind}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
            part.rename(tar.path)
        first += tar.items
    return tars


def distinct(jpeg: bytes, number: int) -> bytes:
    r"""The same picture in other bytes: a comment says the number.

    >>> distinct(b"\xff\xd8\xff\xd9", 7)
    b'\xff\xd8\xff\xfe\x00\n00000007\xff\xd9'
    """
    said = f"{number:08d}".encode()
    length = (2 + len(said)).to_bytes(2, "big")  # T.81 §B.2.4.5: counts itself
    return _SOI + _COM + length + said + jpeg.removeprefix(_SOI)


def _members(number: int, picture: bytes) -> Iterator[tuple[str, bytes]]:
    """An item as img2dataset writes it."""
    facts = {
        "key": f"{number:08d}",
        "url": f"https://images.example.org/{number:08d}.jpg",
        "original_width": SIZE_PX[0],
        "original_height": SIZE_PX[1],
    }
    yield "jpg", distinct(picture, number)
    yield "txt", f"shapes on a plain ground, number {number}".encode()
    yield "json", json.dumps(facts).encode()
