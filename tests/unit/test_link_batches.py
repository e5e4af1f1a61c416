from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest

from udfs.link_batches import ROWS, Operator, contracting, judging, spanning

LINKS = pa.table(
    {
        "component": [1, 1, 1, 8],
        "a": [1, 2, 1, 8],
        "b": [2, 3, 3, 9],
        "similarity": np.float32([0.5, 0.75, 0.25, 1]),
        "a_score": [None, 4.0, None, None],
        "b_score": [4.0, 3.0, 3.0, None],
    }
)


def rows(batches: Iterable[pa.RecordBatch]) -> list[dict[str, object]]:
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("operator", [contracting(), contracting(shuffle=1), spanning, judging])
def test_a_task_without_links_says_nothing(operator: Operator) -> None:
    assert list(operator([])) == []
    assert rows(operator(LINKS.schema.empty_table().to_batches())) == []


def test_links_that_come_in_several_batches_are_one_graph() -> None:
    found = rows(contracting()(LINKS.to_batches(max_chunksize=1)))

    assert {row["node"]: row["root"] for row in found} == {1: 1, 2: 1, 3: 1, 8: 8, 9: 8}


def test_the_spanning_links_keep_their_columns() -> None:
    kept = rows(spanning(LINKS.to_batches(max_chunksize=2)))

    assert kept == [row for row in LINKS.to_pylist() if (row["a"], row["b"]) != (1, 3)]


def test_a_node_comes_with_the_link_that_demoted_it() -> None:
    judged = {row.pop("node"): row for row in rows(judging(LINKS.to_batches()))}

    assert judged[2] == {
        **{"cluster": 1, "elder": 2, "similarity": 1.0, "is_duplicate": False},
        **dict.fromkeys(("a", "b", "a_score", "b_score")),
    }
    assert judged[1] == {
        **{"cluster": 1, "elder": 2, "similarity": 0.5, "is_duplicate": True},
        **{"a": 1, "b": 2, "a_score": None, "b_score": 4.0},
    }
    assert {node: row["elder"] for node, row in judged.items()} == {1: 2, 2: 2, 3: 2, 8: 8, 9: 8}


def test_what_comes_out_comes_in_batches_of_bounded_length() -> None:
    a = np.arange(3 * ROWS)
    chain = pa.record_batch({"a": a, "b": a + 1})

    assert max(batch.num_rows for batch in contracting()([chain])) == ROWS
