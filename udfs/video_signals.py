"""Everything measured on a video in one pass over its frames: a row for it and one a clip."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow as pa
from pyspark.sql.types import ArrayType, StructType

from schemas import captions, clips, keyframes, video_signals
from schemas.error_classes import OK
from schemas.field import field
from udfs.arrow import record_batch
from udfs.clips import Found
from udfs.image_codec import said
from udfs.isolation import Isolated, Limits, isolated
from udfs.refused import Refused
from udfs.video_pass import Limits as PassLimits

# What must be known of a video to have its frames.
COLUMNS: Final = (
    "media_sha256",
    "size_bytes",
    "root",
    "path",
    "offset_bytes",
    "header_width_px",
    "header_height_px",
    "duration_s",
)
_KEYFRAMES: Final = "keyframes"
CLIP: Final = StructType(
    [
        *clips.SIGNALS.fields,
        field(_KEYFRAMES, ArrayType(keyframes.FRAME), "that stand for the clip", nullable=True),
        field("captions", ArrayType(captions.FOUND), "its texts", nullable=True),
    ]
)
# What the operator emits: of a video its clips, each in a row of its own, then itself.
EMITTED: Final = StructType(
    [
        *(field(f.name, f.dataType, "of the video", nullable=True) for f in video_signals.FACTS),
        field("clip", CLIP, "of a clip; null in the row of the video", nullable=True),
    ]
)
_SPARING: Final = 12_500  # bytes a second; chosen: 100 kb/s, less than videos of the web have
_BATCH_ROWS: Final = 512  # chosen: about half a megabyte without key frames,
_BATCH_BYTES: Final = 16 * 2**20  # and with them as much as ingest hands to Spark at a time


@dataclass(frozen=True)
class VideoLimits:
    """What one video may be, and take of the process that decodes it.

    Attributes:
        max_pixels: largest width x height.
        max_duration_s: longest, by its header.
        deadline_s: seconds to look at it, whatever its length.
        deadline_factor: seconds more for each second that its header tells.
        memory_bytes: what the process may allocate.
    """

    max_pixels: int
    max_duration_s: float
    deadline_s: float
    deadline_factor: float
    memory_bytes: int

    def check(self, video: Mapping[str, Any]) -> None:
        """Refuse a video by its header.

        Raises:
            Refused: too large or too long.
        """
        width, height = video["header_width_px"], video["header_height_px"]
        if width * height > self.max_pixels:
            size = f"{width} x {height} pixels"
            raise Refused("too_many_pixels", f"{size} exceed the limit of {self.max_pixels}")
        if (video["duration_s"] or 0) > self.max_duration_s:
            length = f"{video['duration_s']:.0f} s by its header"
            raise Refused("video_too_long", f"{length} exceed the limit of {self.max_duration_s:g}")

    def of_pass(self) -> PassLimits:
        """The same for one pass over its packets."""
        return PassLimits(max_pixels=self.max_pixels, max_seconds=self.max_duration_s)

    def seconds_for(self, video: Mapping[str, Any]) -> float:
        """How long a video may take; one that tells no length has that of a sparing encoder."""
        sparing_s = min(video["size_bytes"] / _SPARING, self.max_duration_s)
        return float(self.deadline_s + self.deadline_factor * (video["duration_s"] or sparing_s))


def video_signals_udf(
    look: Callable[[], Callable[[bytes], Found]], limits: VideoLimits
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """Function for ``mapInArrow``: where videos lie in, one row a clip and one a video out.

    Each video goes to a child process, which opens it, and is decoded once, streaming. A bad one
    costs its own row: its status and detail, and no clips. So does one that crashes its decoder,
    or takes too much time or memory.

    Args:
        look: gives, once on the worker, what goes from a video's row of ``COLUMNS``, as JSON, to
            what one pass over it finds.
        limits: what one video may be and take.

    Returns:
        batches of ``COLUMNS`` -> batches of ``EMITTED``: of each video its clips, then itself.

    Raises:
        IsolationBroken: no child process can be had; raised where the function is used.
    """

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        of_child = Limits(limits.deadline_s, limits.memory_bytes)
        with isolated(look(), of_child) as children:
            for batch in batches:
                for video in batch.to_pylist():
                    with tempfile.TemporaryDirectory() as folder:
                        pictures = f"{folder}/{_KEYFRAMES}"
                        outcome = _outcome(children, video | {"pictures": pictures}, limits)
                        yield from _in_batches(_rows(video, outcome, pictures))

    return score


def _outcome(children: Isolated, video: Mapping[str, Any], limits: VideoLimits) -> Any:
    try:
        limits.check(video)
    except Refused as refusal:
        return refusal
    (outcome,) = children([json.dumps(video).encode()], limits.seconds_for(video))
    return outcome


def _rows(
    video: Mapping[str, Any], outcome: Any, pictures: str
) -> Iterator[tuple[dict[str, Any], int]]:
    """Rows of ``EMITTED``, and the bytes of their key frames."""
    known = {"media_sha256": video["media_sha256"]}
    if isinstance(outcome, Exception):
        if not isinstance(outcome, Refused):
            outcome = Refused("corrupt_video", f"a signal failed: {said(outcome)}")
        yield known | {"status": outcome.error_class, "detail": outcome.detail}, 0
        return
    with open(pictures, "rb") as file:
        for clip in outcome.clips:
            chosen = [_with_content(one, file) for one in clip[_KEYFRAMES]]
            size_bytes = sum(one["size_bytes"] for one in chosen)
            yield known | {"clip": clip | {_KEYFRAMES: chosen}}, size_bytes
    yield known | {"status": OK, "clips": len(outcome.clips), **outcome.facts}, 0


def _with_content(keyframe: Mapping[str, Any], pictures: BinaryIO) -> dict[str, Any]:
    pictures.seek(keyframe["offset_bytes"])
    content = pictures.read(keyframe["size_bytes"])
    return {**keyframe, "content": content, "media_sha256": hashlib.sha256(content).hexdigest()}


def _in_batches(rows: Iterator[tuple[dict[str, Any], int]]) -> Iterator[pa.RecordBatch]:
    held: list[dict[str, Any]] = []
    held_bytes = 0
    for row, size_bytes in rows:
        if held and (len(held) == _BATCH_ROWS or held_bytes + size_bytes > _BATCH_BYTES):
            yield record_batch(held, EMITTED)
            held, held_bytes = [], 0
        held.append(row)
        held_bytes += size_bytes
    if held:
        yield record_batch(held, EMITTED)
