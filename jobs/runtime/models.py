"""What a configuration measures: its signals, the models behind them, and the sets they make."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final, TypeVar

import pyarrow as pa
from pyspark.resource import ResourceProfile
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from jobs.models.card import Card
from jobs.runtime import gpus, profiles, signals, strict_yaml
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError
from jobs.runtime.profiles import Found, Setting
from jobs.runtime.signals import Shelf
from schemas import image_signals, text_signals
from udfs import image_codec
from udfs.embedding_functions import clip_score_udf
from udfs.embedding_signals import embedding_signals_udf
from udfs.examine import FACTS
from udfs.identity import digest
from udfs.image_signals import image_signals_udf
from udfs.isolation import Limits
from udfs.signal_set import Signal
from udfs.signal_set import digest as set_digest
from udfs.text_signals import text_signals_udf

Operator = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]
CLIP: Final = "clip"
_S = TypeVar("_S")
_NO_PROFILE: Final = Found()


@dataclass(frozen=True)
class Side:
    """The signals of images, or those of texts.

    Attributes:
        table: where their rows are.
        key: what a row is known by, beside the signal set.
        signals: name -> signal, in the order of the configuration.
        build: signals -> the operator that runs them, in one pass.
        derived: names of those that are computed from a row's CLIP embedding, not from pixels.
        rules: what all values depend on beside their own signal's version: the decoder's rules.
        facts: columns that every pass fills, whatever the signals.
        models: column of the table -> sha256 that its rows are stamped with; null: no such model.
        gpu: what tasks that run a network ask Spark for; null: nothing beside a core.
        tasks: that run the operator at a time; null: as many as Spark has room for.
        note: what to say when they do; null: nothing.
    """

    table: str
    key: str
    signals: Mapping[str, Signal]
    build: Callable[[Sequence[Any]], Operator]
    derived: frozenset[str] = frozenset()
    rules: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    models: Mapping[str, str | None] = field(default_factory=dict)
    gpu: ResourceProfile | None = None
    tasks: int | None = None
    note: str | None = None

    @property
    def signal_set(self) -> str:
        """Digest of what decides the values of these signals."""
        return set_digest([*self.rules, *(signal.version for signal in self.signals.values())])

    @property
    def operator(self) -> Operator:
        """All signals in one pass."""
        return self.operator_of(tuple(self.signals))

    def operator_of(self, names: Sequence[str]) -> Operator:
        """Some of the signals in one pass; the columns of the others are null."""
        return self.build([self.signals[name] for name in names])

    def deriving(self, names: Sequence[str]) -> Operator:
        """Rows of the table, embedding included -> the same with some derived signals filled."""
        return embedding_signals_udf([self.signals[name] for name in names])

    def asks(self, names: Sequence[str]) -> ResourceProfile | None:
        """What tasks that run some of the signals ask Spark for: rules are not to wait for GPUs."""
        has_network = any(hasattr(self.signals[name], "placement") for name in names)
        return self.gpu if has_network else None

    def version(self, name: str) -> str:
        """What a signal's values depend on: sets that share it share them."""
        return " ".join([*self.rules, self.signals[name].version])

    def stamp(self) -> dict[str, Column]:
        """Columns that say which set and which models gave a row."""
        models = {column: F.lit(sha256) for column, sha256 in self.models.items()}
        return {"signal_set": F.lit(self.signal_set), **models}


@dataclass(frozen=True)
class Scoring:
    """Both sides, and what only the two together give."""

    images: Side
    texts: Side
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
        """`model.file` -> sha256."""
        return digests(self.cards)


def digests(cards: Iterable[Card]) -> dict[str, str]:
    """`model.file` -> sha256, of all files of models."""
    return {
        f"{card.name}.{role}": file.sha256 for card in cards for role, file in card.files.items()
    }


