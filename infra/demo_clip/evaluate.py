"""Measure demo-clip with onnxruntime alone: retrieval, separation and the calibrated threshold.

    python -m infra.demo_clip.evaluate [--openclipart /usr/share/openclipart]

prints one JSON object. Nothing here is seen in training: scenes come from the held-out split,
openclipart pairs from the held-out titles, and the threshold from a third set, training-split
scenes of another seed.
"""

import argparse
import hashlib
import itertools
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime
import yaml
from numpy.typing import NDArray
from PIL import Image

from jobs.demo import openclipart, scenes
from jobs.demo.openclipart import Clipart
from udfs.clip_tokenizer import Tokenizer, clip_bpe

HERE: Final = Path(__file__).parent
QUERY_SIZE: Final = 100  # the acceptance: 100 distinct captions a query
SEED: Final = 20_261_121  # of evaluation only; training has its own
SIZE_PX: Final = 96  # chosen: shapes of the demo stay 15 px and more, at a few MFLOP
MEAN: Final = np.float32(0.5)  # chosen: [0, 1] -> [-1, 1]; no statistics to carry
STD: Final = np.float32(0.5)
MAX_PIXELS: Final = 89_478_485  # Pillow's own warning limit; a few clipart posters pass it
_HELD_OUT_TITLES: Final = 0.15  # chosen: about 400 of 2,776 titles

Split = Literal["train", "held_out"]
Float32 = NDArray[np.float32]


def split_of(title: str) -> Split:
    """The split of every image with this title: by hash, so no title is in both.

    >>> split_of("Bored dog") == split_of(" bored DOG ")
    True
    """
    digest = hashlib.sha256(title.strip().lower().encode()).digest()
    share = int.from_bytes(digest[:4]) / 2**32
    return "held_out" if share < _HELD_OUT_TITLES else "train"


def read_openclipart(folder: Path, split: Split) -> list[Clipart]:
    """The images of one split that carry a title, in path order.

    Args:
        folder: holds ``svg/`` (metadata) and ``png/`` (pixels), as Debian's packages lay them out.
        split: which titles.

    Raises:
        FileNotFoundError: the folder holds no such pair of trees.
    """
    found = openclipart.pairs(folder)
    return [c for c in found if split_of(c.title) == split and _is_sane(c.path)]


def _is_sane(path: Path) -> bool:
    """Whether the image's header declares no more than ``MAX_PIXELS``."""
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        try:
            with Image.open(path) as image:
                return image.width * image.height <= MAX_PIXELS
        except Image.DecompressionBombError:
            return False


def on_white(image: Image.Image) -> Image.Image:
    """RGB with transparency laid on white, as the product decodes it."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def tokenize(texts: Sequence[str]) -> NDArray[np.int64]:
    """(n, 77) int64 CLIP token ids."""
    return Tokenizer("clip_bpe", clip_bpe()).encode(texts).ids


class Encoders:
    """The two committed networks, fed as their card says; embeddings have unit norm."""

    def __init__(self, folder: Path = HERE) -> None:
        """Load both networks, one thread each so that figures repeat."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._image, self._text = (
            onnxruntime.InferenceSession(folder / f"{tower}.onnx", options)
            for tower in ("image", "text")
        )

    def images(self, pictures: Iterable[Image.Image]) -> Float32:
        """(n, 256) float32."""
        pixels = (preprocess(picture) for picture in pictures)
        return _encoded(self._image, "pixel_values", pixels)

    def texts(self, captions: Sequence[str]) -> Float32:
        """(n, 256) float32."""
        return _encoded(self._text, "input_ids", tokenize(captions))


def _encoded(
    session: onnxruntime.InferenceSession, name: str, rows: Iterable[NDArray[Any]]
) -> Float32:
    parts = [session.run(None, {name: np.stack(part)})[0] for part in batched(rows, 64)]
    embeddings: Float32 = np.concatenate(parts)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings


def batched(rows: Iterable[NDArray[Any]], size: int) -> Iterator[list[NDArray[Any]]]:
    """Lists of ``size`` rows, the last one shorter; Python 3.12 has it in itertools."""
    waiting = iter(rows)
    while part := list(itertools.islice(waiting, size)):
        yield part


def preprocess(picture: Image.Image) -> Float32:
    """(3, 96, 96) float32 in [-1, 1]: squashed, so that what is left stays left."""
    small = picture.convert("RGB").resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
    pixels: Float32 = np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    return (pixels - MEAN) / STD


def draw_queries(count: int, *, split: Split, rng: np.random.Generator) -> list[list[scenes.Scene]]:
    """``count`` queries of 100 scenes that pairwise differ in a main attribute."""
    queries = []
    for _ in range(count):
        distinct: dict[tuple[object, ...], scenes.Scene] = {}
        while len(distinct) < QUERY_SIZE:
            scene = scenes.draw(rng, split=split)
            distinct[tuple(getattr(scene, name) for name in scenes.MAIN_ATTRIBUTES)] = scene
        queries.append(list(distinct.values()))
    return queries


