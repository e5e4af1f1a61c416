"""The verdict of each kind of duplicate search on each sample or clip, "unique" included."""

from typing import Final

from pyspark.sql.types import (
    BooleanType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.duplicates"
GRAIN: Final = "one sample or clip x kind, and a row for each later change of the verdict"
KEY: Final = ("kind", "sample_id")
REVISION: Final = "revision"  # of the rows of a key the greatest holds: `silver.current_duplicates`
SCHEMA: Final = StructType(
    [
        field(
            "kind",
            StringType(),
            "exact_url (canonical URL), exact_media (bytes), exact_text (normalised text),"
            " exact_pair (text as delivered, and bytes); phash (images whose hashes lie within the"
            " radius), crop (images that share two segments), minhash (texts that share shingles),"
            " semantic (embeddings within the bound), boilerplate (images that stand on more pages"
            " than the bound);"
            " of clips exact_clip (the same frames of the same bytes), video (clips that show the"
            " same)",
        ),
        field(
            "sample_id",
            StringType(),
            "the sample; of kinds of clips the clip as delivered, in silver.clip_pairs",
        ),
        field("ingest_ordinal", LongType(), "its order of arrival; clips' lie behind all samples'"),
        field(
            "node",
            LongType(),
            "its content: ordinal of the first sample that brought the same; of kinds that find"
            " near copies, and of boilerplate, all samples of a content share its verdict",
        ),
        field(
            "is_duplicate",
            BooleanType(),
            "another of its cluster stands for it; of an exact kind, another of the same content;"
            " of boilerplate, its image stands on too many pages: its first sample is one too",
        ),
        field(
            "representative_id",
            StringType(),
            "the sample that stands for it: survivor of the cluster that it joined; itself where"
            " it is no duplicate; of boilerplate the image's first, which is none that is kept",
        ),
        field(
            "similarity",
            FloatType(),
            "of the link by which it joined a better one's cluster: for any stricter threshold t,"
            " it is a duplicate where similarity >= t. 1 of what is no duplicate. phash:"
            " 1 - Hamming distance / 64; crop: likewise, by the mean of two segments; minhash:"
            " Jaccard; semantic: cosine; video: share of the shorter clip's frames that the longer"
            " one shows; 1 of exact kinds and boilerplate",
        ),
        field("cluster_id", StringType(), "first sample of its cluster, at the kind's own bound"),
        field("revision", IntegerType(), "0 at first; one more at each change of the verdict"),
        field("decided_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("decided_at", "batch", "run_id")
CLUSTER_BY: Final = ("kind", "ingest_ordinal")
CHECKS: Final = {"unique_represents_itself": "is_duplicate OR representative_id = sample_id"}
