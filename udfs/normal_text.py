"""The words of a text in lower case: what text duplicates are compared by."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from udfs.compiled import compiled

VERSION: Final = "lower-words/1"  # whatever changes a normal text changes it
_WORD: Final = re.compile(r"\w+")
_KNOWN: Final = 0x20000  # planes 0 and 1: beyond lie rare ideographs, left to Python
_SPACE: Final = 32
_ASK: Final = 1 << 31  # in the table: ask Python
# Of all code points `str.lower` treats these alone by more than their own: a final sigma looks
# at its neighbours, the dotted capital I becomes two.
_IRREGULAR: Final = (0x3A3, 0x130)
# The lower case of a text is at most half as long again (measured over all code points: U+023A
# and U+023E go from two bytes to three).
_GROWTH: Final = 1.5


@dataclass(frozen=True)
class NormalTexts:
    """Texts as their words in lower case, joined by one space, in UTF-8.

    Attributes:
        data: uint8, the texts, not necessarily in order.
        starts: int64 [n], where each starts in ``data``.
        stops: int64 [n], where it stops; a blank text has no byte.
        is_wordless: bool [n], that a text has bytes but no word: it stands as it is, in lower
            case and without the white space around it.
    """

    data: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    is_wordless: np.ndarray

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.starts)

    def text(self, i: int) -> bytes:
        """One of them."""
        return self.data[self.starts[i] : self.stops[i]].tobytes()


def normal(text: str) -> str:
    r"""The words of a text, the maximal runs of Unicode `\w` of its lower case, by one space each.

    What has no word at all (emoji, punctuation) stays as it is, but for case and the white space
    around it. This is the definition; `normal_texts` does the same to very many.

    >>> normal("  Hello,\nWORLD! "), normal(" :-) ")
    ('hello world', ':-)')
    """
    lower = text.lower()
    return " ".join(_WORD.findall(lower)) or lower.strip()


def as_bytes(texts: pa.Array | Sequence[str | None]) -> pa.LargeBinaryArray:
    """The UTF-8 of texts; null becomes empty, a lone surrogate its three bytes.

    Args:
        texts: an Arrow array of strings or binaries, or strings of Python.
    """
    if not isinstance(texts, pa.Array):
        encoded = [
            None if text is None else text.encode("utf-8", "surrogatepass") for text in texts
        ]
        texts = pa.array(encoded, pa.large_binary())
    return pc.fill_null(texts.cast(pa.large_binary()), b"")


def offsets_of(texts: pa.LargeBinaryArray) -> np.ndarray:
    """int64 [n + 1], where each of n texts starts in the buffer of all, and the last one's end."""
    buffer = texts.buffers()[1]
    if buffer is None:  # Arrow allows that for no texts
        return np.zeros(1, np.int64)
    offsets: np.ndarray = np.frombuffer(buffer, np.int64)[texts.offset :][: len(texts) + 1]
    return offsets


def normal_texts(texts: pa.LargeBinaryArray) -> NormalTexts:
    """The normal form of every text, in time linear in their bytes.

    Args:
        texts: as `as_bytes` gives them; bytes that are no UTF-8 stand between words.

    >>> found = normal_texts(as_bytes(["A cat!", None, "\N{PARTY POPPER} "]))
    >>> [found.text(i).decode() for i in range(3)]
    ['a cat', '', '\N{PARTY POPPER}']
    """
    n = len(texts)
    offsets, raw = offsets_of(texts), np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    out = np.empty(int((offsets[-1] - offsets[0]) * _GROWTH) + n + 4, np.uint8)
    starts, stops = np.empty(n, np.int64), np.empty(n, np.int64)
    is_asked = np.zeros(n, np.bool_)
    written = _normal(raw, offsets, _lower_words(), out, starts, stops, is_asked)
    is_wordless = np.zeros(n, np.bool_)
    rest = []
    for i in np.flatnonzero(is_asked).tolist():
        text = texts[i].as_py().decode("utf-8", "surrogateescape")  # and back, whatever bytes
        form = normal(text)
        is_wordless[i] = form != "" and _WORD.search(form) is None
        encoded = form.encode("utf-8", "surrogateescape")
        starts[i], stops[i] = written, written + len(encoded)
        written += len(encoded)
        rest.append(encoded)
    if rest:
        kept = written - sum(map(len, rest))
        out = np.concatenate([out[:kept], np.frombuffer(b"".join(rest), np.uint8)])
    return NormalTexts(out[:written], starts, stops, is_wordless)