def picture_of(scene: scenes.Scene, rng: np.random.Generator) -> Image.Image:
    """The scene at a random size, 120 to 479 px a side."""
    width, height = (int(side) for side in rng.integers(120, 480, 2))
    return scenes.render(scene, rng, width_px=width, height_px=height)


def auc(matched: Float32, shuffled: Float32) -> float:
    """Probability that a matched score exceeds a shuffled one, ties counted half.

    >>> auc(np.float32([2, 3]), np.float32([1, 2]))
    0.875
    """
    ladder = np.sort(shuffled)
    below = np.searchsorted(ladder, matched, "left") + np.searchsorted(ladder, matched, "right")
    return float(below.mean() / 2 / len(ladder))


def rowwise(image: Float32, text: Float32) -> Float32:
    """(n,) cosine of row-aligned unit embeddings."""
    cosines: Float32 = np.einsum("nd,nd->n", image, text)
    return cosines


def measure_scenes(encoders: Encoders, *, queries: int = 20) -> dict[str, float]:
    """Retrieval and separation on held-out scenes, 100 distinct captions a query."""
    rng = np.random.default_rng(SEED)
    hits, matched, shuffled = [], [], []
    for drawn in draw_queries(queries, split="held_out", rng=rng):
        image = encoders.images(picture_of(scene, rng) for scene in drawn)
        text = encoders.texts([scenes.caption(scene, rng) for scene in drawn])
        hits.append((image @ text.T).argmax(1) == np.arange(QUERY_SIZE))
        matched.append(rowwise(image, text))
        shuffled.append(rowwise(image, np.roll(text, 1, axis=0)))
    return {
        "scenes": queries * QUERY_SIZE,
        "recall_at_1": float(np.mean(hits)),
        "auc": auc(np.concatenate(matched), np.concatenate(shuffled)),
    }


def pair_scores(
    encoders: Encoders, count: int, *, split: Split, seed: int
) -> tuple[Float32, Float32]:
    """Cosines of ``count`` scenes with a fitting caption and with a swapped one."""
    rng = np.random.default_rng(seed)
    drawn = [scenes.draw(rng, split=split) for _ in range(count)]
    image = encoders.images(picture_of(scene, rng) for scene in drawn)
    fitting = encoders.texts([scenes.caption(scene, rng) for scene in drawn])
    swapped = encoders.texts([scenes.caption(scenes.mismatched(s, rng), rng) for s in drawn])
    return rowwise(image, fitting), rowwise(image, swapped)


def calibrate(encoders: Encoders, count: int = 1000) -> float:
    """The cosine midway between the 1st percentile of fitting and the 99th of swapped pairs.

    Scenes of the training split, freshly rendered: the held-out ones only judge the choice.
    """
    fitting, swapped = pair_scores(encoders, count, split="train", seed=SEED + 1)
    return round(float(np.quantile(fitting, 0.01) + np.quantile(swapped, 0.99)) / 2, 3)


def measure_threshold(encoders: Encoders, threshold: float, count: int = 1000) -> dict[str, float]:
    """Shares of held-out scenes that the threshold rejects, fitting and swapped."""
    fitting, swapped = pair_scores(encoders, count, split="held_out", seed=SEED + 2)
    return {
        "threshold": threshold,
        "fitting_rejected": float((fitting < threshold).mean()),
        "swapped_rejected": float((swapped < threshold).mean()),
    }


def measure_clipart(encoders: Encoders, clipart: Sequence[Clipart]) -> dict[str, float]:
    """Separation on clipart; a shuffled pair never has the image's own title.

    ``auc_one_per_title`` counts each title once, so that no large series decides.
    """
    rng = np.random.default_rng(SEED)
    image = encoders.images(on_white(Image.open(c.path)) for c in clipart)
    text = encoders.texts([c.caption() for c in clipart])
    title = encoders.texts([c.title for c in clipart])
    titles = np.array([c.title for c in clipart])
    partner = np.array([rng.choice(np.flatnonzero(titles != own)) for own in titles])
    matched, shuffled = rowwise(image, text), rowwise(image, text[partner])
    first = np.unique(titles, return_index=True)[1]
    return {
        "images": len(clipart),
        "titles": len(first),
        "auc": auc(matched, shuffled),
        "auc_one_per_title": auc(matched[first], shuffled[first]),
        "auc_title_alone": auc(rowwise(image, title), rowwise(image, title[partner])),
        "shuffled_median": float(np.median(shuffled)),
    }


def measure(folder: Path, threshold: float, clipart: Path | None) -> dict[str, Any]:
    """Every figure of the card for the networks in ``folder``."""
    encoders = Encoders(folder)
    figures: dict[str, Any] = {
        "held_out_scenes": measure_scenes(encoders),
        "held_out_threshold": measure_threshold(encoders, threshold),
    }
    if clipart is not None:
        held_out = read_openclipart(clipart, "held_out")
        figures["held_out_openclipart"] = measure_clipart(encoders, held_out)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--openclipart", type=Path, help="holds svg/ and png/")
    args = parser.parse_args(argv)
    card = yaml.safe_load((HERE / "model.yaml").read_text(encoding="utf-8"))
    figures = measure(HERE, card["threshold"]["clip_score"], args.openclipart)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
