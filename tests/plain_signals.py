"""Signals that anybody can compute, and a side of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jobs.runtime.models import Side
from schemas import image_signals
from udfs import image_codec
from udfs.embedding import pack, unit
from udfs.examine import FACTS
from udfs.image_codec import Decoded
from udfs.image_signals import image_signals_udf
from udfs.phash import PHash
from udfs.sharpness import Sharpness
from udfs.signal_set import Signal


@dataclass(frozen=True)
class MeanColour:
    """An embedding that anybody can compute."""

    version: str = "mean_colour/1"
    columns: ClassVar = ("clip_embedding", "clip_dimension")

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> np.ndarray:
        mean: np.ndarray = np.asarray(decoded.image).reshape(-1, 3).mean(axis=0) + 1
        return mean

    def finish(self, prepared: Sequence[np.ndarray]) -> dict[str, list[Any]]:
        packed = pack(unit(np.stack(prepared)))
        return {"clip_embedding": packed, "clip_dimension": [3] * len(packed)}


@dataclass(frozen=True)
class Redness:
    """What a head would say."""

    version: str = "redness/1"
    columns: ClassVar = ("nsfw_score",)

    def load(self) -> None:
        """Nothing to load."""

    def finish(self, embeddings: Sequence[np.ndarray]) -> dict[str, list[float]]:
        return {"nsfw_score": np.stack(embeddings)[:, 0].tolist()}


OLD: dict[str, Signal] = {"phash": PHash(), "clip": MeanColour()}
NEW: dict[str, Signal] = {**OLD, "sharpness": Sharpness(), "redness": Redness()}


def side(signals: dict[str, Signal]) -> Side:
    return Side(
        table=image_signals.TABLE,
        key="media_sha256",
        signals=signals,
        build=lambda some: image_signals_udf(some, max_pixels=1 << 20),
        derived=frozenset({"redness"}),
        rules=(image_codec.VERSION,),
        facts=("provider", *FACTS),
        models={"clip_model": "c", "nsfw_model": None},
    )
