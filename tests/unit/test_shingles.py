import hashlib
import re
import time

import numpy as np
import pyarrow as pa
import pytest
from datasketch.hashfunc import sha1_hash32
from hypothesis import example, given, settings
from hypothesis import strategies as st

from udfs.shingles import HASH, Shingling, shingle_sets

WORDS = ["a", "b", "Cat", "\u00c9t\u00e9", "\u4e2d\u6587", "\u03a3", "x" * 60, "\U0001f389", "--"]
texts = st.one_of(st.none(), st.text(), st.lists(st.sampled_from(WORDS), max_size=90).map(" ".join))
shinglings = st.builds(Shingling, st.sampled_from(["word", "character"]), st.integers(1, 9))


def shingles(text: str | None, shingling: Shingling) -> set[bytes]:
    """By the definition, with Python's sets of strings."""
    lower = (text or "").lower()
    words = re.findall(r"\w+", lower)
    if not words:
        whole = lower.strip()
        return {whole.encode("utf-8", "surrogatepass")} if whole else set()
    units, joint = (words, " ") if shingling.unit == "word" else (" ".join(words), "")
    size = shingling.size
    starts = range(max(len(units) - size + 1, 1))
    return {joint.join(units[start : start + size]).encode() for start in starts}


@settings(deadline=None)
@given(st.lists(texts, max_size=6), shinglings)
@example([" ".join(f"w{i}" for i in range(400)) * 2, "a" * 70_000, "b c"], Shingling())
@example(["\ud800!", "\udfff!", "a\ud800b"], Shingling())
@example(["a " * 70_000, None], Shingling("character", 3))
def test_sets_are_those_of_python(rows, shingling) -> None:
    sets = shingle_sets(rows, shingling)
    assert len(sets) == len(rows)
    assert sets.offsets[0] == 0
    assert sets.offsets[-1] == len(sets.values)
    for i, row in enumerate(rows):
        expected = shingles(row, shingling)
        assert sets.hashes(i) == {sha1_hash32(shingle) for shingle in expected}
        values = sets.values[sets.offsets[i] : sets.offsets[i + 1]]
        assert (np.diff(values.astype(np.int64)) > 0).all()
        rest = hashlib.sha1(*expected).digest()[4:18] if len(expected) == 1 else bytes(14)
        assert sets.rest[i].tobytes() == rest


def test_the_hash_has_datasketchs_name() -> None:
    assert sha1_hash32.__name__ == HASH


def test_arrow_and_python_texts_have_equal_sets() -> None:
    rows = ["A b c d e f g", None, "", "   ", "\u00e9", "!?"]
    for array in (pa.array(rows), pa.array(["x", *rows], pa.large_string())[1:]):
        found, expected = shingle_sets(array), shingle_sets(rows)
        for attribute in ("values", "offsets", "rest"):
            assert (getattr(found, attribute) == getattr(expected, attribute)).all()
    assert found.sizes.tolist() == [3, 0, 0, 0, 1, 1]


def test_no_text_is_no_set() -> None:
    for nothing in ([], pa.array([], pa.string())):
        sets = shingle_sets(nothing)
        assert len(sets) == len(sets.values) == 0
        assert sets.offsets.tolist() == [0]


def test_captions_of_fewer_words_than_a_shingle_are_equal_or_share_nothing() -> None:
    sets = shingle_sets(["A red car", "a red, car!", "a red", "red car", "car red a"])
    assert sets.hashes(0) == sets.hashes(1)
    assert len({tuple(sets.rest[i]) for i in range(5)}) == 4


@pytest.mark.parametrize(
    ("unit", "shingling"),
    [
        ("a", Shingling()),
        ("a ", Shingling()),
        ("a" * 9999 + " ", Shingling()),
        ("\x00", Shingling()),
        ("ab", Shingling("character", 24)),
    ],
)
def test_ten_megabytes_are_linear_and_their_neighbours_untouched(unit, shingling) -> None:
    text = unit * (10_000_000 // len(unit))
    shingle_sets(["warm"], shingling)
    started = time.process_time()
    sets = shingle_sets(["a cat", text, "a cat"], shingling)
    assert time.process_time() - started < 20  # seen: 0.1 to 2 s
    assert sets.hashes(0) == sets.hashes(2) == {sha1_hash32(b"a cat")}
    assert 1 <= sets.sizes[1] <= 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"unit": "line"}, "shingle unit got 'line'; allowed word, character"),
        ({"size": 0}, "shingle size got 0; allowed 1 to 64"),
        ({"size": 65}, "shingle size got 65"),
        ({"normaliser": "nfd/1"}, "normaliser got 'nfd/1'"),
    ],
)
def test_what_cannot_be_cut_is_refused(setting, message) -> None:
    with pytest.raises(ValueError, match=message):
        Shingling(**setting)
