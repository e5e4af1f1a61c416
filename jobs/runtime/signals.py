"""Every signal by its name: what a configuration may list under `signals`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pyspark.sql import SparkSession

from jobs.runtime import cards, distribution
from jobs.runtime.cards import Card
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError, ModelProblem
from udfs.clip import Clip, ClipImage, ClipText, Preprocessing, Tokenizer
from udfs.image_signals import ImageSignal
from udfs.language import Language
from udfs.model_file import ModelFile
from udfs.nsfw import Nsfw
from udfs.onnx_session import Placement
from udfs.phash import PHash
from udfs.sharpness import Sharpness
from udfs.text_metrics import Metrics
from udfs.text_signals import TextSignal


@dataclass(frozen=True)
class Shelf:
    """The models of a configuration, taken down as signals ask for them.

    Attributes:
        config: names the models.
        spark: distributes their files where the workers are on other machines; null: they are
            read where they lie.
        taken: task -> card of every model asked for so far.
    """

    config: Config
    spark: SparkSession | None
    taken: dict[str, Card] = field(default_factory=dict)

    @property
    def placement(self) -> Placement:
        """Where networks run."""
        return Placement(device=self.config.models.device)

    def network(self, task: str, role: str = "model") -> ModelFile:
        """A file of the model that the configuration names for a task.

        Raises:
            ModelProblem: it is missing, altered or not what its card says.
            ConfigError: the configuration names none.
        """
        card, folder = self.card(task)
        return distribution.file(card.file(role), folder, self.spark)

    def card(self, task: str) -> tuple[Card, Path]:
        """The card of the model for a task, and the folder of its files."""
        name = self.config.models.by_task().get(task)
        if name is None:
            raise ConfigError(
                f"models.{task} got none, and a signal asks for it; allowed the name of a model or"
                f" its folder: set models.{task}, or leave the signal out of signals"
            )
        card, folder = cards.find(name, task)
        self.taken[task] = card
        return card, folder

    def clip(self) -> Clip:
        """The dual encoder.

        Raises:
            ModelProblem: as of `network`.
        """
        card, _ = self.card("clip")
        if card.output is None:
            raise ModelProblem(f"card {card.name} lacks output.dimension; add it")
        return Clip(
            image=self.network("clip", "image"),
            text=self.network("clip", "text"),
            tokenizer=Tokenizer(
                kind=card.tokenizer.kind,
                file=self.network("clip", "tokenizer"),
                context_length=card.tokenizer.context_length,
                pad_id=card.tokenizer.pad_id,
            ),
            preprocessing=Preprocessing(**card.preprocessing.model_dump()),
            dimension=card.output.dimension,
        )


# A new signal is a file in udfs/ and a line here.
IMAGE: Final[Mapping[str, Callable[[Shelf], ImageSignal]]] = {
    "phash": lambda _: PHash(),
    "sharpness": lambda _: Sharpness(),
    "clip": lambda shelf: ClipImage(shelf.clip(), shelf.placement),
    "nsfw": lambda shelf: Nsfw(shelf.network("nsfw"), shelf.placement),
}
TEXT: Final[Mapping[str, Callable[[Shelf], TextSignal]]] = {
    "metrics": lambda _: Metrics(),
    "language": lambda shelf: Language(shelf.network("language")),
    "clip": lambda shelf: ClipText(shelf.clip(), shelf.placement),
}
