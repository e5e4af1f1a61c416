"""Damage to bytes that knows a little of what it damages; the same bytes for the same chance."""

import gzip
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import pyarrow as pa

# chosen: a reader in Python takes a second for so much; what is wrong shows in less
MAX_BYTES: Final = 256 * 1024
_BLOCK_BYTES: Final = 512  # of a tar: POSIX.1 pax
_NUMBER: Final = re.compile(rb"[0-9]+")
# Where whole things begin and end, in all that is text.
_EDGE: Final = re.compile(rb"[\n,;{}\[\]<>:\"=& ]")
_NUMBERS: Final = (
    b"0",
    b"-1",
    b"1e999",
    b"127",
    b"255",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"9223372036854775808",
    b"18446744073709551616",
    b"9" * 30,
    b"9" * 5000,  # more digits than Python makes a number of
)
# What is hostile to texts of any format.
_TOKENS: Final = (
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",  # half of a surrogate pair
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\r",
    b"\n\n",
    b"\xe2\x80\xa8",
    b"%00",
    b"%2e%2e/",
    b"../",
    b"/etc/passwd",
    b"http://[",
    b"file:///etc/passwd",
    b"NaN",
    b"null",
    b'"',
    b"'",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"PAR1",
    b"PK\x03\x04",
)


def mutated(content: bytes, other: bytes, tokens: Sequence[bytes], chance: Random) -> bytes:
    """The content with one to eight kinds of damage.

    Args:
        content: a valid input.
        other: another of the same format, to splice with.
        tokens: what means something in the format.
        chance: what is done where.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        damage = chance.choice(_DAMAGES)
        content = damage(content, other, tokens, chance)[:MAX_BYTES]
    return content


def packed(content: bytes, chance: Random) -> bytes:
    """The content compressed, and maybe damaged behind that."""
    pack = chance.choice((_gzipped, _zstandard, _in_members))
    found = pack(content)
    return mutated(found, found, (), chance) if chance.random() < 0.5 else found


def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _zstandard(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def _in_members(content: bytes) -> bytes:
    middle = len(content) // 2
    return _gzipped(content[:middle]) + _gzipped(content[middle:])


def _span(content: bytes, chance: Random) -> tuple[int, int]:
    """Some of the content: any bytes, blocks, or what stands between two marks."""
    size = len(content)
    start, length = chance.randrange(size + 1), 1 << chance.randrange(13)
    kind = chance.randrange(3)
    if kind == 0:
        start -= start % _BLOCK_BYTES
        length += -length % _BLOCK_BYTES
    elif kind == 1:
        edges = [m.end() for m in _EDGE.finditer(content, start, start + 4096)]
        if len(edges) > 1:
            start, end = sorted(chance.sample(edges, 2))
            return start, end
    return start, min(start + length, size)


def _flipped(content: bytes, _other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(min(len(damaged), chance.choice((1, 1, 2, 8, 64)))):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _cut(content: bytes, _other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _removed(content: bytes, _other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    start, end = _span(content, chance)
    return content[:start] + content[end:]


def _doubled(content: bytes, _other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    start, end = _span(content, chance)
    # A dozen thousands of what opens something, and is never closed, is what recursion fears.
    times = chance.choice((1, 1, 2, 10, 1000, 100_000))
    piece = content[start:end]
    times = min(times, 1 + MAX_BYTES // max(1, len(piece)))
    return content[:end] + piece * times + content[end:]


def _swapped(content: bytes, _other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    (a, b), (c, d) = sorted((_span(content, chance), _span(content, chance)))
    if b > c:
        return content
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _spliced(content: bytes, other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    if chance.random() < 0.5:
        return content[: _span(content, chance)[0]] + other[_span(other, chance)[0] :]
    at, (start, end) = _span(content, chance)[0], _span(other, chance)
    return content[:at] + other[start:end] + content[at:]


def _grown(content: bytes, _other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    found = list(_NUMBER.finditer(content, chance.randrange(len(content) + 1)))
    if not found:
        return content
    match = chance.choice(found[:20])
    return content[: match.start()] + chance.choice(_NUMBERS) + content[match.end() :]


def _noisy(content: bytes, _other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    start, end = _span(content, chance)
    noise = chance.randbytes(chance.choice((1, 2, 4, 16, 600)))
    return content[:start] + noise + content[end if chance.random() < 0.5 else start :]


def _with_token(content: bytes, _other: bytes, tokens: Sequence[bytes], chance: Random) -> bytes:
    start, end = _span(content, chance)
    token = chance.choice(tokens if tokens and chance.random() < 0.7 else _TOKENS)
    return content[:start] + token + content[end if chance.random() < 0.3 else start :]


def _with_fields(content: bytes, _other: bytes, _tokens: Sequence[bytes], chance: Random) -> bytes:
    """A number of 2, 4 or 8 bytes made extreme."""
    width = chance.choice((2, 4, 8))
    if len(content) < width:
        return content
    at = chance.randrange(len(content) - width + 1)
    value = chance.choice(
        (0, 1, (1 << 8 * width - 1) - 1, 1 << 8 * width - 1, (1 << 8 * width) - 1)
    )
    return (
        content[:at]
        + value.to_bytes(width, chance.choice(("little", "big")))
        + content[at + width :]
    )


_DAMAGES: Final[tuple[Callable[[bytes, bytes, Sequence[bytes], Random], bytes], ...]] = (
    _flipped,
    _cut,
    _removed,
    _doubled,
    _swapped,
    _spliced,
    _grown,
    _noisy,
    _with_token,
    _with_token,
    _with_fields,
)
