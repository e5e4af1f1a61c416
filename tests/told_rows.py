"""Rows of tables of which a test says only what matters to it."""

import io
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from PIL import Image
from pyspark.sql import types as T

from jobs.runtime.tables import Warehouse, conform, contract

_ANY: Final[Mapping[type[T.DataType], Any]] = {
    T.StringType: "x",
    T.LongType: 0,
    T.IntegerType: 0,
    T.DoubleType: 0.0,
    T.FloatType: 0.0,
    T.BooleanType: False,
    T.TimestampType: datetime(2026, 1, 1, tzinfo=UTC),
    T.BinaryType: b"",
    T.ArrayType: [],
    T.MapType: {},
}


def append(warehouse: Warehouse, table: str, *rows: Mapping[str, Any]) -> None:
    """Append rows; what they do not say is null where it may be, else anything.

    Where the table is not there, it is made without the contract's checks.
    """
    schema = contract(table).SCHEMA
    filled = [
        {
            f.name: row[f.name] if f.name in row else None if f.nullable else _ANY[type(f.dataType)]
            for f in schema
        }
        for row in rows
    ]
    frame = conform(warehouse.local(filled, schema), table).coalesce(1)
    if warehouse.exists(table):
        warehouse.append(frame, table, by=(uuid.uuid4().hex, 0))
    else:  # its checks would want more of a row than a test says
        frame.write.format("delta").save(warehouse.path(table))


def jpeg(grey: int) -> bytes:
    """A picture of one grey."""
    encoded = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(encoded, "JPEG")
    return encoded.getvalue()
