"""Debian's openclipart as a dump: PNG images with the titles and keywords of their SVG drawings.

Thousands of real pairs with real noise: captions in several languages, images of all sizes, the
same picture in many folders. Nearly all state the public domain.
"""

import io
import itertools
import json
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.parsers import expat

_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_ENTITY_CHARS: Final = 100  # chosen: Adobe's namespaces, the only entities met, need half of it


@dataclass(frozen=True, kw_only=True)
class Clipart:
    """One image with its author's words."""

    path: Path
    title: str
    keywords: tuple[str, ...]

    def caption(self) -> str:
        """Title and keywords as one text, in the drawing's order."""
        return ", ".join([self.title, *self.keywords])


def pairs(root: Path) -> Iterator[Clipart]:
    """Every image whose drawing carries a title, in path order.

    Drawings without a title or an image, and those that no careful parser reads, are left out.

    Args:
        root: holds ``svg/`` (words) and ``png/`` (pixels), as Debian's packages lay them out.

    Raises:
        FileNotFoundError: the folder holds no such pair of trees.
    """
    drawings = sorted((root / "svg").rglob("*.svg"))
    if not drawings:
        raise FileNotFoundError(f"{root} has no svg/**/*.svg; install openclipart-svg and -png")
    for drawing in drawings:
        image = root / "png" / drawing.relative_to(root / "svg").with_suffix(".png")
        title, keywords = _words(drawing.read_bytes())
        if title and image.is_file():
            yield Clipart(path=image, title=title, keywords=keywords)


def write(folder: Path, source: Path, *, shards: int, progress: Callable[[str], None]) -> None:
    """Write the pairs as WebDataset tars; the same source gives the same bytes.

    Args:
        folder: made if absent; files of the same names are replaced.
        source: what ``pairs`` reads.
        shards: tars, at least 1 and at most as many as there are pairs.
        progress: called with a line of text for each tar.

    Raises:
        FileNotFoundError: the source is no openclipart.
        ValueError: more shards than pairs, or none.
    """
    found = list(pairs(source))
    if not 1 <= shards <= len(found):
        raise ValueError(f"{shards} shards for {len(found)} pairs; ask for 1 to {len(found)}")
    folder.mkdir(parents=True, exist_ok=True)
    bounds = [number * len(found) // shards for number in range(shards + 1)]
    for number, (first, end) in enumerate(itertools.pairwise(bounds)):
        path = folder / f"openclipart-{number:05d}.tar"
        _write_shard(path, first, found[first:end], source)
        progress(f"{path.name}: {end - first:,} pairs, {path.stat().st_size / 1e6:.1f} MB")


def _write_shard(path: Path, first: int, found: Sequence[Clipart], source: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, clipart in enumerate(found, start=first):
            facts = {
                "title": clipart.title,
                "keywords": list(clipart.keywords),
                "file": clipart.path.relative_to(source).as_posix(),
            }
            members = {
                "png": clipart.path.read_bytes(),
                "txt": clipart.caption().encode(),
                "json": json.dumps(facts).encode(),
            }
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{number:06d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _words(drawing: bytes) -> tuple[str, tuple[str, ...]]:
    """Title and keywords; an empty title where there is none or the drawing cannot be read."""
    try:
        root = _parsed(drawing)
    except (expat.ExpatError, _HostileEntity):
        return "", ()
    title = root.findtext(f".//{_DC}title") or ""
    words = (item.text or "" for item in root.iterfind(f".//{_DC}subject//{_RDF}li"))
    return title.strip(), tuple(w.strip().replace("_", " ") for w in words if w.strip())


class _HostileEntity(Exception):
    """An entity that could blow a small file up, or reach for another one."""


def _parsed(drawing: bytes) -> ET.Element:
    """The document as ElementTree would give it, without attributes, hostile entities refused."""
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")

    def tag(name: str) -> str:
        return "{" + name if "}" in name else name

    def declared(_name: str, _is_parameter: bool, value: str | None, *_origin: object) -> None:
        if value is None or "&" in value or len(value) > _ENTITY_CHARS:
            raise _HostileEntity

    parser.StartElementHandler = lambda name, _attributes: builder.start(tag(name), {})
    parser.EndElementHandler = lambda name: builder.end(tag(name))
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = declared
    parser.Parse(drawing, True)
    return builder.close()
