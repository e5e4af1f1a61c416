"""What every source hands to ingest: an item that was accepted, or one that was not and why."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from jobs.sources.texts import DETAIL_CHARS, printable
from udfs.image_codec import ImageRefused, extension_matches, header
from udfs.video_header import VideoHeader

PAGE_URL: Final = "page_url"  # in `extra`: the page that the item was found on


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an entry may cost, and how far a compressed shard may grow.

    Attributes:
        max_member_bytes: of one member.
        max_pixels: width x height that a header may declare.
        max_decompression_ratio: plain bytes that each compressed byte may give.
        max_decompressed_bytes: plain bytes of one shard.
    """

    max_member_bytes: int
    max_pixels: int
    max_decompression_ratio: int
    max_decompressed_bytes: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the shards of a dump are read.

    Attributes:
        limits: what an entry may cost.
        options: what the configuration says of the dump, by the names its format allows.
        first: position of the first entry that is wanted; of those before it a format may say
            nothing, or anything.
    """

    limits: Limits
    first: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Where bytes lie as they are, so that they can be had again.

    Attributes:
        path: of a file of the dump, relative to its root.
        offset_bytes: where in the file they begin.
    """

    path: str
    offset_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Item:
    """A piece of an interleaved document.

    Attributes:
        kind: what it is.
        text: of a text; of an image, the words that stand for it (its alt text), if any.
        url: of an image, where it is to be had; absolute.
        path: of an image that is a file of the dump, relative to its root.
        xpath: where in the page, if the dump says so.
    """

    kind: Literal["text", "image"]
    text: str | None = None
    url: str | None = None
    path: str | None = None
    xpath: str | None = None


@dataclass(frozen=True, kw_only=True)
class Document:
    """An interleaved page: its pieces in reading order.

    Attributes:
        items: texts and images.
        title: of the page, if it has one.
        crawled_at: UTC, if the dump says so.
    """

    items: tuple[Item, ...]
    title: str | None = None
    crawled_at: datetime | None = None

    def markdown(self) -> str:
        r"""The page as Markdown: paragraphs of text, and `![alt](url)` where an image stands.

        >>> Document(items=(Item(kind="text", text="a"), Item(kind="image", url="u"))).markdown()
        'a\n\n![](u)'
        """
        return "\n\n".join(
            item.text or "" if item.kind == "text" else f"![{item.text or ''}]({item.url or ''})"
            for item in self.items
        )


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video, whose bytes stay where they lie.

    Attributes:
        header: what its container says.
        media_sha256: of its bytes, hex; so are the other two.
    """

    header: VideoHeader
    media_sha256: str
    md5: str
    sha1: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One item met in a shard.

    `error_class` is null for an accepted one, else one of `schemas.error_classes`. An accepted
    one is, by what it carries:

    - a sample: `content` and `caption`;
    - a sample whose media must be fetched: `url` and `caption`, no `content`;
    - media that the dump delivers for a url, without a caption of its own: `content` and `url`,
      `is_response`;
    - a video: `video` and `caption`, which is empty where the dump has none;
    - an interleaved page: `document`, and the page's `url`.

    `shard_offset_bytes` is null where the media's bytes do not lie in the shard as they are;
    `extent` is where they lie if that is a file beside it.
    """

    position: int
    sample_key: str | None
    occurrence: int = 0
    member: str | None = None
    shard_offset_bytes: int | None = None
    extent: Extent | None = None
    size_bytes: int | None = None
    error_class: str | None = None
    detail: str | None = None
    content: bytes | None = None
    caption: str | None = None
    url: str | None = None
    mime: str | None = None
    is_extension_mismatch: bool | None = None
    header_width_px: int | None = None
    header_height_px: int | None = None
    media_sha256: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    is_response: bool = False
    video: Video | None = None
    document: Document | None = None

    @property
    def has_media(self) -> bool:
        """Whether the dump has the media themselves."""
        return self.content is not None or self.video is not None


class EntryRefused(ValueError):
    """An item, or the rest of a shard, that cannot be taken; carries its error class."""

    def __init__(self, error_class: str, detail: str) -> None:
        super().__init__(f"{error_class}: {detail}")
        self.error_class = error_class
        self.detail = printable(detail)[:DETAIL_CHARS]


def image_facts(content: bytes, member: str, limits: Limits) -> dict[str, object]:
    """What the bytes of an image say without being decoded.

    Raises:
        EntryRefused: empty, no image, or more pixels than allowed.
    """
    try:
        found = header(content, max_pixels=limits.max_pixels)
    except ImageRefused as refusal:
        raise EntryRefused(refusal.error_class, refusal.detail) from None
    return {
        "mime": found.mime,
        "is_extension_mismatch": not extension_matches(found.mime, member),
        "header_width_px": found.width_px,
        "header_height_px": found.height_px,
        "media_sha256": hashlib.sha256(content).hexdigest(),
    }
