import re
import time

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from udfs.normal_text import as_bytes, normal, normal_texts

# What makes words: letters, marks and blanks of many scripts, the irregular capitals, both ends
# of the planes that the table knows.
TRICKY = "aZ_9 \t\n\x00\x1c\x85.,-'\u2019\u2014\u00a0\u00e9\u0130\u03a3\u03c3\u1e9e\u023a\u0301"
TRICKY += "\u4e2d\uac00\u0928\u0947\u212a\u24b6\u00b2\ud800\udfff\uffff\U0001f389\U00010400"
TRICKY += "\U0001ffff\U00020000\U0010ffff"
texts = st.one_of(st.text(), st.text(TRICKY), st.text("aB ."))


def forms(rows) -> list[bytes]:
    found = normal_texts(as_bytes(rows))
    return [found.text(i) for i in range(len(found))]


def plain(text: str | None) -> bytes:
    return normal(text or "").encode("utf-8", "surrogatepass")


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), texts), max_size=8))
@example(["\u0130x", "A\u03a3 \u03a3A", "\u023a" * 99, None, "", " ", "\ud83c\udf89 \udc00"])
def test_many_at_once_are_as_one_by_one(rows) -> None:
    assert forms(rows) == [plain(row) for row in rows]


@settings(deadline=None)
@given(texts)
def test_a_normal_text_is_its_words_or_itself(text) -> None:
    words = re.findall(r"\w+", text.lower())
    assert normal(text) == (" ".join(words) if words else text.lower().strip())
    found = normal_texts(as_bytes([text]))
    assert found.is_wordless[0] == (not words and bool(text.strip()))


def test_every_code_point_is_treated_as_python_does() -> None:
    # Between letters, so that what looks at its neighbours has some. Beyond is Python's own.
    for first in range(0, 0x21000, 0x1000):
        text = " ".join(f"q{chr(code)}Q" for code in range(first, first + 0x1000))
        assert forms([text]) == [plain(text)], hex(first)
        irregular = re.compile("[\u0130\u03a3\U00020000-\U0010ffff]")
        assert forms([irregular.sub("", text)]) == [plain(irregular.sub("", text))], hex(first)


@settings(deadline=None)
@given(st.binary(max_size=40))
@example(b"a\xc1\xa1b \xe0\x80\xafc \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82x \xf0\x9f\x8e")
@example("\u03a3".encode() + b"\xff\xfea")
@example(b"\xff \xfe")
@example(b"x\xe0\x81\xa1y")
def test_bytes_that_are_no_text_stand_between_words(raw) -> None:
    text = raw.decode("utf-8", "surrogateescape")
    expected = normal(text).encode("utf-8", "surrogateescape")
    assert forms(pa.array([b"before", raw, b"after"])) == [b"before", expected, b"after"]


def test_slices_and_the_empty_array_are_their_texts() -> None:
    array = pa.array(["A b", None, "C", "\u00c9", "x"])
    assert forms(array[1:4]) == [b"", b"c", "\u00e9".encode()]
    assert forms(array[5:]) == forms(pa.array([], pa.string())) == forms([]) == []
    bare = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 0, [None, None, pa.py_buffer(b"")])
    assert forms(bare) == []
    assert forms(pa.array([None, None], pa.string())) == [b"", b""]


@pytest.mark.parametrize("unit", ["a", "\u00c9 ", "\u03a3 ", "\x00"])
def test_ten_megabytes_take_no_more_than_their_share(unit) -> None:
    text = unit * (10_000_000 // len(unit.encode()))
    forms(["warm"])
    started = time.process_time()
    [form] = forms([text])
    assert time.process_time() - started < 20  # seen: 0.05 to 2 s
    assert form == plain(text)
