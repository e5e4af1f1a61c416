"""Equal tables: the same rows but for what each schema calls volatile."""

import json
from collections import Counter

from jobs.runtime.tables import Warehouse, contract


def contents(warehouse: Warehouse) -> dict[str, Counter[str]]:
    """Each table's rows as text, volatile columns aside, with how often each is there."""
    return {table: rows(warehouse, table) for table in warehouse.tables()}


def rows(warehouse: Warehouse, table: str) -> Counter[str]:
    """The same of one table."""
    frame = warehouse.read(table).drop(*contract(table).VOLATILE)
    return Counter(
        json.dumps(row.asDict(recursive=True), sort_keys=True, default=repr)
        for row in frame.collect()
    )


def versions(warehouse: Warehouse) -> dict[str, int]:
    """Every table's version."""
    return {table: warehouse.version(table) for table in warehouse.tables()}
