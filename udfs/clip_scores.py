"""How well texts fit a clip, by the embeddings of its key frames."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from pyspark.sql import Column
from pyspark.sql.types import ArrayType, BinaryType, FloatType, StructType

from udfs.column_function import column_function
from udfs.embedding import pack, unit, unpack

_ANSWER: Final = (
    StructType()
    .add("pooled", BinaryType())
    .add("means", ArrayType(FloatType()))
    .add("greatest", ArrayType(FloatType()))
)


class ClipScores(NamedTuple):
    """What the embeddings of a clip's key frames and texts come to.

    Attributes:
        pooled: the mean of the frames' embeddings, made unit, packed; null without frames, or where
            they point in opposite directions.
        means: of each text the mean cosine with the frames, in [-1, 1]; null without an embedding.
        greatest: likewise, with the frame most like it.
    """

    pooled: bytes | None
    means: list[float | None]
    greatest: list[float | None]


def clip_scores(frames: Sequence[bytes], texts: Sequence[bytes | None]) -> ClipScores:
    """Pool a clip's embeddings and compare each text with them.

    The mean over frames is CLIPScore's for video: Wu et al. 2021, "GODIVA", arXiv:2104.14806, §4
    (CLIPSIM).

    Args:
        frames: packed embeddings, of one model.
        texts: likewise, of the same model; null of a text that has none.

    Raises:
        ValueError: they are of different lengths, or have no direction.

    >>> from udfs.embedding import pack
    >>> right, up = pack(np.eye(2, dtype=np.float32))
    >>> clip_scores([right, up], [right, None])[1:]
    ([0.5, None], [1.0, None])
    """
    if not len(frames):
        return ClipScores(None, [None] * len(texts), [None] * len(texts))
    embeddings = unpack([*frames, *(text for text in texts if text is not None)])
    shown, rest = embeddings[: len(frames)], iter(embeddings[len(frames) :])
    mean = shown.mean(0, keepdims=True)
    pooled = pack(unit(mean))[0] if np.linalg.norm(mean) > np.finfo(np.float16).eps else None
    told = [None if text is None else np.clip(shown @ next(rest), -1, 1) for text in texts]
    return ClipScores(
        pooled,
        [None if cosines is None else float(cosines.mean()) for cosines in told],
        [None if cosines is None else float(cosines.max()) for cosines in told],
    )


def clip_scores_udf() -> Callable[..., Column]:
    """Column function (embeddings of key frames, embeddings of texts) -> ``ClipScores``."""

    def scores(frames: pd.Series, texts: pd.Series) -> pd.DataFrame:
        answers = [clip_scores(shown, told) for shown, told in zip(frames, texts, strict=True)]
        return pd.DataFrame(answers, columns=_ANSWER.names)

    return column_function(scores, _ANSWER)
