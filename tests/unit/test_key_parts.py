import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.key_parts import dealt, opened

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(INT64, INT64), max_size=50), st.integers(1, 9))
def test_every_row_is_in_one_part_and_a_key_is_in_one_part_alone(
    rows: list[tuple[int, int]], parts: int
) -> None:
    key, node = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    found = dealt(key, node, parts)

    assert found["part"].to_pylist() == list(range(parts))
    by_part = [
        list(zip(opened(keys).tolist(), opened(nodes).tolist(), strict=True))
        for keys, nodes in (
            (found["keys"].slice(i, 1), found["nodes"].slice(i, 1)) for i in range(parts)
        )
    ]
    assert sorted(row for part in by_part for row in part) == sorted(rows)
    homes = [{key for key, _ in part} for part in by_part]
    assert sum(map(len, homes)) == len({key for key, _ in rows})


@pytest.mark.parametrize("parts", [1, 4])
def test_rows_keep_their_order_within_a_part(parts: int) -> None:
    key = np.repeat(np.arange(8), 3)
    node = np.arange(24)
    for nodes in dealt(key, node, parts)["nodes"]:
        numbers = np.frombuffer(nodes.as_py(), "<i8")
        assert (np.diff(numbers) > 0).all()
