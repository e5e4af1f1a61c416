"""The set of shingles of a text, by their hashes: what its near duplicates share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from udfs import normal_text
from udfs.compiled import compiled
from udfs.normal_text import NormalTexts, as_bytes, normal_texts, offsets_of
from udfs.sha1 import WORDS, sha1

HASH: Final = "sha1_hash32"  # datasketch's name for the first four bytes, the lowest first
MAX_SIZE: Final = 64  # chosen: the published sizes end at 24 characters (NeMo Curator)
# Of the SHA-1 of an only shingle so much more is kept, by 16 bits: with the 32 of the hash 144,
# where 10^12 captions agree with probability 10^-20, in 18 bytes, no multiple of four.
REST: Final = 7
# Chosen: what a step writes the next one finds in the cache of a core.
_CHUNK_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Shingling:
    """How a text is cut.

    Attributes:
        unit: `word`, or `character` of the words joined by one space.
        size: units in a shingle, 1 to 64; five words are FineWeb's.
        normaliser: what the text went through before.
    """

    unit: Literal["word", "character"] = "word"
    size: int = 5
    normaliser: str = normal_text.VERSION

    def __post_init__(self) -> None:
        """Refuse what cannot be cut.

        Raises:
            ValueError: a unit, size or normaliser that does not exist here.
        """
        if self.unit not in ("word", "character"):
            raise ValueError(
                f"shingle unit got {self.unit!r}; allowed word, character; correct the setting"
            )
        if not 1 <= self.size <= MAX_SIZE:
            raise ValueError(
                f"shingle size got {self.size}; allowed 1 to {MAX_SIZE}; correct the setting"
            )
        if self.normaliser != normal_text.VERSION:
            raise ValueError(
                f"normaliser got {self.normaliser!r}; allowed {normal_text.VERSION!r};"
                " use the version of the software that wrote it"
            )


@dataclass(frozen=True)
class ShingleSets:
    """Sets of hashed shingles, one a text.

    A set of one shingle (a caption of at most five words) would be another text's wherever 32 bits
    agree, one pair of 10^5 captions: it carries more of its shingle's SHA-1.

    Attributes:
        values: uint32, the sets one after another, each ascending and without repetition.
        offsets: int64 [n + 1], where each set starts in ``values``; a text that is null or blank
            has an empty set.
        rest: uint16 [n, 7], the next 112 bits of the SHA-1 of an only shingle; else zeros.
    """

    values: np.ndarray
    offsets: np.ndarray
    rest: np.ndarray

    def __len__(self) -> int:
        """Number of sets."""
        return len(self.rest)

    @property
    def sizes(self) -> np.ndarray:
        """int64 [n], shingles of each."""
        return np.diff(self.offsets)

    def hashes(self, i: int) -> set[int]:
        """One set, for tests and display."""
        return set(self.values[self.offsets[i] : self.offsets[i + 1]].tolist())


def shingle_sets(
    texts: pa.Array | Sequence[str | None], shingling: Shingling = Shingling()
) -> ShingleSets:
    """The shingles of every text.

    A shingle is so many neighbouring words (or characters) of the normal text, in UTF-8. A text
    that is shorter than one is its own only shingle, as is one without any word: such are equal
    or they share nothing.

    Args:
        texts: Arrow strings, or strings of Python; null allowed.
        shingling: unit and size.

    Returns:
        As many sets, in time and memory linear in the bytes of the texts.

    >>> sets = shingle_sets(["One two three four five six.", "one, TWO", "one two", None])
    >>> sets.sizes.tolist(), sets.hashes(1) == sets.hashes(2)
    ([2, 1, 1, 0], True)
    """
    parts = [_sets(normal_texts(chunk), shingling) for chunk in _chunks(as_bytes(texts))]
    sizes = np.concatenate([part.sizes for part in parts])
    return ShingleSets(
        values=np.concatenate([part.values for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        rest=np.concatenate([part.rest for part in parts]),
    )


def _chunks(texts: pa.LargeBinaryArray) -> Iterator[pa.LargeBinaryArray]:
    """Neighbours of so many bytes together, a longer text by itself; at least one chunk."""
    offsets = offsets_of(texts)
    first = 0
    while first < len(texts):
        room = offsets[first] + _CHUNK_BYTES
        after = max(int(np.searchsorted(offsets, room, side="right")) - 1, first + 1)
        yield texts[first:after]
        first = after
    if first == 0:
        yield texts


def _sets(texts: NormalTexts, shingling: Shingling) -> ShingleSets:
    is_character = shingling.unit == "character"
    # Two words take three bytes at least, so half the bytes and one more are room for all.
    lengths = texts.stops - texts.starts
    room = int((lengths if is_character else (lengths + 1) // 2).sum()) + 1
    starts, stops = np.empty(room, np.int64), np.empty(room, np.int64)
    bounds = np.zeros(len(texts) + 1, np.int64)
    n = _cut(
        texts.data,
        texts.starts,
        texts.stops,
        texts.is_wordless,
        shingling.size,
        is_character,
        starts,
        stops,
        bounds,
    )
    starts, stops = starts[:n], stops[:n]
    hashes = sha1(texts.data, starts, stops)[0]
    offsets = np.zeros(len(texts) + 1, np.int64)
    values = hashes[: _sorted_sets(hashes, bounds, offsets)].copy()
    rest = np.zeros((len(texts), REST), np.uint16)
    only = np.flatnonzero(np.diff(offsets) == 1)
    if len(only):
        first = bounds[only]
        digests = sha1(texts.data, starts[first], stops[first], WORDS)
        rest[only] = np.ascontiguousarray(digests[1:].T).view(np.uint16)[:, :REST]
    return ShingleSets(values, offsets, rest)


@compiled
def _cut(
    data: np.ndarray,
    text_starts: np.ndarray,
    text_stops: np.ndarray,
    is_whole: np.ndarray,
    size: int,
    is_character: bool,
    starts: np.ndarray,
    stops: np.ndarray,
    bounds: np.ndarray,
) -> int:  # pragma: no cover - runs compiled
    """Where every shingle starts and stops; ``bounds`` tells those of each text."""
    gap = 0 if is_character else 1
    n = 0
    for i in range(len(text_starts)):
        first, last = text_starts[i], text_stops[i]
        if first < last:
            starts[n] = first
            units = 1
            if is_whole[i]:
                pass
            elif is_character:
                for at in range(first + 1, last):
                    if data[at] & 0xC0 != 0x80:  # not inside a character
                        starts[n + units] = at
                        units += 1
            else:
                for at in range(first, last - 1):
                    starts[n + units] = at + 1
                    units += data[at] == 32
            shingles = max(units - size + 1, 1)
            for k in range(shingles - 1):
                stops[n + k] = starts[n + k + size] - gap
            stops[n + shingles - 1] = last
            n += shingles
        bounds[i + 1] = n
    return n


@compiled
def _sort(
    values: np.ndarray, other: np.ndarray, counts: np.ndarray
) -> None:  # pragma: no cover - runs compiled
    """Ascending, by digits of a byte: linear whatever the values."""
    n = len(values)
    if n <= 32:  # chosen: below, moving each to its place is faster
        for i in range(1, n):
            value = values[i]
            k = i
            while k > 0 and values[k - 1] > value:
                values[k] = values[k - 1]
                k -= 1
            values[k] = value
        return
    counts[:] = 0
    for i in range(n):
        value = values[i]
        counts[0, value & 0xFF] += 1
        counts[1, (value >> 8) & 0xFF] += 1
        counts[2, (value >> 16) & 0xFF] += 1
        counts[3, value >> 24] += 1
    for digit in range(4):
        place = 0
        for byte in range(256):
            count = counts[digit, byte]
            counts[digit, byte] = place
            place += count
        for i in range(n):
            value = values[i]
            byte = (value >> (8 * digit)) & 0xFF
            other[counts[digit, byte]] = value
            counts[digit, byte] += 1
        values, other = other, values  # four times: the result is where the values were


@compiled
def _sorted_sets(
    hashes: np.ndarray, bounds: np.ndarray, offsets: np.ndarray
) -> int:  # pragma: no cover - runs compiled
    """Each text's hashes ascending and once, moved together to the front."""
    most = 0
    for i in range(len(bounds) - 1):
        most = max(most, bounds[i + 1] - bounds[i])
    other = np.empty(most, np.uint32)
    counts = np.empty((4, 256), np.int64)
    n = 0
    for i in range(len(bounds) - 1):
        first, last = bounds[i], bounds[i + 1]
        _sort(hashes[first:last], other[: last - first], counts)
        for k in range(first, last):
            value = hashes[k]
            hashes[n] = value
            n += k == last - 1 or hashes[k + 1] != value
        offsets[i + 1] = n
    return n
