"""Clusters of duplicates for people: pictures beside each other, texts with what differs marked.

One HTML file that asks for nothing, whatever its captions ask for.
"""

import base64
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple

from jinja2 import Environment, StrictUndefined
from pyspark.sql import functions as F

from jobs.duplicate_clusters import Cluster, Member
from jobs.report.contact_sheet import excerpt, thumbnail
from jobs.report.measure import media
from jobs.report.page import BLUR_FROM
from jobs.runtime.tables import Warehouse
from schemas import image_signals, samples
from schemas.duplicate_kinds import EXACT_TEXT, EXACT_URL, MINHASH

URL_CHARS: Final = 300  # chosen: ten lines under a thumbnail
TEXT_KINDS: Final = frozenset({EXACT_TEXT, MINHASH})  # the others are of images, or of both
# difflib takes the cube of the length at the worst; measured: 0.3 s for 400 words, and at most
# 0.1 s for all but texts made for it. A page of 200 takes a minute then.
MOST_WORDS: Final = 400
LEAD_WORDS: Final = 20  # chosen: what is shown of an equal beginning that had to be left out
_BATCH_BYTES: Final = 64 * 2**20  # chosen: media held at a time; photographs of a whole page


class Part(NamedTuple):
    """A run of words, and whether the other text has it elsewhere or not at all."""

    text: str
    is_changed: bool


