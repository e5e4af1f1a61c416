"""How far two variants of a model drift apart, and which decisions that turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from jobs.demo import scenes
from jobs.models import described, heads
from jobs.models.card import HEAD_COLUMNS, Card
from jobs.models.described import File
from jobs.runtime.errors import ModelProblem
from udfs.clip import ClipImage, ClipText
from udfs.embedding import cosine, unpack
from udfs.image_codec import SUFFIXES, Decoded, ImageRefused, decode
from udfs.nsfw import Nsfw

# chosen: one decision in a hundred. Measured on demo-clip, 256 scenes at its threshold: fp16 turns
# none of 512, dynamic int8 0.2 %.
MAX_FLIPS: Final = 0.01
# LAION-400M cuts its CLIP score at 0.30, LAION-5B at 0.28: scores that drift so far are another
# recipe's. Measured as above: fp16 0.0003, dynamic int8 0.021, which is refused.
MAX_DRIFT: Final = 0.02
_SCENES: Final = 256  # chosen: the first percentile is then of two pairs, at seconds of work
_PROBES: Final = 1000  # chosen: a share of flips to a tenth of a percent, in milliseconds
_MAX_FILES: Final = 10_000  # chosen: minutes of work on two cores
_MAX_PIXELS: Final = 100_000_000  # jobs/runtime/config.py, ingest.max_pixels
_AT_ONCE: Final = 32


class Examples(NamedTuple):
    """What two models are compared on.

    Attributes:
        pictures: n pictures.
        texts: n texts, one a picture.
    """

    pictures: list[Decoded]
    texts: list[str]


class Drift(NamedTuple):
    """One kind of numbers of two models.

    Attributes:
        what: an embedding or a signal.
        rows: how many were compared.
        agreement: (least, mean, first percentile) cosine of embeddings; null for a signal.
        drift: 1 less the first percentile of the cosines; of a signal, the 99th percentile of the
            absolute difference.
        flips: share of decisions at the threshold that turn; null without one.
        threshold: of the signal; null without one.
    """

    what: str
    rows: int
    agreement: tuple[float, float, float] | None
    drift: float
    flips: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Values:
    """What a model gave for the examples.

    Attributes:
        embeddings: side -> (n, d) float32 of unit length.
        signals: signal -> (n,) float.
    """

    embeddings: dict[str, np.ndarray]
    signals: dict[str, np.ndarray]


def rendered(count: int | None = None) -> Examples:
    """Scenes that no bundled model was trained on, with captions that fit them."""
    pictures, texts = [], []
    for number in range(count or _SCENES):
        rng = np.random.default_rng([2, number])
        scene = scenes.draw(rng, split="held_out")
        image = scenes.render(scene, rng, width_px=224, height_px=224)
        pictures.append(Decoded(image, "PNG", "RGB", *image.size, 1, False, False, 1))
        texts.append(scenes.caption(scene, rng))
    return Examples(pictures, texts)


def in_folder(folder: Path) -> Examples:
    """The pictures of a folder, with the text of the same name beside each.

    Raises:
        ModelProblem: there is none that can be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    pictures, texts = [], []
    for path in paths[:_MAX_FILES]:
        try:
            pictures.append(decode(path.read_bytes(), max_pixels=_MAX_PIXELS))
        except (ImageRefused, OSError):
            continue
        beside = path.with_suffix(".txt")
        text = beside.read_text(errors="replace") if beside.is_file() else path.stem
        texts.append(text)
    if not pictures:
        raise ModelProblem(
            f"{folder} got no picture that can be read; allowed {', '.join(sorted(SUFFIXES))}; "
            "give another folder, or none for rendered scenes"
        )
    return Examples(pictures, texts)


