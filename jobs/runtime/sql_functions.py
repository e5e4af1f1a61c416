"""Signals as functions of SQL: `SELECT nsfw(content) FROM bronze.media`."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from pyspark.sql import SparkSession

from jobs.runtime.models import CLIP, Scoring, Side
from schemas import image_signals, text_signals
from udfs.embedding_functions import clip_score_udf, embedding_to_array_udf
from udfs.signal_function import Operator, signal_function

# What a signal's function is called, where not as the signal itself.
EMBED_IMAGE: Final = "embed_image"
EMBED_TEXT: Final = "embed_text"


def register(spark: SparkSession, scoring: Scoring) -> dict[str, str]:
    """Make every signal of a scoring a function of this session's SQL.

    Returns:
        signature -> what it gives.
    """
    spark.udf.register("cosine", clip_score_udf())
    spark.udf.register("embedding_to_array", embedding_to_array_udf())
    said = {
        "cosine(embedding, embedding)": "float",
        "embedding_to_array(embedding)": "array<float>",
    }
    images = partial(
        _register, spark, scoring.images, value="content", signals=image_signals.SIGNALS
    )
    texts = partial(_register, spark, scoring.texts, value="caption", signals=text_signals.SIGNALS)
    said |= images(argument="image", renamed={CLIP: EMBED_IMAGE})
    said |= texts(argument="caption", renamed={CLIP: EMBED_TEXT})
    if CLIP in scoring.images.signals and CLIP in scoring.texts.signals:
        spark.sql(
            "CREATE OR REPLACE TEMPORARY FUNCTION clip_score(image BINARY, caption STRING) "
            f"RETURNS FLOAT RETURN cosine({EMBED_IMAGE}(image), {EMBED_TEXT}(caption))"
        )
        said["clip_score(image, caption)"] = "float"
    return said


def _register(
    spark: SparkSession,
    side: Side,
    *,
    value: str,
    signals: Any,
    argument: str,
    renamed: dict[str, str],
) -> dict[str, str]:
    said = {}
    for name, signal in side.signals.items():
        # Of an embedding its bytes: the dimension is their length.
        columns = [column for column in signal.columns if not column.endswith("_dimension")]
        function = signal_function(operator(side, name), columns, value=value, signals=signals)
        called = renamed.get(name, name)
        spark.udf.register(called, function)
        said[f"{called}({argument})"] = function.returnType.simpleString()  # type: ignore[attr-defined]  # a UDF, which the stubs call a function
    return said


def operator(side: Side, name: str) -> Operator:
    """One signal of a side, from bytes or text on; of a derived one its embedding comes first."""
    if name not in side.derived:
        return side.operator_of([name])
    return _chained(side.operator_of([CLIP]), side.deriving([name]))


def _chained(first: Operator, then: Operator) -> Operator:
    def both(batches: Iterable[Any]) -> Iterable[Any]:
        return then(first(batches))

    return both
