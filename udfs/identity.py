"""Names that are digests: the same input gets the same name on every machine and run."""

import hashlib
from typing import Final

SAMPLE_ID_HEX: Final = 32  # 128 bits: 10^10 samples collide with probability 10^-19
FINGERPRINT_BYTES: Final = 16  # 128 bits: of 10^10 contents two are alike with p = 1.5e-19


def digest(*parts: str | int) -> str:
    """Sha256, hex, over the length-prefixed parts, so that no two part lists collide.

    Args:
        parts: texts, or integers in decimal. Lone surrogates (undecodable file names) are kept.

    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    state = hashlib.sha256()
    for part in parts:
        encoded = str(part).encode("utf-8", "surrogatepass")
        state.update(len(encoded).to_bytes(8, "big"))
        state.update(encoded)
    return state.hexdigest()


def fingerprint(content: bytes) -> bytes:
    """The first 128 bits of sha256: what equal contents are known by.

    >>> len(fingerprint(b"")), fingerprint(b"").hex()
    (16, 'e3b0c44298fc1c149afbf4c8996fb924')
    """
    return hashlib.sha256(content).digest()[:FINGERPRINT_BYTES]


def sample_id(dump: str, shard: str, key: str, occurrence: int) -> str:
    """Name of an item: where it lies in its dump, not where the dump lies.

    >>> sample_id("demo", "a.tar", "000012", 0) == sample_id("demo", "a.tar", "000012", 1)
    False
    """
    return digest(dump, shard, key, occurrence)[:SAMPLE_ID_HEX]
