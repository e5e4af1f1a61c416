"""A video's chosen clips as members of shards: what a task does for an export of clips."""

import io
import json
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import pyarrow as pa
from pyspark.sql.types import IntegerType, LongType, StringType, StructType

from jobs.sources.place import filesystem_of
from jobs.videos import Look
from schemas.field import field
from udfs.arrow import record_batch
from udfs.clip_cut import Clip, copied, reencoded
from udfs.clip_record import FAILED, SUCCESS, as_json, clip_key, failed_record, members, record
from udfs.image_codec import said
from udfs.isolation import Isolated, Limits, isolated
from udfs.refused import Refused
from udfs.spans import Span
from udfs.video_pass import Limits as PassLimits
from udfs.video_signals import VideoLimits

How = Literal["encoded", "copied"]
# What must be known of a video: where it lies, and its clips in order as JSON.
COLUMNS: Final = ("media_sha256", "size_bytes", "root", "path", "offset_bytes", "told")
MANIFEST: Final = StructType(
    [
        field("clip_id", StringType(), "of `silver.clips`"),
        field("media_sha256", StringType(), "of the video"),
        field("key", StringType(), "of the clip in its shard"),
        field("shard", StringType(), "tar that holds it"),
        field("status", StringType(), "success, or failed_to_subsample"),
        field(
            "error_class",
            StringType(),
            "of a clip that failed: one of quarantine's, or clip_not_cut: no container takes its"
            " packets, or its span is of other frames",
            nullable=True,
        ),
        field("detail", StringType(), "likewise, without content", nullable=True),
        field("extension", StringType(), "mp4 or mkv", nullable=True),
        field("size_bytes", LongType(), "of the clip's file", nullable=True),
        field("frames", IntegerType(), "that the file has", nullable=True),
        field("start_ms", LongType(), "of what the file has, in the video", nullable=True),
        field("end_ms", LongType(), "likewise", nullable=True),
    ]
)
_PIECE_BYTES: Final = 1 << 20  # chosen: what is copied at a time


