import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.sha1 import WORDS, sha1

# Around the ends of blocks, where the padding takes another one.
LENGTHS = [*range(70), 118, 119, 120, 127, 128, 129, 1000]


def digests(data: bytes, starts: list[int], stops: list[int], words: int = WORDS) -> list[bytes]:
    buffer = np.frombuffer(data, np.uint8)
    found = sha1(buffer, np.array(starts, np.int64), np.array(stops, np.int64), words)
    assert found.dtype == np.uint32
    assert found.shape == (words, len(starts))
    return [column.tobytes() for column in found.T]


def expected(data: bytes, starts: list[int], stops: list[int], words: int = WORDS) -> list[bytes]:
    pairs = zip(starts, stops, strict=True)
    return [hashlib.sha1(data[a:b]).digest()[: 4 * words] for a, b in pairs]


@pytest.mark.parametrize("words", range(1, WORDS + 1))
def test_every_length_about_a_block_is_hashlibs(words) -> None:
    data = bytes(i * 37 % 256 for i in range(1000))
    starts = [0] * len(LENGTHS)
    assert digests(data, starts, LENGTHS, words) == expected(data, starts, LENGTHS, words)


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0), st.integers(0)), max_size=70))
def test_any_slices_are_hashlibs(data, slices) -> None:
    bounds = [sorted((a % (len(data) + 1), b % (len(data) + 1))) for a, b in slices]
    starts, stops = [a for a, _ in bounds], [b for _, b in bounds]
    assert digests(data, starts, stops) == expected(data, starts, stops)


def test_a_long_message_among_short_ones_is_hashlibs() -> None:
    data = bytes(300_000)
    starts, stops = [0, 0, 7, 1], [3, 300_000, 7, 200_000]
    assert digests(data, starts, stops) == expected(data, starts, stops)


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (-1, 2), (3, 2)])
def test_a_slice_outside_of_the_data_is_refused(start, stop) -> None:
    with pytest.raises(ValueError, match="allowed 3 bytes"):
        digests(b"abc", [start], [stop])