@dataclass(frozen=True)
class Difference:
    """Two texts beside each other; the note says what is not seen in them, if anything."""

    survivor: tuple[Part, ...]
    other: tuple[Part, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A member as people see it.

    Attributes:
        member: the member.
        caption: its text in one short line.
        image: a JPEG; null in a cluster of texts.
        is_blurred: whether the picture is made unrecognisable.
        url: where it was found, in a cluster of URLs; what cannot be seen is left out.
        difference: from the survivor's text; null in a cluster of images, and of the survivor.
    """

    member: Member
    caption: str
    image: bytes | None = None
    is_blurred: bool = False
    url: str = ""
    difference: Difference | None = None


@dataclass(frozen=True)
class Section:
    """A cluster as people see it, survivor first."""

    cluster: Cluster
    shown: tuple[Shown, ...]


def write(
    warehouse: Warehouse,
    sample_id: str,
    clusters: Sequence[Cluster],
    path: Path,
    *,
    max_pixels: int,
    is_unblurred: bool = False,
) -> None:
    """Write the page of a sample's clusters.

    Args:
        warehouse: where the pictures are.
        sample_id: the sample that was asked for.
        clusters: those it is in.
        path: file to write; its folder is made.
        max_pixels: larger images are not opened.
        is_unblurred: show what may not be safe, too.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pictured = [each for each in clusters if each.kind not in TEXT_KINDS]
    members = [member for cluster in pictured for member in cluster.members]
    images = _images(warehouse, members, max_pixels=max_pixels, is_unblurred=is_unblurred)
    sections = [
        Section(
            cluster,
            of_texts(cluster) if cluster.kind in TEXT_KINDS else of_images(cluster, images),
        )
        for cluster in clusters
    ]
    path.write_text(render(sample_id, sections), encoding="utf-8")


def render(sample_id: str, sections: Sequence[Section]) -> str:
    """The page as HTML; whatever comes from a dump is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"similarity": similarity, "inlined": _inlined}
    # Read as a resource: on a cluster the package is a zip.
    template = (resources.files("jobs.report") / "cluster_page.html.j2").read_text("utf-8")
    return environment.from_string(template).render(sample_id=sample_id, sections=sections)


def similarity(value: float | None) -> str:
    """A similarity as people read it; what is not quite equal never reads as equal.

    >>> similarity(1.0), similarity(0.953125), similarity(0.99999), similarity(None)
    ('1', '0.953', '0.999…', '-')
    """
    if value is None:
        return "-"
    said = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0.999…" if said == "1" and value < 1 else said


def of_images(
    cluster: Cluster, images: Mapping[str | None, tuple[bytes, bool]]
) -> tuple[Shown, ...]:
    """The members of a cluster of images.

    Args:
        cluster: the cluster.
        images: name of media -> a JPEG, and whether it is blurred.
    """
    return tuple(
        Shown(
            member=member,
            caption=excerpt(member.text or ""),
            image=images[member.media_sha256][0],
            is_blurred=images[member.media_sha256][1],
            url=" ".join(_words(member.url or ""))[:URL_CHARS] if cluster.kind == EXACT_URL else "",
        )
        for member in cluster.members
    )


def of_texts(cluster: Cluster) -> tuple[Shown, ...]:
    """The members of a cluster of texts, each compared with the survivor."""
    survivor = cluster.members[0]
    return tuple(
        Shown(
            member=member,
            caption=excerpt(member.text or ""),
            difference=None if member is survivor else difference(survivor, member),
        )
        for member in cluster.members
    )


def difference(survivor: Member, other: Member) -> Difference:
    """What two members' texts have in common and what not, by words.

    Of long texts it shows `MOST_WORDS` of each, from shortly before the first word that differs.
    """
    if survivor.text is None or other.text is None:
        return Difference((), (), "no longer stored")
    notes = []
    if survivor.text == other.text:
        notes.append("the same text")
    left, right = _words(survivor.text), _words(other.text)
    if left == right and survivor.text != other.text:
        notes.append("differs only in white space or in characters that are not seen")
    if max(len(left), len(right)) > MOST_WORDS:
        pairs = zip(left, right, strict=False)
        equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        start = 0 if left == right else max(0, equal - LEAD_WORDS)
        if start:
            notes.append(f"{start:,} equal words before are left out")
        left, right = left[start:], right[start:]
        if max(len(left), len(right)) > MOST_WORDS:
            notes.append(f"cut after {MOST_WORDS} words")
        left, right = left[:MOST_WORDS], right[:MOST_WORDS]
    if survivor.is_cut or other.is_cut:
        notes.append("only the beginning of the text was read")
    # Without its junk heuristic: the words of a text that repeat are no less its words.
    steps = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    return Difference(
        tuple(Part(" ".join(left[a:b]), tag != "equal") for tag, a, b, _, _ in steps if a < b),
        tuple(Part(" ".join(right[a:b]), tag != "equal") for tag, _, _, a, b in steps if a < b),
        "; ".join(notes),
    )


def _words(text: str) -> list[str]:
    """Words without the characters that can hide or turn round what is beside them."""
    words = (
        "".join(char for char in word if not unicodedata.category(char).startswith("C"))
        for word in text.split()
    )
    return [word for word in words if word]


def _images(
    warehouse: Warehouse, members: Sequence[Member], *, max_pixels: int, is_unblurred: bool
) -> dict[str | None, tuple[bytes, bool]]:
    """Media -> thumbnail, and whether it is blurred; null, of what is gone -> one of nothing."""
    nothing = thumbnail(None, is_blurred=False, max_pixels=max_pixels)
    images: dict[str | None, tuple[bytes, bool]] = {None: (nothing, False)}
    distinct = {member.media_sha256: member for member in members if member.media_sha256}
    if not distinct:
        return images
    safe = set(distinct) if is_unblurred else _safe(warehouse, sorted(distinct))
    for batch in _batches(distinct):
        readable = [key for key, member in batch if member.modality == samples.IMAGE_TEXT]
        contents = media(warehouse, readable)
        for key, _ in batch:
            is_blurred = key not in safe
            shown = thumbnail(contents.get(key), is_blurred=is_blurred, max_pixels=max_pixels)
            images[key] = (shown, is_blurred)
    return images


def _safe(warehouse: Warehouse, keys: Sequence[str]) -> set[str]:
    """Media that every network took for safe; those without a score are not among them."""
    rows = (
        warehouse.read(image_signals.TABLE)
        .where(F.col("media_sha256").isin(list(keys)))
        .groupBy("media_sha256")
        .agg(F.max("nsfw_score").alias("nsfw_score"))
        .where(F.col("nsfw_score") < BLUR_FROM)
        .select("media_sha256")
        .collect()
    )
    return {row["media_sha256"] for row in rows}


def _batches(distinct: Mapping[str, Member]) -> Iterator[list[tuple[str, Member]]]:
    """Media in groups that fit into memory together; one alone may be larger."""
    held: list[tuple[str, Member]] = []
    held_bytes = 0
    for key, member in distinct.items():
        if held and held_bytes + member.media_bytes > _BATCH_BYTES:
            yield held
            held, held_bytes = [], 0
        held.append((key, member))
        held_bytes += member.media_bytes
    if held:
        yield held


def _inlined(content: bytes) -> str:
    """A data URI: the page stays one file that asks for nothing."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