@dataclass(frozen=True)
class Cut:
    """From a video to files of its clips in a folder; runs in a child process.

    Attributes:
        how: "encoded" anew, frame by frame; or "copied" from key frame to key frame.
        has_stills: with the frame in the middle of each clip as a JPEG; of encoded ones.
        limits: what a video may take.
    """

    how: How
    has_stills: bool
    limits: PassLimits

    def __call__(self, stream: BinaryIO, video: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The clips, each with the members that lie in the folder; fewer if the video breaks off.

        Args:
            stream: the video.
            video: `size_bytes`, `folder`, `key` and `clips`.
        """
        rows = video["clips"]
        spans = [
            Span(row["start_frame"], row["end_frame"], row["start_ms"], row["end_ms"])
            for row in rows
        ]
        done: list[dict[str, Any]] = []
        try:
            for row, clip in zip(rows, self._clips(stream, video, spans), strict=True):
                done.append(_written(row, clip, video))
        except Refused as refusal:
            done.append({"refused": (refusal.error_class, refusal.detail)})
        return done

    def _clips(
        self, stream: BinaryIO, video: Mapping[str, Any], spans: list[Span]
    ) -> Iterator[Clip]:
        size_bytes = video["size_bytes"]
        if self.how == "copied":
            return copied(stream, size_bytes=size_bytes, spans=spans, limits=self.limits)
        middles = {(span.first + span.end) // 2 for span in spans} if self.has_stills else set()
        return reencoded(
            stream, size_bytes=size_bytes, spans=spans, stills=middles, limits=self.limits
        )


def _written(row: Mapping[str, Any], clip: Clip, video: Mapping[str, Any]) -> dict[str, Any]:
    columns = record(
        clip,
        key=video["key"],
        clip_index=row["clip_index"],
        caption=row["caption"],
        facts=row,
    )
    names = []
    for member in members(clip, columns):
        with (Path(video["folder"]) / member.name).open("wb") as file:
            if isinstance(member.content, bytes):
                file.write(member.content)
            else:
                shutil.copyfileobj(member.content, file, _PIECE_BYTES)
        names.append(member.name)
    return {
        "members": names,
        "extension": clip.extension,
        "size_bytes": clip.size_bytes,
        "frames": clip.frames,
        "start_ms": clip.start_ms,
        "end_ms": clip.end_ms,
    }


def cutting(
    cut: Cut, limits: VideoLimits, folder: str, shard_clips: int
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Function for `mapInArrow`: videos with their clips in, rows of `MANIFEST` out.

    Each clip of a video is told once: what failed is in the shard as its record alone. A task
    writes shards of its own, under names that are drawn: one that is tried again leaves those of
    the first attempt behind, and no row names them.

    Args:
        cut: what a child does with a video.
        limits: what a video may be, and take of the child.
        folder: that gets the shards.
        shard_clips: most clips of a shard.
    """

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        of_child = Limits(limits.deadline_s, limits.memory_bytes)
        with isolated(Look(cut), of_child) as children, _Shards(folder, shard_clips) as shards:
            for batch in batches:
                for row in batch.to_pylist():
                    video = row | json.loads(row.pop("told"))
                    rows = list(_exported(children, video, shards, limits))
                    yield record_batch(rows, MANIFEST)

    return work


def _exported(
    children: Isolated, video: dict[str, Any], shards: "_Shards", limits: VideoLimits
) -> Iterator[dict[str, Any]]:
    clips = video["clips"]
    asked = video | {"duration_s": clips[-1]["end_ms"] / 1000}
    with tempfile.TemporaryDirectory() as folder:
        content = json.dumps(video | {"folder": folder}).encode()
        (outcome,) = children([content], limits.seconds_for(asked))
        if isinstance(outcome, Exception):
            outcome = [{"refused": _refused(outcome)}]
        done = [part for part in outcome if "refused" not in part]
        why = next((part["refused"] for part in outcome if "refused" in part), None)
        for number, clip in enumerate(clips):
            key = clip_key(video["key"], clip["clip_index"])
            known = {
                "clip_id": clip["clip_id"],
                "media_sha256": video["media_sha256"],
                "key": key,
                "shard": shards.next(),
            }
            if number < len(done):
                part = done[number]
                for name in part.pop("members"):
                    shards.add_file(name, Path(folder) / name)
                yield known | part | {"status": SUCCESS}
            else:
                error_class, detail = why or ("clip_not_cut", "the video ends before it")
                failed = failed_record(
                    key=video["key"],
                    clip_index=clip["clip_index"],
                    error_message=f"{error_class}: {detail}",
                    facts=clip,
                )
                member = as_json(failed)
                assert isinstance(member.content, bytes)
                shards.add(member.name, member.content)
                yield known | {"status": FAILED, "error_class": error_class, "detail": detail}


def _refused(error: Exception) -> tuple[str, str]:
    if isinstance(error, Refused):
        return error.error_class, error.detail
    return "clip_not_cut", f"cutting failed: {said(error)}"


class _Shards:
    """Tars of so many clips each, one after another."""

    def __init__(self, folder: str, most: int) -> None:
        self._filesystem, self._folder = filesystem_of(folder)
        self._most = most
        self._count = 0
        self._name = ""
        self._file: Any = None
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def next(self) -> str:
        """The name of the shard that gets one more clip."""
        if self._tar is None or self._count == self._most:
            self._close()
            self._name, self._count = f"{uuid.uuid4().hex}.tar", 0
            self._file = self._filesystem.open_output_stream(f"{self._folder}/{self._name}")
            self._tar = tarfile.open(fileobj=self._file, mode="w|")  # noqa: SIM115 - by _close
        self._count += 1
        return self._name

    def add(self, name: str, content: bytes) -> None:
        """A member of the clip."""
        self._put(name, len(content), io.BytesIO(content))

    def add_file(self, name: str, path: Path) -> None:
        """A member of the clip that lies in a file."""
        with path.open("rb") as file:
            self._put(name, path.stat().st_size, file)
        path.unlink()

    def _put(self, name: str, size_bytes: int, file: BinaryIO) -> None:
        assert self._tar is not None
        info = tarfile.TarInfo(name)  # of no owner and time: the same clips, the same bytes
        info.size = size_bytes
        self._tar.addfile(info, file)

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._file.close()
        self._tar = None
