"""Functions of columns of packed embeddings; apart from them, for children need no pandas."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from pyspark.sql import Column
from pyspark.sql.types import ArrayType, FloatType

from udfs.column_function import column_function
from udfs.embedding import cosine, unpack


def cosines(a: pd.Series, b: pd.Series) -> pd.Series:
    """Cosines of packed embeddings; null where either is null."""
    both = a.notna() & b.notna()
    scores = pd.Series(np.nan, index=a.index, dtype=np.float32)
    scores[both] = cosine(unpack(list(a[both])), unpack(list(b[both])))
    return scores


def arrays(packed: pd.Series) -> pd.Series:
    """Packed embeddings as float32 arrays; null where null."""
    return packed.map(lambda row: unpack([row])[0], na_action="ignore")


def clip_score_udf() -> Callable[..., Column]:
    """Column function ``(packed embedding, packed embedding) -> cosine``; SQL's ``cosine``."""
    return column_function(cosines, FloatType())


def embedding_to_array_udf() -> Callable[..., Column]:
    """Column function ``packed embedding -> array<float>``; SQL's ``embedding_to_array``."""
    return column_function(arrays, ArrayType(FloatType()))