@functools.cache
def _lower_words() -> np.ndarray:
    """Of each code point its lower case, if that is of a word, else 0; `_ASK` where Python must."""
    table = np.zeros(_KNOWN, np.uint32)
    for code in range(_KNOWN):
        lower = chr(code).lower()
        if code in _IRREGULAR:
            table[code] = _ASK
        elif _is_word(lower):
            table[code] = ord(lower)
    return table


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


@compiled
def _decoded(
    raw: np.ndarray, at: int, stop: int
) -> tuple[np.int64 | int, int]:  # pragma: no cover - runs compiled
    """The code point there and its bytes; -1 and one byte where there is none."""
    lead = np.int64(raw[at])
    if 0xC2 <= lead < 0xE0:
        size, code, least = 2, lead & 0x1F, 0x80
    elif 0xE0 <= lead < 0xF0:
        size, code, least = 3, lead & 0x0F, 0x800
    elif 0xF0 <= lead < 0xF5:
        size, code, least = 4, lead & 0x07, 0x10000
    else:
        return -1, 1
    if at + size > stop:
        return -1, 1
    for i in range(1, size):
        byte = np.int64(raw[at + i])
        if byte & 0xC0 != 0x80:
            return -1, 1
        code = (code << 6) | (byte & 0x3F)
    if code < least or code > 0x10FFFF:
        return -1, 1
    return code, size


@compiled
def _encode(code: int, out: np.ndarray, at: int) -> int:  # pragma: no cover - runs compiled
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at], out[at + 1] = 0xC0 | (code >> 6), 0x80 | (code & 0x3F)
        return at + 2
    if code < 0x10000:
        out[at], out[at + 1] = 0xE0 | (code >> 12), 0x80 | ((code >> 6) & 0x3F)
        out[at + 2] = 0x80 | (code & 0x3F)
        return at + 3
    out[at], out[at + 1] = 0xF0 | (code >> 18), 0x80 | ((code >> 12) & 0x3F)
    out[at + 2], out[at + 3] = 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)
    return at + 4


@compiled
def _normal(
    raw: np.ndarray,
    offsets: np.ndarray,
    lower_words: np.ndarray,
    out: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    is_asked: np.ndarray,
) -> int:  # pragma: no cover - runs compiled
    """Write what the table can tell, mark what Python must; returns the bytes written."""
    ascii_words = lower_words[:128].astype(np.uint8)
    end = 0
    for i in range(len(starts)):
        at, stop = offsets[i], offsets[i + 1]
        start = end
        is_open = False  # the last byte written belongs to a word
        while at < stop:
            byte = raw[at]
            if byte < 0x80:  # without a branch on what ends a word: a wrong guess is dear
                low = ascii_words[byte]
                is_word = low != 0
                out[end] = low if is_word else _SPACE
                end += is_word | is_open
                is_open = is_word
                at += 1
                continue
            code, size = _decoded(raw, at, stop)
            at += size
            low = 0
            if code >= _KNOWN:
                is_asked[i] = True
            elif code >= 0:
                low = np.int64(lower_words[code])
            if low == _ASK:
                is_asked[i] = True
            if is_asked[i]:
                break
            if low:
                end = _encode(low, out, end)
                is_open = True
            elif is_open:
                out[end] = _SPACE
                end += 1
                is_open = False
        if end > start and not is_open:
            end -= 1
        if end == start and offsets[i + 1] > offsets[i]:
            is_asked[i] = True
        if is_asked[i]:
            end = start
        starts[i], stops[i] = start, end
    return end
