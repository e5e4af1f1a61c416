import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from udfs.same_key import in_order, pairs_of_keys

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 40), st.booleans()), max_size=60)


def found(rows: list[tuple[int, int, bool]], crowd: int = 1000) -> set[tuple[int, int]]:
    key, node, is_fresh = (
        np.array(column, dtype)
        for column, dtype in zip(
            zip(*rows, strict=True) if rows else ((), (), ()),
            (np.int64, np.int64, bool),
            strict=True,
        )
    )
    blocks = pairs_of_keys(*in_order(key, node, is_fresh), crowd)
    return {pair for a, b in blocks for pair in zip(a.tolist(), b.tolist(), strict=True)}


@given(ROWS)
def test_all_pairs_of_a_key_with_something_fresh(rows: list[tuple[int, int, bool]]) -> None:
    expected = {
        (min(m, n), max(m, n))
        for k, m, is_new in rows
        for other, n, is_other_new in rows
        if k == other and m != n and (is_new or is_other_new)
    }
    assert found(rows) == expected


@given(st.integers(2, 50), st.integers(1, 10))
def test_a_crowd_stays_connected(size: int, crowd: int) -> None:
    pairs = found([(7, node, True) for node in range(size)], crowd)
    if size > crowd:
        assert {b for a, b in pairs if a == 0} == set(range(1, size))
        assert len(pairs) <= 2 * size
    else:
        assert len(pairs) == size * (size - 1) // 2
