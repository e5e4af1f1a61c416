import random

from hypothesis import given
from hypothesis import strategies as st

from udfs.size_tiers import FAN, FULL, LARGEST, SMALLEST, merged

SIZES = st.integers(0, 30).map(lambda e: random.Random(e).randrange(2 ** (e + 1)))
FILES = st.lists(st.one_of(SIZES, st.sampled_from([SMALLEST, SMALLEST - 1, FULL, FULL - 1])))


def after(sizes: list[int]) -> list[int]:
    """Sizes once what is due is merged, if sizes add up."""
    groups = merged(sizes)
    gone = {at for group in groups for at in group}
    return [size for at, size in enumerate(sizes) if at not in gone] + [
        sum(sizes[at] for at in group) for group in groups
    ]


@given(FILES.map(lambda sizes: sizes * 5))
def test_groups_are_disjoint_large_enough_and_bounded(sizes: list[int]) -> None:
    groups = merged(sizes)

    named = [at for group in groups for at in group]
    assert len(named) == len(set(named))
    assert all(group == sorted(group) and len(group) >= FAN for group in groups)
    assert all(sum(sizes[at] for at in group) <= LARGEST for group in groups)
    assert all(sizes[at] < FULL for at in named)


@given(FILES.map(lambda sizes: sizes * 5))
def test_nothing_is_due_once_it_is_done_and_few_small_files_are_left(sizes: list[int]) -> None:
    left = after(sizes)

    assert not merged(left)
    assert sum(size < FULL for size in left) <= 4 * (FAN - 1)


@given(st.integers(0, 2**32), st.sampled_from([100, SMALLEST, 50 * SMALLEST, FULL // 2]))
def test_whatever_is_appended_is_rewritten_once_a_tier_at_most(seed: int, typical: int) -> None:
    chance = random.Random(seed)
    times = {}  # what a file is made of -> how often it was rewritten
    files: list[tuple[int, list[int]]] = []
    for batch in range(120):
        for _ in range(chance.randrange(1, 8)):
            size = max(1, int(typical * chance.lognormvariate(0, 1)))
            times[len(times)] = (0, size)
            files.append((size, [len(times) - 1]))
        sizes = [size for size, _ in files]
        groups = merged(sizes)
        gone = {at for group in groups for at in group}
        for group in groups:
            parts = [part for at in group for part in files[at][1]]
            for part in parts:
                times[part] = (times[part][0] + 1, times[part][1])
            files.append((sum(sizes[at] for at in group), parts))
        files = [file for at, file in enumerate(files) if at not in gone]
        full = [size for size, _ in files if size >= FULL]
        assert len(files) - len(full) <= 4 * (FAN - 1), batch
    # Of the lowest tier only bytes are bounded: it is merged however little comes of it.
    rewritten = sum(count * size for count, size in times.values())
    total = sum(size for _, size in times.values())
    assert rewritten <= 4 * total + SMALLEST * len(times) / (FAN - 1)


def test_neighbours_are_merged_and_the_last_wait() -> None:
    sizes = [FULL - 1] * 20

    assert merged(sizes) == [list(range(8)), list(range(8, 16))]
    assert merged([FULL] * 100) == []


def test_what_is_merged_is_merged_further_before_it_is_written() -> None:
    sizes = [SMALLEST // 2] * 8 + [SMALLEST] * 7

    assert merged(sizes) == [list(range(15))]
