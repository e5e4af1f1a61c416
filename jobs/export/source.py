"""A dual encoder in torch, as any framework brings it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from jobs.models.card import CardPreprocessing, CardTokenizer


@dataclass(frozen=True)
class Source:
    """A dual encoder, what its card must say, and its own preprocessing to compare with.

    Attributes:
        name: of the model.
        origin: where it is from, for the card.
        is_random: its weights were drawn, not learned.
        image: torch module, (n, 3, size_px, size_px) float32 -> (n, dimension) float32.
        text: torch module, (n, context_length) int64 -> (n, dimension) float32.
        preprocessing: how the image module wants its picture.
        tokenizer: how the text module wants its text.
        tokenizer_json: the tokenizer's file; null for CLIP's own merges.
        pixels: the framework's preprocessing: RGB -> (3, size_px, size_px) float32.
        ids: the framework's tokenizer: n texts -> (n, context_length) int64.
    """

    name: str
    origin: Mapping[str, str]
    is_random: bool
    image: Any
    text: Any
    preprocessing: CardPreprocessing
    tokenizer: CardTokenizer
    tokenizer_json: bytes | None
    pixels: Callable[[Image.Image], np.ndarray]
    ids: Callable[[Sequence[str]], np.ndarray]
