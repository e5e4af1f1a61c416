"""The kinds of duplicate search; no table, so that a configuration is read without Spark."""

from typing import Final

EXACT_URL: Final = "exact_url"
EXACT_MEDIA: Final = "exact_media"
EXACT_TEXT: Final = "exact_text"
EXACT_PAIR: Final = "exact_pair"
PHASH: Final = "phash"
CROP: Final = "crop"
MINHASH: Final = "minhash"
SEMANTIC: Final = "semantic"
BOILERPLATE: Final = "boilerplate"
EXACT_CLIP: Final = "exact_clip"
VIDEO: Final = "video"
EXACT_KINDS: Final = (EXACT_URL, EXACT_MEDIA, EXACT_TEXT, EXACT_PAIR, EXACT_CLIP)
# What a verdict of the kind speaks of: a sample, or a clip as delivered.
SAMPLE_KINDS: Final = (
    EXACT_URL,
    EXACT_MEDIA,
    EXACT_TEXT,
    EXACT_PAIR,
    PHASH,
    CROP,
    MINHASH,
    SEMANTIC,
    BOILERPLATE,
)
CLIP_KINDS: Final = (EXACT_CLIP, VIDEO)
KINDS: Final = SAMPLE_KINDS + CLIP_KINDS
# Kinds that judge contents -> the exact kind whose distinct contents these are.
CONTENT: Final = {
    PHASH: EXACT_MEDIA,
    CROP: EXACT_MEDIA,
    MINHASH: EXACT_TEXT,
    SEMANTIC: EXACT_MEDIA,
    BOILERPLATE: EXACT_MEDIA,
    VIDEO: EXACT_CLIP,
}
