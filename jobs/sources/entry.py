"""What every source hands to ingest: an item that was accepted, or one that was not and why."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from udfs.image_codec import ImageRefused, extension_matches, header

DETAIL_CHARS: Final = 500  # chosen: enough to say what, too little to carry content


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an entry may cost."""

    max_member_bytes: int
    max_pixels: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One item met in a shard.

    `error_class` is null for an accepted one, else one of `schemas.error_classes`.
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
    """An item that cannot be taken; carries its error class."""

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
