"""The networks of a run: found by their cards, checked, handed to the operators."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyspark import SparkFiles
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from jobs.runtime import cards
from jobs.runtime.cards import Card, CardFile
from jobs.runtime.config import Config
from jobs.runtime.errors import ModelProblem
from udfs.clip import Clip, ClipImage, ClipText, Preprocessing, Tokenizer
from udfs.embedding import clip_score_udf
from udfs.identity import digest
from udfs.image_signals import image_signals_udf, signal_set
from udfs.language import Language
from udfs.model_file import ModelFile, ModelMismatch
from udfs.nsfw import Nsfw
from udfs.onnx_session import Placement
from udfs.phash import PHash
from udfs.sharpness import Sharpness
from udfs.signal_set import digest as set_digest
from udfs.text_metrics import Metrics
from udfs.text_signals import text_signals_udf

Operator = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]
LANGUAGE_MODEL: Final = "lid-176"


@dataclass(frozen=True)
class ImageScoring:
    """What score_images does to an image, and what it is called."""

    signal_set: str
    operator: Operator
    clip_model: str
    nsfw_model: str

    def stamp(self) -> dict[str, Column]:
        """Columns that say which models gave a row."""
        return {
            "signal_set": F.lit(self.signal_set),
            "clip_model": F.lit(self.clip_model),
            "nsfw_model": F.lit(self.nsfw_model),
        }


@dataclass(frozen=True)
class TextScoring:
    """What score_text does to a text, and what it is called."""

    signal_set: str
    operator: Operator
    clip_model: str

    def stamp(self) -> dict[str, Column]:
        """Columns that say which models gave a row."""
        return {"signal_set": F.lit(self.signal_set), "clip_model": F.lit(self.clip_model)}


@dataclass(frozen=True)
class Scoring:
    """Both sides, and what only the two together give."""

    images: ImageScoring
    texts: TextScoring
    cards: tuple[Card, ...]

    @property
    def signal_set(self) -> str:
        """Digest of both sides' sets."""
        return digest(self.images.signal_set, self.texts.signal_set)[:16]

    @cached_property
    def clip_score(self) -> Callable[[Column, Column], Column]:
        """Cosine of two packed embeddings as a column function."""
        return clip_score_udf()

    @property
    def thresholds(self) -> dict[str, float]:
        """Signal -> threshold by the cards."""
        return {k: v for card in self.cards for k, v in card.thresholds.items()}

    @property
    def digests(self) -> dict[str, str]:
        """`model/file` -> sha256."""
        return {
            f"{card.name}.{role}": file.sha256
            for card in self.cards
            for role, file in card.files.items()
        }


def scoring(config: Config, spark: SparkSession | None = None) -> Scoring:
    """The scoring of a configuration.

    Args:
        config: names the models.
        spark: distributes their files where the workers are on other machines; null: they
            are read where they lie.

    Raises:
        ModelProblem: a model is missing, altered or not what its card says.
    """
    clip_card, clip_folder = cards.find(config.models.clip, "clip")
    nsfw_card, nsfw_folder = cards.find(config.models.nsfw, "nsfw")
    language_card, language_folder = cards.find(LANGUAGE_MODEL, "language")
    placement = Placement(device=config.models.device)

    def file(card: Card, folder: Path, role: str) -> ModelFile:
        return _file(card.file(role), folder, spark)

    clip = _clip(clip_card, partial(file, clip_card, clip_folder))
    nsfw = file(nsfw_card, nsfw_folder, "model")
    language = file(language_card, language_folder, "model")
    images = (PHash(), Sharpness(), ClipImage(clip, placement), Nsfw(nsfw, placement))
    texts = (Metrics(), Language(language), ClipText(clip, placement))
    return Scoring(
        images=ImageScoring(
            signal_set=signal_set(images),
            operator=image_signals_udf(images, max_pixels=config.ingest.max_pixels),
            clip_model=clip.image.sha256,
            nsfw_model=nsfw.sha256,
        ),
        texts=TextScoring(
            signal_set=set_digest(signal.version for signal in texts),
            operator=text_signals_udf(texts),
            clip_model=clip.text.sha256,
        ),
        cards=(clip_card, nsfw_card, language_card),
    )


def _clip(card: Card, file: Callable[[str], ModelFile]) -> Clip:
    if card.output is None:
        raise ModelProblem(f"card {card.name} lacks output.dimension; add it")
    return Clip(
        image=file("image"),
        text=file("text"),
        tokenizer=Tokenizer(
            kind=card.tokenizer.kind,
            file=file("tokenizer"),
            context_length=card.tokenizer.context_length,
            pad_id=card.tokenizer.pad_id,
        ),
        preprocessing=Preprocessing(**card.preprocessing.model_dump()),
        dimension=card.output.dimension,
    )


def _file(file: CardFile, folder: Path, spark: SparkSession | None) -> ModelFile:
    found = cards.model_file(file, folder)
    try:
        path = found.verified_path()
    except (ModelMismatch, OSError) as error:
        raise ModelProblem(str(error)) from error
    if file.package or spark is None or str(spark.sparkContext.master).startswith("local"):
        return found
    return ModelFile(file.sha256, _distributed(spark, path, file.sha256))


def _distributed(spark: SparkSession, path: str, sha256: str) -> Callable[[], str]:
    """Send a file to the workers' machines once, under a name that only it has."""
    name = f"{sha256[:16]}-{Path(path).name}"
    known: list[str] = spark.sparkContext.listFiles
    if not any(uri.endswith(name) for uri in known):
        copy = Path(tempfile.mkdtemp()) / name
        shutil.copy(path, copy)
        spark.sparkContext.addFile(str(copy))
    return partial(SparkFiles.get, name)


def check(config: Config) -> Mapping[str, str]:
    """Load every network and try it once.

    Returns:
        model -> the execution provider that runs it.

    Raises:
        ModelProblem: one does not do what its card says.
    """
    clip_card, clip_folder = cards.find(config.models.clip, "clip")
    nsfw_card, nsfw_folder = cards.find(config.models.nsfw, "nsfw")
    placement = Placement(device=config.models.device)
    clip = _clip(clip_card, lambda role: _file(clip_card.file(role), clip_folder, None))
    nsfw = _file(nsfw_card.file("model"), nsfw_folder, None)
    try:
        return {
            f"{clip_card.name} image": ClipImage(clip, placement).load(),
            f"{clip_card.name} text": ClipText(clip, placement).load(),
            nsfw_card.name: Nsfw(nsfw, placement).load(),
        }
    except (ModelMismatch, RuntimeError, ValueError) as error:
        raise ModelProblem(str(error)) from error
