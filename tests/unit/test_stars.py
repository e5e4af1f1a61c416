import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from udfs.stars import stars

ids = st.integers(-(2**63), 2**63 - 1)
links = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=20)


def ends(drawn: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.array(drawn, np.int64).T
    return a, b


@settings(deadline=None)  # the first call loads scipy's graphs
@given(links, st.sampled_from([None, 0, 7]))
def test_nodes_have_one_root_just_if_they_are_joined(
    drawn: list[tuple[int, int]], shuffle: int | None
) -> None:
    a, b = ends(drawn)

    node, root, place = stars(a, b, shuffle=shuffle)

    _, label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(13, 13)))
    assert node.tolist() == sorted({*a.tolist(), *b.tolist()})
    for one, of_one in zip(node, root, strict=True):
        for other, of_other in zip(node, root, strict=True):
            assert (of_one == of_other) == (label[one] == label[other])
    assert (label[root] == label[node]).all()
    assert len(set(zip(root.tolist(), place.tolist(), strict=True))) == len(set(root.tolist()))


@settings(deadline=None)  # the first call loads scipy's graphs
@given(links)
def test_the_root_is_the_least_node(drawn: list[tuple[int, int]]) -> None:
    node, root, place = stars(*ends(drawn))

    assert (root <= node).all()
    assert (place == root).all()


@settings(deadline=None)  # the first call loads scipy's graphs
@given(links, links, st.integers(0, 100))
def test_a_shuffle_is_one_order_wherever_it_is_asked_for(
    one: list[tuple[int, int]], other: list[tuple[int, int]], shuffle: int
) -> None:
    places: dict[int, int] = {}
    for drawn in (one, other, one + other):
        _, root, place = stars(*ends(drawn), shuffle=shuffle)
        for name, at in zip(root.tolist(), place.tolist(), strict=True):
            assert places.setdefault(name, at) == at
    assert len(set(places.values())) == len(places)


@settings(deadline=None)  # the first call loads scipy's graphs
@given(st.lists(ids, min_size=2, max_size=50, unique=True), st.integers(0, 100))
def test_places_are_never_the_same(nodes: list[int], shuffle: int) -> None:
    each = np.array(nodes)

    _, _, place = stars(each, each, shuffle=shuffle)

    assert len(set(place.tolist())) == len(nodes)


def test_another_shuffle_is_another_order() -> None:
    a = np.arange(0, 2_000, 2)

    roots = [stars(a, a + 1, shuffle=shuffle)[1] % 2 for shuffle in range(8)]

    shares = np.mean(roots, axis=1)
    assert (abs(shares - 0.5) < 0.06).all()  # four standard deviations of 1,000 coins
    agreement = np.mean(np.array(roots[:-1])[:, ::2] == np.array(roots[1:])[:, ::2], axis=1)
    assert (abs(agreement - 0.5) < 0.1).all()
