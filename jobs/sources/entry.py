"""What every source hands to ingest: an item that was accepted, or one that was not and why."""

import hashlib
from dataclasses import dataclass, field

from jobs.sources.texts import DETAIL_CHARS
from udfs.image_codec import ImageRefused, extension_matches, header


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
class Entry:
    """One item met in a shard.

    `error_class` is null for an accepted one, else one of `schemas.error_classes`.
    `shard_offset_bytes` is null where the media's bytes do not lie in the shard as they are.
    """

    position: int
    sample_key: str | None
    occurrence: int = 0
    member: str | None = None
    shard_offset_bytes: int | None = None
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


class EntryRefused(ValueError):
    """An item, or the rest of a shard, that cannot be taken; carries its error class."""

    def __init__(self, error_class: str, detail: str) -> None:
        super().__init__(f"{error_class}: {detail}")
        self.error_class = error_class
        self.detail = detail[:DETAIL_CHARS]


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
