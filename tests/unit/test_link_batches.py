from collections.abc import Iterable
from typing import Final

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
        "was": pa.nulls(4, pa.int64()),
        "revision": pa.nulls(4, pa.int32()),
    }
)
WERE: Final = ("was_cluster", "was_elder", "was_similarity", "was_is_duplicate")


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
        **dict.fromkeys(("a", "b", "a_score", "b_score", "was", "revision", *WERE)),
    }
    assert judged[1] == {
        **{"cluster": 1, "elder": 2, "similarity": 0.5, "is_duplicate": True},
        **{"a": 1, "b": 2, "a_score": None, "b_score": 4.0},
        **dict.fromkeys(("was", "revision", *WERE)),
    }
    assert {node: row["elder"] for node, row in judged.items()} == {1: 2, 2: 2, 3: 2, 8: 8, 9: 8}


def old(*links: tuple[int, int, float]) -> pa.Table:
    """Links from before, of a cluster 1."""
    a, b, similarity = zip(*links, strict=True)
    return pa.table(
        {
            "component": [1] * len(links),
            "a": a,
            "b": b,
            "similarity": np.float32(similarity),
            "a_score": pa.nulls(len(links), pa.float64()),
            "b_score": pa.nulls(len(links), pa.float64()),
            "was": [1] * len(links),
            "revision": pa.array([5] * len(links), pa.int32()),
        }
    )


def test_nodes_come_with_what_the_old_links_say_of_them() -> None:
    links = pa.concat_tables([LINKS.slice(1, 1), old((1, 2, 0.5)), LINKS.slice(3)])

    judged = {row["node"]: row for row in rows(judging(links.to_batches()))}

    were = {node: tuple(row[name] for name in WERE) for node, row in judged.items()}
    # Between 1 and 2 without scores the lesser stays; 2 has its score from the new link.
    assert were == {
        1: (1, 1, 1.0, False),
        2: (1, 1, 0.5, True),
        3: (None,) * 4,
        **{8: (None,) * 4, 9: (None,) * 4},
    }
    assert judged[1]["elder"] == 2
    assert (judged[1]["was"], judged[1]["revision"]) == (1, 5)
    assert (judged[3]["was"], judged[3]["revision"]) == (None, None)


def test_an_old_link_that_leaves_the_forest_is_told() -> None:
    links = pa.concat_tables([old((1, 3, 0.25)), LINKS.slice(0, 2)])

    left = [row for row in rows(judging(links.to_batches())) if row["node"] is None]

    assert len(left) == 1
    link = ("a", "b", "similarity", "cluster", "was", "revision")
    assert tuple(left[0][name] for name in link) == (1, 3, 0.25, 1, 1, 5)
    assert rows(spanning(links.to_batches())) == links.to_pylist(), "a part keeps old links"


def test_a_new_link_of_an_old_pair_says_nothing() -> None:
    again = LINKS.slice(0, 1)  # 1 and 2 at 0.5, with a score

    judged = rows(judging(pa.concat_tables([again, old((2, 1, 0.25))]).to_batches()))

    assert [(row["node"], row["similarity"]) for row in judged] == [(1, 1.0), (2, 0.25)]
    assert judged[1]["was"] == 1


def test_what_comes_out_comes_in_batches_of_bounded_length() -> None:
    a = np.arange(3 * ROWS)
    chain = pa.record_batch({"a": a, "b": a + 1})

    assert max(batch.num_rows for batch in contracting()([chain])) == ROWS
