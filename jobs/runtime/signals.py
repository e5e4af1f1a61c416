"""Every signal by its name: what a configuration may list under `signals`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from pyspark.sql import SparkSession

from jobs.models import described
from jobs.models.card import Card, check_fits
from jobs.models.described import File
from jobs.runtime import cards, distribution, model_places
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError
from udfs.borders import Borders
from udfs.clip import Clip, ClipImage, ClipText
from udfs.codes import Codes
from udfs.colours import Colours
from udfs.crop_hash import CropHash
from udfs.dhash import DHash
from udfs.entropy import Entropy
from udfs.exposure import Exposure
from udfs.faces import Faces
from udfs.heads import Head
from udfs.image_signals import ImageSignal
from udfs.language import Language
from udfs.mirrored_phash import MirroredPHash
from udfs.model_file import ModelFile
from udfs.nsfw import Nsfw
from udfs.onnx_session import Placement
from udfs.phash import PHash
from udfs.sharpness import Sharpness
from udfs.signal_set import Signal
from udfs.text_area import TextArea
from udfs.text_metrics import Metrics
from udfs.text_signals import TextSignal

_S = TypeVar("_S")


@dataclass(frozen=True)
class Shelf:
    """The models of a configuration, taken down as signals ask for them.

    Attributes:
        config: names the models.
        spark: distributes their files where the workers are on other machines; null: they are
            read where they lie.
        intra_op_threads: of each network.
        taken: task -> card of every model asked for so far, and the folder of its files.
    """

    config: Config
    spark: SparkSession | None
    intra_op_threads: int = 1
    taken: dict[str, tuple[Card, Path]] = field(default_factory=dict)

    @property
    def placement(self) -> Placement:
        """Where networks run."""
        return Placement(self.config.models.device, self.intra_op_threads)

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
        if task not in self.taken:  # what lies elsewhere is asked for once
            name = self.config.models.by_task().get(task)
            if name is None:
                raise ConfigError(
                    f"models.{task} got none, and a signal asks for it; allowed the name of a model"
                    f" or its folder: set models.{task}, or leave the signal out of signals"
                )
            fetch = partial(model_places.fetch, self.config)
            self.taken[task] = cards.find(name, task, fetch)
        return self.taken[task]

    def built(self, task: str, build: Callable[[Card, File, Placement], _S]) -> _S:
        """What a model's card describes."""
        card, _ = self.card(task)
        return build(card, lambda role: self.network(task, role), self.placement)

    def clip(self) -> Clip:
        """The dual encoder."""
        return self.built("clip", lambda card, file, _: described.clip(card, file))

    def head(self, task: str) -> Head:
        """A head on the embeddings of the dual encoder.

        Raises:
            ModelProblem: it was trained on those of another.
        """
        check_fits(self.card(task)[0], self.card("clip")[0])
        return self.built(task, described.head)


# A new signal is a file in udfs/ and a line here.
IMAGE: Final[Mapping[str, Callable[[Shelf], ImageSignal]]] = {
    "phash": lambda _: PHash(),
    "mirrored_phash": lambda _: MirroredPHash(),
    "dhash": lambda _: DHash(),
    "crop_hash": lambda _: CropHash(),
    "sharpness": lambda _: Sharpness(),
    "entropy": lambda _: Entropy(),
    "exposure": lambda _: Exposure(),
    "borders": lambda _: Borders(),
    "colours": lambda _: Colours(),
    "codes": lambda _: Codes(),
    "clip": lambda at: ClipImage(at.clip(), at.placement),
    "nsfw": lambda at: Nsfw(at.network("nsfw"), at.placement),
    "text_area": lambda at: TextArea(at.network("text_area"), at.placement),
    "faces": lambda at: Faces(at.network("faces"), at.placement),
    "watermark": lambda at: at.built("watermark", described.watermark),
}
# Those that run a network on pixels, each called as its task -> the role of that network's file.
NETWORKS: Final[Mapping[str, str]] = {
    "clip": "image",
    "nsfw": "model",
    "text_area": "model",
    "faces": "model",
    "watermark": "model",
}
# Of the CLIP embedding, not of pixels.
DERIVED: Final[Mapping[str, Callable[[Shelf], Signal]]] = {
    "aesthetic": lambda at: at.head("aesthetic"),
    "nsfw_head": lambda at: at.head("nsfw_head"),
    "violence": lambda at: at.head("violence"),
}
OF_IMAGES: Final[Mapping[str, Callable[[Shelf], Signal]]] = {**IMAGE, **DERIVED}
TEXT: Final[Mapping[str, Callable[[Shelf], TextSignal]]] = {
    "metrics": lambda _: Metrics(),
    "language": lambda at: Language(at.network("language")),
    "clip": lambda at: ClipText(at.clip(), at.placement),
    "sentence": lambda at: at.built("sentence", described.sentence),
    "toxicity": lambda at: at.built("toxicity", described.toxicity),
}
