"""A function of pandas series as one of columns."""

from collections.abc import Callable
from typing import Any

from pyspark.sql import Column
from pyspark.sql.pandas.functions import pandas_udf


def column_function(function: Callable[..., Any], dtype: Any) -> Callable[..., Column]:
    """The function of columns that Spark makes of a function of series.

    Args:
        function: series, or iterators of them, to the same; its annotations say which.
        dtype: of what it gives, as `pandas_udf` takes it.
    """
    return pandas_udf(function, dtype)  # type: ignore[call-overload, no-any-return]  # the stubs know literal functions only
