"""An item in several members or files of one key: an image or video, its caption, its facts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from jobs.sources.entry import Entry, EntryRefused, Extent, Limits, Video, image_facts
from jobs.sources.facts import facts, parsed_object
from jobs.sources.texts import printable
from jobs.sources.video_file import VIDEO_KINDS
from udfs.video_header import extension_matches

# Kinds that stand for the image; those no decoder here accepts are named so that they are
# refused as images rather than missed.
IMAGE_KINDS: Final = frozenset(
    {
        "jpg",
        "jpeg",
        "jfif",
        "png",
        "webp",
        "gif",
        "bmp",
        "tif",
        "tiff",
        "svg",
        "avif",
        "heic",
        "jxl",
        "ppm",
        "pgm",
        "ico",
    }
)
CAPTION_KINDS: Final = ("txt", "caption")  # the second as trainers write it; the first wins
FACTS_KIND: Final = "json"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member of an archive, or a file of a folder.

    Attributes:
        name: as the archive or folder has it.
        key: the item it belongs to.
        kind: what it is of the item, in lower case.
        size_bytes: as declared.
        content: its bytes; of a video, what is known of it; or why they were not read.
        offset_bytes: where they lie in the shard; null where they do not.
        extent: where they lie if they are a file beside the shard, or in one.
    """

    name: str
    key: str
    kind: str
    size_bytes: int
    content: bytes | Video | EntryRefused
    offset_bytes: int | None = None
    extent: Extent | None = None


@dataclass
class Group:
    """The members of one key.

    Attributes:
        key: what they share.
        members: as they came; one at least when it is judged.
        facts: said of the item elsewhere; they go before those of its own.
    """

    key: str
    members: list[Member] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def has(self, kind: str) -> bool:
        """Whether there is a member of the kind."""
        return self.first((kind,)) is not None

    @property
    def image(self) -> Member | None:
        """The member that stands for the image."""
        return next((m for m in self.members if m.kind in IMAGE_KINDS), None)

    @property
    def video(self) -> Member | None:
        """The member that is the video; an image beside it is a still of it."""
        return next((m for m in self.members if m.kind in VIDEO_KINDS), None)

    @property
    def caption(self) -> Member | None:
        """The member that is a caption alone."""
        return self.first(CAPTION_KINDS)

    def first(self, kinds: Iterable[str]) -> Member | None:
        """The first member of the first of these kinds that is there."""
        return next((m for kind in kinds for m in self.members if m.kind == kind), None)


def judged(group: Group, position: int, occurrence: int, limits: Limits) -> Entry:
    """The entry that a group is, accepted or refused.

    Args:
        group: one member at least.
        position: in the shard.
        occurrence: how often the shard has delivered the key before.
        limits: what the item may cost.
    """
    media = group.video or group.image or group.members[0]
    where = {
        "position": position,
        "sample_key": printable(group.key),
        "occurrence": occurrence,
        "member": printable(media.name),
        "shard_offset_bytes": media.offset_bytes,
        "extent": media.extent,
        "size_bytes": media.size_bytes,
    }
    try:
        return Entry(**where, **_accepted(group, occurrence, limits))  # type: ignore[arg-type]
    except EntryRefused as refusal:
        return Entry(
            **where,  # type: ignore[arg-type]
            error_class=refusal.error_class,
            detail=refusal.detail,
        )


def _accepted(group: Group, occurrence: int, limits: Limits) -> dict[str, object]:
    for member in group.members:
        _refuse_unsafe(member)
    if occurrence:
        raise EntryRefused("duplicate_key", f"occurrence {occurrence + 1} of its key in the shard")
    said_of_it = _facts(group) | group.facts
    if group.video is not None:
        media = _of_video(group.video)
        # Files are often all there is of a video; pictures without a word are of no use here.
        caption = _caption(group, said_of_it, otherwise="")
    elif group.image is not None:
        caption = _caption(group, said_of_it)
        media = _of_image(group.image, limits)
    else:
        raise EntryRefused("missing_image", f"members: {_kinds(group)}")
    return {
        **media,
        "caption": caption,
        "url": said_of_it.pop("url", None),
        "extra": said_of_it,
    }


def _of_image(image: Member, limits: Limits) -> dict[str, object]:
    content = _bytes(image)
    return {**image_facts(content, image.name, limits), "content": content}


def _of_video(member: Member) -> dict[str, object]:
    video = member.content
    if not isinstance(video, Video):
        raise video if isinstance(video, EntryRefused) else _unplaced()
    return {
        "video": video,
        "media_sha256": video.media_sha256,
        "mime": video.header.mime,
        "is_extension_mismatch": not extension_matches(video.header.mime, member.name),
        "header_width_px": video.header.width_px,
        "header_height_px": video.header.height_px,
    }


def _unplaced() -> EntryRefused:
    return EntryRefused(
        "video_compressed", "its shard is compressed as a whole; decompress it to take its videos"
    )


def _refuse_unsafe(member: Member) -> None:
    parts = member.name.replace("\\", "/").split("/")
    if member.name.startswith(("/", "\\")) or ".." in parts or "\0" in member.name:
        raise EntryRefused("unsafe_member_name", "climbs out of the archive")
    if isinstance(member.content, EntryRefused):
        raise member.content


def _bytes(member: Member) -> bytes:
    assert isinstance(member.content, bytes)  # a video is none of an image, caption or facts
    return member.content


def _kinds(group: Group) -> str:
    return printable(", ".join(sorted(member.kind or "(none)" for member in group.members)))


def _facts(group: Group) -> dict[str, str]:
    """The side-car's facts as texts; one that cannot be read is said so, the item stays."""
    sidecar = group.first((FACTS_KIND,))
    if sidecar is None:
        return {}
    try:
        return facts(parsed_object(_bytes(sidecar)))
    except EntryRefused as refusal:
        return {"json_error": refusal.detail.partition(":")[0]}


def _caption(group: Group, said_of_it: dict[str, str], *, otherwise: str | None = None) -> str:
    beside = said_of_it.pop("caption", otherwise)
    text = group.caption
    if text is None:
        if beside is None:
            raise EntryRefused("missing_caption", f"members: {_kinds(group)}")
        return beside
    try:
        return _bytes(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise EntryRefused("caption_not_utf8", f"{error.reason} at byte {error.start}") from None
