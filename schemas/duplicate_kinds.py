"""The kinds of duplicate search; no table, so that a configuration is read without Spark."""

from typing import Final

EXACT_URL: Final = "exact_url"
EXACT_MEDIA: Final = "exact_media"
EXACT_TEXT: Final = "exact_text"
EXACT_PAIR: Final = "exact_pair"
PHASH: Final = "phash"
MINHASH: Final = "minhash"
SEMANTIC: Final = "semantic"
EXACT_KINDS: Final = (EXACT_URL, EXACT_MEDIA, EXACT_TEXT, EXACT_PAIR)
KINDS: Final = (*EXACT_KINDS, PHASH, MINHASH, SEMANTIC)
# Kinds that find near copies -> the exact kind whose distinct contents they compare.
CONTENT: Final = {PHASH: EXACT_MEDIA, MINHASH: EXACT_TEXT, SEMANTIC: EXACT_MEDIA}