def values(card: Card, file: File, examples: Examples) -> Values:
    """What a model gives for some examples.

    Raises:
        ModelProblem: it is of a task that is not compared.
        ValueError: it gives no numbers.
    """
    if card.task == "clip":
        return _clip_values(card, file, examples)
    if card.task in HEAD_COLUMNS:
        made = described.head(card, file)
        scores = made.finish(heads.probes(made.dimension, seed=1, rows=_PROBES))
        return Values({}, {name: np.array(found) for name, found in scores.items()})
    if card.task == "nsfw":
        nsfw = Nsfw(file("model"))
        crops = [nsfw.prepare(picture) for picture in examples.pictures]
        return Values({}, {k: np.array(v) for k, v in nsfw.finish(crops).items()})
    raise ModelProblem(
        f"model {card.name} does {card.task}; allowed clip, nsfw, {', '.join(HEAD_COLUMNS)}; "
        "compare models of one of these"
    )


def _clip_values(card: Card, file: File, examples: Examples) -> Values:
    made = described.clip(card, file)
    image, text = ClipImage(made), ClipText(made)
    looks = [
        unpack(image.finish([image.prepare(picture) for picture in some])["clip_embedding"])
        for some in _chunks(examples.pictures)
    ]
    reads = [unpack(text.finish(some)["clip_embedding"]) for some in _chunks(examples.texts)]
    pictures, texts = np.concatenate(looks), np.concatenate(reads)
    # Each picture with its own text and with its neighbour's: both sides of a threshold.
    scores = [cosine(pictures, texts), cosine(pictures, np.roll(texts, 1, axis=0))]
    return Values({"image": pictures, "text": texts}, {"clip_score": np.concatenate(scores)})


def _chunks(items: Sequence) -> list[list]:  # type: ignore[type-arg]  # of anything
    return [list(items[n : n + _AT_ONCE]) for n in range(0, len(items), _AT_ONCE)]


def drifts(a: Values, b: Values, thresholds: dict[str, float]) -> list[Drift]:
    """How far the second model is from the first.

    Args:
        a: of the model that is trusted.
        b: of its variant, for the same examples.
        thresholds: signal -> where a decision is made.

    Raises:
        ModelProblem: they give embeddings of different length, or different signals.
    """
    found = []
    if a.embeddings.keys() != b.embeddings.keys() or a.signals.keys() != b.signals.keys():
        raise ModelProblem(
            f"models give {', '.join([*a.embeddings, *a.signals])} and "
            f"{', '.join([*b.embeddings, *b.signals])}; allowed the same; compare variants of one"
        )
    for side, vectors in a.embeddings.items():
        others = b.embeddings[side]
        if vectors.shape != others.shape:
            raise ModelProblem(
                f"{side} embeddings have {vectors.shape[1]} and {others.shape[1]} values; "
                "allowed the same; compare variants of one model"
            )
        cosines = cosine(vectors, others)
        first = float(np.percentile(cosines, 1))
        agreement = float(cosines.min()), float(cosines.mean()), first
        found.append(Drift(f"{side} embedding", len(cosines), agreement, max(0.0, 1 - first)))
    for signal, scores in a.signals.items():
        others = b.signals[signal]
        drift = float(np.percentile(np.abs(scores - others), 99))
        threshold = thresholds.get(signal)
        flips = (
            None
            if threshold is None
            else float(np.mean((scores >= threshold) != (others >= threshold)))
        )
        found.append(Drift(signal, len(scores), None, drift, flips, threshold))
    return found


def beyond(found: Sequence[Drift], *, max_drift: float, max_flips: float) -> list[str]:
    """What is past its bound, a message each; a NaN is past every bound.

    >>> beyond([Drift("nsfw_score", 9, None, 0.3, 0.5, 0.4)], max_drift=1, max_flips=0.01)
    ['nsfw_score: 50 % of decisions at 0.4 turn; allowed 1 %']
    """
    said = [
        f"{drift.what}: drift {drift.drift:.3g}; allowed {max_drift:g}"
        for drift in found
        if not drift.drift <= max_drift
    ]
    return said + [
        f"{drift.what}: {100 * drift.flips:.3g} % of decisions at {drift.threshold:g} turn; "
        f"allowed {100 * max_flips:g} %"
        for drift in found
        if drift.flips is not None and not drift.flips <= max_flips
    ]
