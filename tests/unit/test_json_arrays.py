import io
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.json_arrays import elements
from jobs.sources.lines import lines

LIMITS = Limits(
    max_member_bytes=1_000_000,
    max_pixels=1,
    max_decompression_ratio=1,
    max_decompressed_bytes=1,
)
TIGHT = Limits(
    max_member_bytes=100,
    max_pixels=1,
    max_decompression_ratio=1,
    max_decompressed_bytes=1,
)


class Dripping(io.BytesIO):
    """A stream that gives a few bytes at a time, and remembers how much was asked at most."""

    def __init__(self, content: bytes, step: int) -> None:
        super().__init__(content)
        self.step = step
        self.asked = 0

    def read(self, size: int | None = -1) -> bytes:
        self.asked = max(self.asked, size or 0)
        return super().read(min(self.step, size) if size and size > 0 else self.step)


def read(content: bytes, limits: Limits = LIMITS, step: int = 1 << 20) -> list[object]:
    """Elements by name; classes of what is refused."""
    found: list[object] = []
    try:
        for name, element in elements(Dripping(content, step), limits):
            is_refused = isinstance(element, EntryRefused)
            found.append((name, element.error_class if is_refused else element))
    except EntryRefused as refusal:
        found.append(refusal.error_class)
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.lists(JSON) | st.dictionaries(st.text(alphabet="abcä "), JSON | st.lists(JSON)),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.sampled_from([1, 2, 7, 1 << 20]),
)
@settings(max_examples=200, deadline=None)
def test_elements_are_those_that_json_has(document, indent, is_ascii: bool, step: int) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=is_ascii)
    content = text.encode("utf-8", "surrogatepass")

    found = [(n, json.loads(e)) for n, e in elements(Dripping(content, step), LIMITS)]

    arrays = document.items() if isinstance(document, dict) else [(None, document)]
    expected = [(n, e) for n, array in arrays if isinstance(array, list) for e in array]
    assert json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"[]", []),
        (b"\xef\xbb\xbf [ 1 , 2 ] \n", [(None, b"1"), (None, b"2")]),
        (b"{}", []),
        (b'{"a": [1], "b": {"c": [2]}, "d": "[3]"}', [("a", b"1")]),
        (b'["\\"]", "\\\\", "{"]', [(None, b'"\\"]"'), (None, b'"\\\\"'), (None, b'"{"')]),
        # One that is broken inside costs itself, whoever parses it.
        (b'[1, {"a":}, nul, , 2]', [(None, e) for e in (b"1", b'{"a":}', b"nul", b"", b"2")]),
        (b'["a": 1, 2]', [(None, b'"a": 1'), (None, b"2")]),
        (b"", ["unreadable_shard"]),
        (b"7", ["unreadable_shard"]),
        (b"<html>", ["unreadable_shard"]),
        (b"[1, 2", [(None, b"1"), "truncated_shard"]),
        (b'[1, "2', [(None, b"1"), "truncated_shard"]),
        (b"[1, 2] 3", [(None, b"1"), (None, b"2"), "truncated_shard"]),
        (b"[1, 2}", [(None, b"1"), "truncated_shard"]),
        (b'{"a": [1] 2}', [("a", b"1"), "truncated_shard"]),
        (b'{"a", 1}', ["truncated_shard"]),
        (b'{"a": 1', ["truncated_shard"]),
        (b'{"a": [1]', [("a", b"1"), "truncated_shard"]),
        (b"{", ["truncated_shard"]),
        (b"[", ["truncated_shard"]),
    ],
)
def test_a_document_gives_what_can_be_had(content: bytes, found: list[object], step: int) -> None:
    assert read(content, step=step) == found


@pytest.mark.parametrize("step", [1, 13, 1 << 20])
@pytest.mark.parametrize(
    "long",
    [
        b'"' + b"x" * 300 + b'"',
        b'"' + b"\\\\" * 150 + b'"',
        b'{"a": "' + b'\\"]' * 100 + b'"}',
        b"[" * 150 + b"]" * 150,
        b"[" + b"1, " * 100 + b"1]",
        b"1" * 101,
    ],
)
def test_an_element_over_the_limit_costs_itself(long: bytes, step: int) -> None:
    content = b'{"a": [1, ' + long + b', "\\u00e9"], "b": [2]}'

    assert read(content, TIGHT, step) == [
        ("a", b"1"),
        ("a", "member_too_large"),
        ("a", b'"\\u00e9"'),
        ("b", b"2"),
    ]


def test_a_string_without_end_is_not_held() -> None:
    stream = Dripping(b'["' + b"x" * 5_000_000, 1 << 20)

    with pytest.raises(EntryRefused, match="truncated_shard"):
        list(elements(stream, TIGHT))

    assert stream.asked <= 1 << 17


@given(st.binary(max_size=60) | st.text('[]{},:"\\ a1', max_size=30).map(str.encode))
@example(b'{"a":[')
@settings(max_examples=300, deadline=None)
def test_no_bytes_whatever_make_it_fail_and_steps_do_not_matter(content: bytes) -> None:
    assert read(content, TIGHT, 1) == read(content, TIGHT)


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_lines_together_are_the_stream(parts: list[bytes], step: int) -> None:
    content = b"\n".join(parts)
    found = list(lines(Dripping(content, step), LIMITS))

    assert [number for number, _ in found] == list(range(len(found)))
    assert b"".join(line for _, line in found if isinstance(line, bytes)) == content
    assert all(line.index(b"\n") == len(line) - 1 for _, line in found[:-1])


@pytest.mark.parametrize("step", [1, 64, 1 << 20])
def test_a_line_over_the_limit_costs_itself(step: int) -> None:
    content = b"a\n" + b"x" * 300 + b"\n" + b"y" * 99 + b"\n" + b"z" * 101

    found = [line for _, line in lines(Dripping(content, step), TIGHT)]

    assert found[0] == b"a\n"
    assert found[2] == b"y" * 99 + b"\n"
    assert [str(found[i]).partition(";")[0] for i in (1, 3)] == [
        "member_too_large: a line of 301 bytes, limit 100",
        "member_too_large: a line of 101 bytes, limit 100",
    ]