def scoring(config: Config, spark: SparkSession | None = None) -> Scoring:
    """The scoring of a configuration.

    Args:
        config: names the signals and the models.
        spark: distributes their files where the workers are on other machines; null: they
            are read where they lie.

    Raises:
        ModelProblem: a model is missing, altered or not what its card says.
        ConfigError: a signal is not known, or asks for a model that is not named; or the cluster
            cannot give GPUs as configured.
    """
    shelf = Shelf(config, spark)
    master = str(spark.sparkContext.master) if spark is not None else config.spark.master
    found = profiles.find(config, networks(config.signals.image, shelf), master)
    of_images = chosen(
        "signals.image", config.signals.image, signals.OF_IMAGES, _tuned(shelf, found)
    )
    derived = [name for name in of_images if name in signals.DERIVED]
    if derived and CLIP not in of_images:
        raise ConfigError(
            f"signals.image got {derived[0]} without {CLIP}; allowed beside {CLIP}, whose"
            " embeddings it reads"
        )
    of_texts = chosen("signals.text", config.signals.text, signals.TEXT, shelf)
    gpu = gpus.share(config.models, spark.sparkContext) if spark else None
    return Scoring(
        images=replace(image_side(of_images, config, shelf, found), gpu=gpu),
        texts=replace(text_side(of_texts, shelf), gpu=gpu),
        cards=tuple(card for card, _ in shelf.taken.values()),
    )


def chosen(
    key: str, names: Sequence[str], known: Mapping[str, Callable[[Shelf], _S]], shelf: Shelf
) -> dict[str, _S]:
    """Signals by their names.

    Raises:
        ConfigError: one is not known.
    """
    for name in names:
        if name not in known:
            raise ConfigError(strict_yaml.unknown(key, name, known))
    return {name: known[name](shelf) for name in names}


def networks(names: Iterable[str], shelf: Shelf) -> dict[str, str]:
    """`task.role` -> sha256 of the networks that signals run on an image's pixels."""
    roles = {name: signals.NETWORKS[name] for name in names if name in signals.NETWORKS}
    return {f"{task}.{role}": shelf.card(task)[0].file(role).sha256 for task, role in roles.items()}


def _tuned(shelf: Shelf, found: Found) -> Shelf:
    """The same models, their networks by a profile."""
    if found.setting is None:
        return shelf
    return replace(shelf, intra_op_threads=found.setting.intra_op_threads)


def image_side(
    chosen: Mapping[str, Any], config: Config, shelf: Shelf, found: Found = _NO_PROFILE
) -> Side:
    """What score_images does to an image.

    Args:
        chosen: name -> signal.
        config: its limits.
        shelf: the models that the signals have taken.
        found: by which profile.
    """
    setting = found.setting or Setting()
    return Side(
        table=image_signals.TABLE,
        key="media_sha256",
        signals=chosen,
        build=partial(
            image_signals_udf,
            max_pixels=config.ingest.max_pixels,
            batch_size=setting.batch_size,
            decoders=setting.decoders,
            isolation=limits(config),
        ),
        derived=frozenset(signals.DERIVED),
        rules=(image_codec.VERSION,),
        facts=("provider", *FACTS),
        models={
            "clip_model": _sha256(shelf, CLIP, "image"),
            "nsfw_model": _sha256(shelf, "nsfw", "model"),
        },
        tasks=found.tasks,
        note=found.said,
    )


def text_side(chosen: Mapping[str, Any], shelf: Shelf) -> Side:
    """What score_text does to a text."""
    return Side(
        table=text_signals.TABLE,
        key="text_sha256",
        signals=chosen,
        build=text_signals_udf,
        facts=("provider",),
        models={"clip_model": _sha256(shelf, CLIP, "text")},
    )


def limits(config: Config) -> Limits:
    """What an image may take of the child that decodes it."""
    return Limits(config.scoring.deadline_s, config.scoring.memory_bytes)


def _sha256(shelf: Shelf, task: str, role: str) -> str | None:
    return shelf.card(task)[0].file(role).sha256 if task in shelf.taken else None
