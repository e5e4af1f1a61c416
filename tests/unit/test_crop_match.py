from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from udfs.crop_hash import crop_hash
from udfs.crop_match import RADIUS, similarity, telling
from udfs.phash import from_hex, to_hex

HASHES = st.integers(-(2**63), 2**63 - 1)
# Neighbours of a few values, so that a segment is often nearest to several.
NEAR = st.builds(
    lambda at, flips: from_hex(f"{at ^ flips:016x}"),
    st.sampled_from([0, 2**40 - 1]),
    st.integers(0, 31),
)
SETS = st.lists(st.one_of(NEAR, HASHES), max_size=5, unique=True).map(
    lambda values: np.array(values, np.int64)
)


def bits(value: int) -> np.ndarray:
    return np.array([int(digit) for digit in f"{int(to_hex(value), 16):064b}"]).reshape(8, 8)


@given(SETS, SETS)
def test_the_best_two_segments_equal_brute_force(one, other) -> None:
    sums = [
        int((bits(a) != bits(c)).sum() + (bits(b) != bits(d)).sum())
        for a, b in combinations(one.tolist(), 2)
        for c, d in permutations(other.tolist(), 2)
    ]
    expected = 1 - min(sums) / 128 if sums else 0.0
    assert similarity(one, other) == similarity(other, one) == expected


@given(st.lists(HASHES, min_size=2, unique=True, max_size=16))
def test_a_picture_is_wholly_like_itself(hashes) -> None:
    assert similarity(np.array(hashes), np.array(hashes)) == 1


@given(st.lists(st.one_of(HASHES, st.sampled_from([0, -1, 0x5555555555555555])), max_size=16))
def test_what_tells_has_many_changes_from_bit_to_bit(hashes) -> None:
    expected = {
        value
        for value in hashes
        if np.abs(np.diff(bits(value))).sum() + np.abs(np.diff(bits(value), axis=0)).sum() >= 24
    }
    found = telling(hashes)
    assert found.tolist() == sorted(expected)
    assert found.dtype == np.int64


def test_a_logo_alone_makes_no_copy() -> None:
    logo, *others = np.random.default_rng(0).integers(-(2**63), 2**63, 7)
    one, other = np.array([logo, *others[:3]]), np.array([logo, *others[3:]])
    assert similarity(one, other) < 1 - RADIUS / 64


@pytest.mark.parametrize("share", [0.95, 0.9])
def test_a_crop_is_like_its_photograph_and_like_no_other(photographs, share) -> None:
    wholes = [telling(crop_hash(image)) for image in photographs]
    found = []
    for image in photographs:
        width, height = (round(side * share) for side in image.size)
        cropped = image.crop((0, 0, width, height)).resize((width * 2 // 3, height * 2 // 3))
        hashes = telling(crop_hash(cropped))
        found.append([similarity(hashes, whole) >= 1 - RADIUS / 64 for whole in wholes])
    of_own = np.diag(found)
    assert np.sum(found) == of_own.sum()
    assert of_own.sum() >= {0.95: 5, 0.9: 2}[share]


def test_what_is_flat_is_like_nothing() -> None:
    flat = telling(crop_hash(Image.new("RGB", (300, 200), "white")))
    assert similarity(flat, flat) == 0
