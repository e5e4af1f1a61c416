"""Counts that need no model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final


@dataclass(frozen=True)
class TextMetrics:
    """Lengths and shares of a text.

    Attributes:
        chars: Unicode code points.
        words: whitespace-separated tokens.
        letter_fraction: letters / code points, in [0, 1].
        digit_fraction: decimal digits / code points, in [0, 1].
        upper_fraction: upper-case letters / letters, in [0, 1].
    """

    chars: int
    words: int
    letter_fraction: float
    digit_fraction: float
    upper_fraction: float


def text_metrics(text: str) -> TextMetrics:
    """Measure any Unicode text; an empty one has zeros throughout.

    >>> text_metrics("A cat 12")
    TextMetrics(chars=8, words=3, letter_fraction=0.5, digit_fraction=0.25, upper_fraction=0.25)
    """
    letters = sum(map(str.isalpha, text))
    digits = sum(map(str.isdecimal, text))
    upper = sum(character.isalpha() and character.isupper() for character in text)
    return TextMetrics(
        chars=len(text),
        words=len(text.split()),
        letter_fraction=letters / max(len(text), 1),
        digit_fraction=digits / max(len(text), 1),
        upper_fraction=upper / max(letters, 1),
    )


class Metrics:
    """The counts as a signal."""

    columns: Final = ("chars", "words", "letter_fraction", "digit_fraction", "upper_fraction")
    version: Final = "text_metrics/1"

    def load(self) -> None:
        """Nothing to load."""

    def finish(self, texts: Sequence[str]) -> dict[str, list[float]]:
        """Measure a batch."""
        measured = [asdict(text_metrics(text)) for text in texts]
        return {column: [row[column] for row in measured] for column in self.columns}
