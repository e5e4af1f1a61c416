"""Texts that share runs of words with the items of a benchmark."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from schemas.contamination import EXACT_TEXT, TEXT_8GRAM, TEXT_13GRAM

# Words of a run that texts do not share by chance (Brown et al. 2020, arXiv:2005.14165, app. C:
# from 8 to 13, punctuation and case aside; one shared 13-gram is a hit).
LONG: Final = 13
SHORT: Final = 8
# Share of an item's 8-grams, where one of the two texts is too short for a 13-gram (chosen:
# stricter than the 0.7 of Chowdhery et al. 2022, arXiv:2204.02311, § 8).
MIN_SHORT_SHARE: Final = 0.5
# A run of words in more texts of the registry than this is a prompt's template, not an item
# (Brown et al. likewise drop what more than 10 documents share).
MOST_TEXTS: Final = 10
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit is lost: 2^64 / golden ratio
_WORD: Final = re.compile(r"\w+")

_Keys = NDArray[np.uint64]
_Numbers = NDArray[np.int64]


class Hits(NamedTuple):
    """Rows that met something, ordered by row.

    Attributes:
        rows: (n,) int64, which row.
        items: (n,) int64, what it met.
        scores: (n,) float32 in (0, 1].
    """

    rows: _Numbers
    items: _Numbers
    scores: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: Iterable["Hits"]) -> Self:
        """Some parts one behind the other; none give none."""
        nothing = Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        rows, items, scores = zip(nothing, *parts, strict=True)
        return cls(np.concatenate(rows), np.concatenate(items), np.concatenate(scores))

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Hits":
        """Some of the hits, by mask or by number."""
        return Hits(self.rows[chosen], self.items[chosen], self.scores[chosen])


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, lower case.

    Of scripts that put no space between words, a whole run counts as one.

    >>> words("A cat's  MAT.")
    ['a', 'cat', 's', 'mat']
    """
    return _WORD.findall(text.lower())


def spread(starts: _Numbers, counts: _Numbers) -> _Numbers:
    """The numbers from each start on, as many as counted, one after the other.

    >>> spread(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(counts) - counts
    numbers: _Numbers = np.repeat(starts - before, counts) + np.arange(counts.sum())
    return numbers


@dataclass(frozen=True)
class _Hashed:
    """The words of some texts, each text behind the other.

    Attributes:
        words: (w,) uint64 hashes.
        sizes: (n,) int64 words of each text.
    """

    words: _Keys
    sizes: _Numbers

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]]) -> Self:
        hashes: dict[str, int] = {}
        for word in {word for text in texts for word in text}:
            hashed = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8)
            hashes[word] = int.from_bytes(hashed.digest(), "little")
        sizes = np.array([len(text) for text in texts], np.int64)
        flat = (hashes[word] for text in texts for word in text)
        return cls(np.fromiter(flat, np.uint64, int(sizes.sum())), sizes)

    def grams(self, size: int) -> tuple[_Numbers, _Keys]:
        """Text and hash of each distinct run of so many words."""
        starts = len(self.words) - size + 1
        if starts <= 0:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        keys = np.zeros(starts, np.uint64)
        for place in range(size):  # a polynomial of the words; its arithmetic wraps at 2^64
            keys = keys * _BASE + self.words[place : place + starts]
        text = np.repeat(np.arange(len(self.sizes)), self.sizes)[:starts]
        is_within = np.arange(starts) + size <= np.cumsum(self.sizes)[text]
        return _distinct(text[is_within], keys[is_within])


def _distinct(texts: _Numbers, keys: _Keys) -> tuple[_Numbers, _Keys]:
    order = np.lexsort((keys, texts))
    texts, keys = texts[order], keys[order]
    is_new = np.ones(len(keys), bool)
    is_new[1:] = (texts[1:] != texts[:-1]) | (keys[1:] != keys[:-1])
    return texts[is_new], keys[is_new]


@dataclass(frozen=True)
class _Grams:
    """The runs of one length that a registry's texts have.

    Attributes:
        keys: (g,) uint64 hashes, ascending.
        texts: (g,) int64, whose.
        counts: (n,) int64 runs of each text.
    """

    keys: _Keys
    texts: _Numbers
    counts: _Numbers

    @classmethod
    def of(cls, hashed: _Hashed, size: int) -> Self:
        texts, keys = hashed.grams(size)
        _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
        is_own = counts[place] <= MOST_TEXTS
        texts, keys = texts[is_own], keys[is_own]
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], texts[order], np.bincount(texts, minlength=len(hashed.sizes)))

    def met(self, hashed: _Hashed, size: int) -> Hits:
        """Each row and text that share a run; scored by the share of the text's runs."""
        rows, keys = hashed.grams(size)
        first = np.searchsorted(self.keys, keys)
        found = np.searchsorted(self.keys, keys, "right") - first
        width = max(len(self.counts), 1)
        pairs = np.repeat(rows, found) * width + self.texts[spread(first, found)]
        pairs, shared = np.unique(pairs, return_counts=True)
        texts = pairs % width
        return Hits(pairs // width, texts, (shared / self.counts[texts]).astype(np.float32))


@dataclass(frozen=True)
class NgramIndex:
    """Texts of a registry, to be met by others; nothing but numbers, and picklable.

    Runs of words are known by 64 bits: 10^10 captions of 20 words against 10^6 runs meet one by
    chance with probability 0.01.
    """

    sizes: _Numbers
    whole: dict[bytes, int]
    long: _Grams
    short: _Grams

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Index of texts, of which no two have the same words.

        Raises:
            ValueError: one has no words, or those of another.
        """
        taken = [words(text) for text in texts]
        hashed = _Hashed.of(taken)
        whole = {_name(text): number for number, text in enumerate(taken) if text}
        if len(whole) < len(texts):
            raise ValueError(
                f"{len(texts)} texts have words in {len(whole)} ways; allowed distinct ones with"
                " words: leave the others out"
            )
        return cls(hashed.sizes, whole, _Grams.of(hashed, LONG), _Grams.of(hashed, SHORT))

    def met(self, texts: Sequence[str]) -> dict[str, Hits]:
        """What the texts share with those of the index, by method.

        `exact_text`: the same words in the same order, all that a text of under 8 words can show.
        `text_13gram`: 13 words in a row, scored by the share of the item's runs of 13.
        `text_8gram`: half of the item's runs of 8 words, where one of the two texts is too short
        for a run of 13; scored by the share.

        Args:
            texts: any; one without words meets nothing.

        >>> index = NgramIndex.of(["a cat on a mat"])
        >>> index.met(["A cat, on a mat!", "a cat"])["exact_text"].rows.tolist()
        [0]
        """
        taken = [words(text) for text in texts]
        hashed = _Hashed.of(taken)
        short = self.short.met(hashed, SHORT)
        is_short = (hashed.sizes[short.rows] < LONG) | (self.sizes[short.items] < LONG)
        return {
            EXACT_TEXT: self._equal(taken),
            TEXT_13GRAM: self.long.met(hashed, LONG),
            TEXT_8GRAM: short.only(is_short & (short.scores >= MIN_SHORT_SHARE)),
        }

    def _equal(self, texts: Sequence[Sequence[str]]) -> Hits:
        items = np.array([self.whole.get(_name(text), -1) for text in texts], np.int64)
        rows = np.flatnonzero(items >= 0)
        return Hits(rows, items[rows], np.ones(len(rows), np.float32))


def _name(text: Sequence[str]) -> bytes:
    joined = " ".join(text).encode("utf-8", "surrogatepass")  # no word holds a space
    return hashlib.blake2b(joined, digest_size=16).digest()
