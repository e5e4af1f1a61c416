import numpy as np
import pytest

from tests.bench.bench_semantic import exact, linked, planted
from udfs.embedding import unit


@pytest.mark.parametrize("seed", range(2))
def test_whatever_the_batches_what_is_near_is_found(seed: int) -> None:
    vectors = planted(4000, 256, seed)
    truth, within = exact(vectors, 0.95), exact(vectors, 0.95 - 1e-6)

    assert len(truth) > 1500
    for batches in (1, 2, 10):
        found, _, candidates = linked(vectors, batches, 0.95)
        assert np.isin(truth, found).mean() >= 0.99
        assert candidates < 2 * len(truth)
        # Products of another size end in another last bit.
        assert np.isin(found, within).all()


def test_the_same_twice() -> None:
    vectors = planted(3000, 64, seed=4)

    once, again = (linked(vectors, 2, 0.95)[:2] for _ in range(2))

    assert np.array_equal(once[0], again[0])
    assert once[1].digest == again[1].digest


def test_more_copies_than_are_kept_are_still_one_group() -> None:
    rng = np.random.default_rng(5)
    vectors = unit(unit(np.ones((1, 128))) + 0.1 * unit(rng.standard_normal((1000, 128))))

    found, _, _ = linked(vectors, 2, 0.95)
    group = np.arange(1000)
    for a, b in zip(*np.divmod(found, 1000), strict=True):
        group[group == group[b]] = group[a]

    assert len(found) < 1000 * 2 * 64 < len(exact(vectors, 0.95))
    assert len(set(group.tolist())) == 1
