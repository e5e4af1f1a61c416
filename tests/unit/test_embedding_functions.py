import numpy as np
import pandas as pd
import pytest
from pyspark.sql.types import ArrayType, FloatType

from udfs.embedding import pack
from udfs.embedding_functions import arrays, clip_score_udf, cosines, embedding_to_array_udf


def test_columns_of_packed_embeddings_give_cosines_and_nulls() -> None:
    a = pd.Series(pack(np.array([[1, 0], [1, 0], [0, 1]], np.float32)))
    b = pd.Series([a[0], None, a[0]])
    assert cosines(a, b).tolist() == pytest.approx([1, np.nan, 0], nan_ok=True)
    assert cosines(a[:0], b[:0]).tolist() == []


def test_arrays_keep_nulls() -> None:
    read = arrays(pd.Series([b"\x00\x3c\x00\x00", None]))
    assert read[0].tolist() == [1, 0]
    assert read[1] is None


def test_column_functions_are_typed() -> None:
    assert clip_score_udf().returnType == FloatType()
    assert embedding_to_array_udf().returnType == ArrayType(FloatType())
