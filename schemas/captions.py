"""Texts of clips, each with who wrote it: what a video's own subtitles say, and annotators."""

from typing import Final

from pyspark.sql.types import LongType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "silver.captions"
GRAIN: Final = "one text of one clip by one annotator x signal set"
KEY: Final = ("clip_id", "annotator", "signal_set")
# What a pass over a video finds of a clip.
FOUND: Final = StructType(
    [  # all nullable, as Spark has what it reads of Parquet
        field(
            "annotator",
            StringType(),
            "who says so: subtitle:<number of the stream> or title, both from the video itself; or"
            " the name under which captions were added",
            nullable=True,
        ),
        field("language", StringType(), "as the annotator tells it, e.g. eng", nullable=True),
        field("text", StringType(), "the text, UTF-8, never empty", nullable=True),
        field("text_sha256", StringType(), "sha256 of its UTF-8 bytes, hex", nullable=True),
        field("start_ms", LongType(), "from when in the video it speaks", nullable=True),
        field("end_ms", LongType(), "until when", nullable=True),
        field(
            "provenance",
            StringType(),
            "where it was read: the codec of the stream, or the file's name and sha256",
            nullable=True,
        ),
    ]
)
_SAID: Final = ("annotator", "text", "text_sha256")  # never null
SCHEMA: Final = StructType(
    [
        field("media_sha256", StringType(), "sha256 of the video's bytes, hex"),
        field("clip_id", StringType(), "of `silver.clips`"),
        *(
            field(f.name, f.dataType, f.metadata["comment"], nullable=f.name not in _SAID)
            for f in FOUND.fields
        ),
        field("signal_set", StringType(), "signal set of the clip"),
        field("captioned_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("captioned_at", "batch", "run_id")
CLUSTER_BY: Final = ("media_sha256",)
CHECKS: Final = {"says_something": "text IS NOT NULL AND text <> ''"}
