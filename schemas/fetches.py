"""What became of every URL: one answer an attempt, shared by all items that name the URL."""

from typing import Final

from pyspark.sql.types import (
    BooleanType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "bronze.fetches"
GRAIN: Final = "one URL at one attempt"
KEY: Final = ("url_sha256", "attempt")
OK: Final = "ok"
SCHEMA: Final = StructType(
    [
        field("url_sha256", StringType(), "sha256 of the normalised URL, hex"),
        field("attempt", IntegerType(), "0 the first time; one more at each retry"),
        field("url", StringType(), "as asked for; null if blocklisted", nullable=True),
        field("host", StringType(), "of the URL, ASCII; null if blocklisted", nullable=True),
        field("origin", StringType(), "http, or warc: the answer lay in the dump"),
        field(
            "outcome",
            StringType(),
            "ok, a class of schemas.error_classes or a reason of schemas.reject_reasons",
        ),
        field("detail", StringType(), "what went wrong or was said", nullable=True),
        field("matched", StringType(), "what stands on a blocklist", nullable=True),
        field("http_status", IntegerType(), "of the last answer", nullable=True),
        field("final_url", StringType(), "past the redirects", nullable=True),
        field("redirects", IntegerType(), "how many were followed"),
        field("tries", IntegerType(), "requests made, retries included"),
        field("content_type", StringType(), "as the server declared it", nullable=True),
        field(
            "is_type_mismatch",
            BooleanType(),
            "the server declared another type than the bytes have",
            nullable=True,
        ),
        field("etag", StringType(), "of the answer", nullable=True),
        field("last_modified", StringType(), "of the answer, as sent", nullable=True),
        field("robots_tag", StringType(), "X-Robots-Tag headers, one a line", nullable=True),
        field("tdm_reservation", StringType(), "the header, as sent", nullable=True),
        field("media_sha256", StringType(), "sha256 of the bytes, hex; ok only", nullable=True),
        field("md5", StringType(), "md5 of the bytes, hex; ok only", nullable=True),
        field("size_bytes", LongType(), "length of the bytes", nullable=True),
        field("mime", StringType(), "type by magic bytes", nullable=True),
        field("header_width_px", IntegerType(), "width by the header", nullable=True),
        field("header_height_px", IntegerType(), "height by the header", nullable=True),
        field("fetched_at", TimestampType(), "UTC"),
        field("duration_s", DoubleType(), "from the first request to the last byte", nullable=True),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("fetched_at", "duration_s", "tries", "batch", "run_id")
CLUSTER_BY: Final = ("url_sha256",)
CHECKS: Final = {"ok_has_media": "outcome <> 'ok' OR media_sha256 IS NOT NULL"}
