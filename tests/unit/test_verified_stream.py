import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.verified_stream import VerifiedStream

CONTENT = bytes(range(256)) * 12
BEFORE, AFTER = b"before", b"after"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Counted(io.BytesIO):
    asked = 0

    def read(self, size=-1):
        content = super().read(size)
        self.asked += len(content)
        return content


def window(content: bytes = CONTENT, size: int = len(CONTENT)) -> VerifiedStream:
    stream = Counted(BEFORE + content + AFTER)
    return VerifiedStream(stream, offset_bytes=len(BEFORE), size_bytes=size)


@given(st.lists(st.tuples(st.integers(-10, 4000), st.integers(-1, 4000)), max_size=30))
def test_it_reads_as_the_window_alone_would_and_verifies_whatever_was_read(steps) -> None:
    stream, plain = window(), io.BytesIO(CONTENT)
    for position, size in steps:
        if position < 0:
            assert stream.seek(position) == -1
        else:
            assert stream.seek(position) == plain.seek(position)
        assert stream.read(size) == plain.read(size)
        assert stream.tell() == plain.tell()
    assert stream.matches(SHA256)
    assert not stream.matches("0" * 64)


def test_what_is_read_in_order_is_read_once() -> None:
    file = Counted(CONTENT)
    stream = VerifiedStream(file, offset_bytes=0, size_bytes=len(CONTENT))
    while stream.read(100):
        pass

    assert stream.matches(SHA256)
    assert file.asked == len(CONTENT)


def test_a_demuxer_that_begins_at_the_end_costs_what_it_read_there() -> None:
    file = Counted(CONTENT)
    stream = VerifiedStream(file, offset_bytes=0, size_bytes=len(CONTENT))
    stream.seek(-50, io.SEEK_END)
    stream.read()
    stream.seek(0)
    stream.read(1000)

    assert stream.matches(SHA256)
    assert file.asked == len(CONTENT) + 50


def test_a_byte_that_changed_or_is_missing_does_not_match() -> None:
    other = bytes([1]) + CONTENT[1:]

    assert not window(other).matches(SHA256)
    assert not VerifiedStream(
        io.BytesIO(CONTENT[:-1]), offset_bytes=0, size_bytes=len(CONTENT)
    ).matches(SHA256)


def test_an_error_ends_it_and_is_told_at_the_end() -> None:
    class Failing(io.BytesIO):
        def read(self, _size=-1):
            raise OSError("no such device")

    stream = VerifiedStream(Failing(CONTENT), offset_bytes=0, size_bytes=len(CONTENT))

    assert stream.read(10) == b""
    assert stream.read(10) == b""
    with pytest.raises(OSError, match="no such device"):
        stream.matches(SHA256)


def test_it_says_what_pyav_asks() -> None:
    stream = window()

    assert stream.seekable()
    assert stream.readable()
    assert stream.seek(0, 65536) == -1
    assert stream.seek(10) == stream.seek(0, io.SEEK_CUR) == 10
