"""How far an export is from what it was made of: cosines, and token ids that must be equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from jobs.demo import scenes
from jobs.demo.photographs import PHOTOGRAPHS
from jobs.export.extra import extra
from jobs.export.network import Precision
from jobs.export.source import Source
from jobs.models import described
from jobs.models.card import Card
from jobs.runtime import cards
from jobs.runtime.errors import ModelProblem
from udfs.clip import Clip, ClipImage, ClipText
from udfs.embedding import unit, unpack
from udfs.image_codec import decode
from udfs.onnx_session import Placement

# chosen: what a score to three digits cannot show, and ten times that where weights have 11 bits
LEAST_COSINE: Final = {"fp32": 0.9999, "fp16": 0.999}
_SCENES: Final = 15  # chosen: with the photographs 32 images, seconds for a ViT-B/32
_SIZES: Final = ((320, 240), (240, 320), (256, 256), (800, 90), (30, 400))  # chosen: any aspect
_BATCH: Final = 8  # chosen: bounds the memory that torch takes for a ViT-L
_MAX_PIXELS: Final = 100_000_000
_ODD_TEXTS: Final = (
    "",
    " \t\n ",
    "It's 50 % OFF!! don't_miss &amp;amp; &lt;b&gt;",
    "Das süße Mädchen — „Grüße“ …",
    "红色的圆 и синий квадрат مربع",
    "emoji 😀👨‍👩‍👧 ñ e\u0301",
    "schÃ¶n mojibake",
    "a " * 300,
)


@dataclass(frozen=True)
class Drift:
    """How an export differs.

    Attributes:
        image: least cosine of one image's two embeddings.
        image_centred: the same after the mean of all was taken off, which all have in common.
        text: as image.
        text_centred: as image_centred.
        texts_with_other_ids: texts that the tokenizer reads otherwise.
    """

    image: float
    image_centred: float
    text: float
    text_centred: float
    texts_with_other_ids: int

    @property
    def least(self) -> float:
        """Least cosine of all; NaN where one is."""
        return float(np.min([self.image, self.image_centred, self.text, self.text_centred]))


def clip(card: Card, folder: Path) -> Clip:
    """The encoders of a card, as the stages run them."""
    return described.clip(card, lambda role: cards.model_file(card.file(role), folder))


def examples() -> tuple[list[Image.Image], list[str]]:
    """Photographs and rendered scenes with their captions, and texts that are odd."""
    images = [decode(p.content(), max_pixels=_MAX_PIXELS).image for p in PHOTOGRAPHS]
    texts = [photograph.caption for photograph in PHOTOGRAPHS]
    generator = np.random.default_rng(0)
    for number in range(_SCENES):
        scene = scenes.draw(generator, split="held_out")
        width, height = _SIZES[number % len(_SIZES)]
        images.append(scenes.render(scene, generator, width_px=width, height_px=height))
        texts.append(scenes.caption(scene, generator))
    return images, [*texts, *_ODD_TEXTS]


def measure(
    source: Source, exported: Clip, images: Sequence[Image.Image], texts: Sequence[str]
) -> Drift:
    """Compare what the stages would store with what torch and the framework's own code give."""
    placement = Placement(device="cpu", intra_op_threads=0)  # 0 = all cores: nothing runs beside
    crops = [exported.preprocessing.crop(image) for image in images]
    ours = unpack(ClipImage(exported, placement).finish(crops)["clip_embedding"])
    theirs = evaluate(source.image, np.stack([source.pixels(image) for image in images]))
    ids = source.ids(texts)
    said = unpack(ClipText(exported, placement).finish(texts)["clip_embedding"])
    meant = evaluate(source.text, ids)
    return Drift(
        image=least_cosine(ours, theirs),
        image_centred=least_cosine(ours, theirs, is_centred=True),
        text=least_cosine(said, meant),
        text_centred=least_cosine(said, meant, is_centred=True),
        texts_with_other_ids=int((exported.tokenizer.encode(texts).ids != ids).any(axis=1).sum()),
    )


def check(drift: Drift, precision: Precision) -> None:
    """Refuse an export that is too far off.

    Raises:
        ModelProblem: a cosine is below the precision's bound, or a text has other ids.
    """
    if drift.texts_with_other_ids:
        raise ModelProblem(
            f"{drift.texts_with_other_ids} texts got other ids than the model's tokenizer gives; "
            "allowed 0; its cleaning, padding or special tokens are none that a card describes"
        )
    least = LEAST_COSINE[precision]
    if not drift.least >= least:  # a NaN is refused too
        raise ModelProblem(
            f"the export got a least cosine of {drift.least:.6f} to torch ({drift}); "
            f"allowed {least} in {precision}; "
            + ("say --precision fp32" if precision == "fp16" else "report the model")
        )


def evaluate(module: Any, inputs: np.ndarray) -> np.ndarray:
    """What torch gives.

    Returns:
        (n, d) float32.
    """
    torch = extra("torch")
    with torch.no_grad():
        parts = [
            module(torch.from_numpy(inputs[at : at + _BATCH])).numpy()
            for at in range(0, len(inputs), _BATCH)
        ]
    return np.concatenate(parts)


def least_cosine(ours: np.ndarray, theirs: np.ndarray, *, is_centred: bool = False) -> float:
    """Least cosine of two embeddings of one thing.

    Args:
        ours: (n, d) float32, any norm.
        theirs: the same of the reference.
        is_centred: take the mean of the reference off both, so that what all have in common
            hides nothing; a shift of all counts.

    >>> both = np.array([[3.0, 4.0], [4.0, 3.0]], np.float32)
    >>> round(least_cosine(both, 2 * both), 6), round(least_cosine(both, both[::-1]), 6)
    (1.0, 0.96)
    >>> round(least_cosine(both, both[::-1], is_centred=True), 6)
    -1.0
    """
    a, b = unit(ours).astype(np.float64), unit(theirs).astype(np.float64)
    if is_centred:
        mean = b.mean(axis=0)
        a, b = a - mean, b - mean
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float((np.einsum("nd,nd->n", a, b) / lengths).min())
