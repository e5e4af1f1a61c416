"""What a network really does: opened, run on probes, and compared with what its card promises.

These functions run networks in the process that calls them. `jobs.runtime.trials` calls them in a
child, with a deadline.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from jobs.models import described, heads, network
from jobs.models.card import HEAD_COLUMNS, Card, CardGolden
from jobs.models.described import File
from jobs.runtime.errors import ModelProblem
from udfs.clip import OUTPUTS, Clip, ClipImage, ClipText
from udfs.embedding import unpack
from udfs.heads import Head
from udfs.image_codec import Decoded
from udfs.language import Language
from udfs.model_file import ModelMismatch
from udfs.nsfw import Nsfw
from udfs.onnx_session import AUTO, Placement
from udfs.speech import Speech

_GOLDEN_VALUES: Final = 8  # chosen: as many first values name a vector beyond any accident
_SOUND: Final = 16_000  # chosen: a second
_TEXTS: Final = ("a photo of a cat", "two red circles on a blue background", "")
# chosen: half precision rounds a component of a unit vector by up to 5e-4; ten times that is no
# rounding but a neighbour's influence
_ALONE_TOLERANCE: Final = 5e-3


@dataclass(frozen=True)
class Tried:
    """What a trial saw.

    Attributes:
        providers: role -> the execution provider that ran it.
        dimension: length of the embeddings given or read; null where it has none.
        golden: what the probes gave, for a card.
    """

    providers: dict[str, str]
    dimension: int | None = None
    golden: tuple[CardGolden, ...] = ()


def picture(seed: int, width_px: int = 96, height_px: int = 64) -> Decoded:
    """A picture by whole-number arithmetic alone: the same with any version of any library."""
    y, x = np.mgrid[:height_px, :width_px]
    channels = [x * 2 + seed * 40, y * 3 + seed * 80, (x * y) // 16 + seed * 120]
    image = Image.fromarray((np.stack(channels, axis=-1) % 256).astype(np.uint8))
    return Decoded(image, "PNG", "RGB", *image.size, 1, False, False, 1)


def try_out(card: Card, file: File, placement: Placement = AUTO) -> Tried:
    """Open every network of a model and run it.

    Args:
        card: what the model should be.
        file: role -> its file.
        placement: where to run.

    Raises:
        ModelProblem: a file is missing or altered, a network does not load, does not fit its card,
            gives no numbers or other numbers than the card's golden ones.
    """
    try:
        for role in card.files:
            _look(Path(file(role).verified_path()), role, card)
        return _run(card, file, placement)
    except ModelProblem:
        raise
    except (ModelMismatch, OSError, ValueError, TypeError) as error:
        raise ModelProblem(f"model {card.name}: {error}") from error
    except Exception as error:  # ONNX Runtime's own classes derive from Exception
        raise ModelProblem(
            f"model {card.name} got {type(error).__name__}: {_first_line(error)}; allowed a "
            "network that loads and runs; export it again, or restore its files"
        ) from error


def width(path: Path, card: Card, file: File) -> int:
    """Length of the embeddings of an image network that does not say it.

    Raises:
        ModelProblem: it does not run, or gives no vectors.
    """
    side = card.preprocessing.size_px
    session = AUTO.open(file("image"))
    declared = session.get_inputs()[0]
    dtype = np.float16 if declared.type == "tensor(float16)" else np.float32
    name = network.signature(path).output(OUTPUTS).name
    rows = declared.shape[0] if isinstance(declared.shape[0], int) else 1
    try:
        given = session.run([name], {declared.name: np.zeros((rows, 3, side, side), dtype)})[0]
    except Exception as error:  # ONNX Runtime's own classes derive from Exception
        raise ModelProblem(f"{path} does not run: {_first_line(error)}; export it again") from error
    if given.ndim != 2:
        raise ModelProblem(
            f"{path} gives shape {given.shape}; allowed (n, dimension); "
            "take the export with projection"
        )
    return int(given.shape[1])


def _look(path: Path, role: str, card: Card) -> None:
    if card.task != "language":  # fastText's own format
        network.refuse_pickle(path)
    if path.suffix == ".onnx":
        network.signature(path)
    elif role in ("image", "text") or (role == "model" and card.task in ("nsfw", *HEAD_COLUMNS)):
        raise ModelProblem(
            f"card {card.name} got {path.name} as its {role}; allowed an .onnx file; "
            "export the model as ONNX"
        )


def _run(card: Card, file: File, placement: Placement) -> Tried:
    if card.task == "clip":
        return _try_clip(card, described.clip(card, file), placement)
    if card.task in HEAD_COLUMNS:
        return _try_head(card, described.head(card, file, placement))
    if card.task == "nsfw":
        nsfw = Nsfw(file("model"), placement)
        nsfw.finish([nsfw.prepare(picture(0))])
        return Tried({"model": nsfw.load()})
    if card.task == "language":
        Language(file("model")).finish(["a sentence"])
        return Tried({"model": "fastText"})
    if card.task == "speech":
        speech = Speech(file("model"))
        speech.meter().add(np.zeros(_SOUND, np.float32))
        return Tried({"model": speech.load()})
    return Tried(
        {
            role: str(placement.open(file(role)).get_providers()[0])
            for role, listed in card.files.items()
            if listed.path.endswith(".onnx")
        }
    )


def _try_clip(card: Card, made: Clip, placement: Placement) -> Tried:
    image, text = ClipImage(made, placement), ClipText(made, placement)
    providers = {"image": image.load(), "text": text.load()}
    crops = [image.prepare(picture(seed)) for seed in range(3)]
    pictures = _batched(card, "image", image.finish, crops)
    texts = _batched(card, "text", text.finish, list(_TEXTS))

    def embed(wanted: CardGolden) -> np.ndarray:
        if wanted.role == "image":
            given = image.finish([image.prepare(picture(wanted.seed))])
        else:
            given = text.finish([wanted.text or ""])
        return np.asarray(unpack(given["clip_embedding"])[0])

    for role in ("image", "text"):
        _check_golden(card, role, embed)
    golden = (
        CardGolden(role="image", seed=0, values=_firsts(pictures[0])),
        CardGolden(role="text", text=_TEXTS[0], values=_firsts(texts[0])),
    )
    return Tried(providers, made.dimension, golden)


def _batched(
    card: Card, role: str, finish: Callable[[list[Any]], dict[str, list[Any]]], items: list[Any]
) -> np.ndarray:
    """Embeddings of a batch, after it was seen that a row's neighbours do not change it."""
    together = unpack(finish(items)["clip_embedding"])
    alone = unpack(finish(items[:1])["clip_embedding"])
    drift = float(np.abs(together[0] - alone[0]).max())
    if drift > _ALONE_TOLERANCE:
        raise ModelProblem(
            f"model {card.name}: its {role} network gives an item of a batch {drift:.3g} away from "
            f"the same item alone; allowed {_ALONE_TOLERANCE:g}; export it with a free batch axis"
        )
    return together


def _try_head(card: Card, made: Head) -> Tried:
    provider = made.load()

    def score(seed: int) -> np.ndarray:
        (scores,) = made.finish(heads.probes(made.dimension, seed)).values()
        return np.array(scores)

    _check_golden(card, "model", lambda wanted: score(wanted.seed))
    golden = tuple(
        CardGolden(role="model", seed=seed, values=_firsts(score(seed))) for seed in range(3)
    )
    return Tried({"model": provider}, made.dimension, golden)


def _check_golden(card: Card, role: str, score: Callable[[CardGolden], np.ndarray]) -> None:
    for wanted in (golden for golden in card.golden if golden.role == role):
        given = score(wanted)[: len(wanted.values)]
        expected = np.array(wanted.values)
        drift = np.inf if given.shape != expected.shape else float(np.abs(given - expected).max())
        if not drift <= wanted.tolerance:
            raise ModelProblem(
                f"model {card.name}: its {role} network gives {drift:.3g} away from the card's "
                f"golden values; allowed {wanted.tolerance:g}; restore the model's files, or check "
                "the runtime and the preprocessing"
            )


def _firsts(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values[:_GOLDEN_VALUES])


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else "no message"
