"""Everything measured on a video in one pass over its frames: a row for it and one a clip."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from pyspark.sql.types import ArrayType, StructType

from schemas import captions, clips, video_signals
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
_CLIP: Final = StructType(
    [
        *clips.SIGNALS.fields,
        field("captions", ArrayType(captions.FOUND), "its texts", nullable=True),
    ]
)
# What the operator emits: of a video its clips, each in a row of its own, then itself.
EMITTED: Final = StructType(
    [
        *(field(f.name, f.dataType, "of the video", nullable=True) for f in video_signals.FACTS),
        field("clip", _CLIP, "of a clip; null in the row of the video", nullable=True),
    ]
)
_SPARING: Final = 12_500  # bytes a second; chosen: 100 kb/s, less than videos of the web have
_BATCH_ROWS: Final = 512  # chosen: about half a megabyte, so that no video's clips lie here twice


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
                    yield from _in_batches(_rows(video, _outcome(children, video, limits)))

    return score


def _outcome(children: Isolated, video: Mapping[str, Any], limits: VideoLimits) -> Any:
    try:
        limits.check(video)
    except Refused as refusal:
        return refusal
    (outcome,) = children([json.dumps(video).encode()], limits.seconds_for(video))
    return outcome


def _rows(video: Mapping[str, Any], outcome: Any) -> Iterator[dict[str, Any]]:
    known = {"media_sha256": video["media_sha256"]}
    if isinstance(outcome, Exception):
        if not isinstance(outcome, Refused):
            outcome = Refused("corrupt_video", f"a signal failed: {said(outcome)}")
        yield known | {"status": outcome.error_class, "detail": outcome.detail}
        return
    for clip in outcome.clips:
        yield known | {"clip": clip}
    yield known | {"status": OK, "clips": len(outcome.clips), **outcome.facts}


def _in_batches(rows: Iterator[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    held: Sequence[dict[str, Any]]
    while held := [row for _, row in zip(range(_BATCH_ROWS), rows, strict=False)]:
        yield record_batch(held, EMITTED)
