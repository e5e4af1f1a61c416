"""Taking a model in: recognised, made whole, tried, put into the store at once or not at all."""

import errno
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from jobs.models import compare, heads, layouts, network, tensors, trial
from jobs.models.card import (
    CARD_FILE,
    HEAD_COLUMNS,
    NAME_PATTERN,
    Card,
    CardEmbedding,
    CardFile,
    CardGolden,
    CardOutput,
    check_fits,
)
from jobs.runtime import archives, cards, trials
from jobs.runtime.errors import ModelProblem
from udfs.model_file import ModelFile

_HEAD_SUFFIXES: Final = (".safetensors", ".npz", ".npy")
_GOLDEN_SEEDS: Final = (0, 1, 2)
_HEAD_TOLERANCE: Final = 1e-4  # chosen: ten times what float32 may differ from float64 in the tests
_ONE_MODEL: Final = ("a folder", "an archive", ".safetensors", ".npz", ".npy")


@dataclass(frozen=True)
class Added:
    """What `add` did.

    Attributes:
        card: of the model.
        folder: where it is.
        is_new: false where the same model was there already.
    """

    card: Card
    folder: Path
    is_new: bool


def add(
    source: Path,
    *,
    name: str | None = None,
    store: Path | None = None,
    variant: str = "",
    clip: str | None = None,
    licence: str | None = None,
    deadline_s: float = trials.DEADLINE_S,
) -> Added:
    """Take a model into the store.

    Args:
        source: a folder or an archive of a model with a card or of a CLIP export, or the weights of
            a head.
        name: what it shall be called; null: as the source is.
        store: folder of models; null: `cards.store()`.
        variant: which precision of a CLIP export.
        clip: of a head: the CLIP that it belongs to.
        licence: of the weights, for the card.
        deadline_s: the most that its first run may take.

    Raises:
        ModelProblem: it is not recognised, is not what it says, does not run, or another model has
            the name.
    """
    root = store or cards.store()
    called = name or _name_of(source, variant)
    if not re.fullmatch(NAME_PATTERN, called):
        raise ModelProblem(
            f"name got {called}; allowed lower-case letters, digits, '.', '_' and '-'; "
            "give another with --name"
        )
    if not source.exists():
        raise ModelProblem(f"{source} is missing; allowed {', '.join(_ONE_MODEL)}; correct it")
    root.mkdir(parents=True, exist_ok=True)
    # Inside the store, so that the last step is a rename on one filesystem.
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=root) as scratch:
        staged = Path(scratch) / "model"
        staged.mkdir()
        card = _stage(source, Path(scratch), staged, called, variant, clip)
        card = card.model_copy(update={"licence": licence} if licence else {})
        tried = trials.within(deadline_s, called, _tried, card, staged)
        if not card.golden:
            card = card.model_copy(update={"golden": tried.golden})
        _write_card(card, staged / CARD_FILE)
        return _placed(card, staged, root / called)


def _stage(
    source: Path, scratch: Path, staged: Path, name: str, variant: str, clip: str | None
) -> Card:
    if source.is_file() and source.suffix in _HEAD_SUFFIXES:
        return _head(source, staged, name, clip)
    folder = source
    if archives.is_archive(source):
        unpacked = scratch / "unpacked"
        unpacked.mkdir()
        folder = archives.unpack(source, unpacked)
    elif source.is_file():
        network.refuse_pickle(source)
        raise ModelProblem(
            f"{source} got a file of no known kind; allowed {', '.join(_ONE_MODEL)}; "
            "give the folder of the export"
        )
    if (folder / CARD_FILE).is_file():
        return _carded(folder, staged, name)
    return _export(folder, staged, name, variant)


def _carded(folder: Path, staged: Path, name: str) -> Card:
    card, _ = cards.read(f"{folder}/")
    for file in card.files.values():
        if file.package:
            continue
        cards.model_file(file, folder)  # refuses a path outside the folder
        path, target = folder / file.path, staged / file.path
        if not path.is_file():
            raise ModelProblem(f"{path} is missing; restore the file that {CARD_FILE} names")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return card.model_copy(update={"name": name})


def _export(folder: Path, staged: Path, name: str, variant: str) -> Card:
    found = layouts.recognise(folder, variant)
    contents = {
        "image": ("image.onnx", found.image.content()),
        "text": ("text.onnx", found.text.content()),
        "tokenizer": ("tokenizer.json", found.tokenizer_json),
    }
    files = {}
    for role, (path, content) in contents.items():
        (staged / path).write_bytes(content)
        files[role] = CardFile(path=path, sha256=cards.sha256(staged / path))
    card = Card(
        name=name,
        task="clip",
        description=found.layout + (f", {variant}" if variant else ""),
        files=files,
        preprocessing=found.preprocessing,
        tokenizer=found.tokenizer,
        output=CardOutput(dimension=found.dimension or 1),
        origin={side: cards.sha256(getattr(found, side).path) for side in ("image", "text")},
    )
    if found.dimension is None:
        wide = trials.within(trials.DEADLINE_S, name, _width, card, staged)
        card = card.model_copy(update={"output": CardOutput(dimension=wide)})
    return card


def _head(source: Path, staged: Path, name: str, clip: str | None) -> Card:
    found = heads.published(tensors.read(source), str(source))
    path = staged / "head.onnx"
    path.write_bytes(heads.to_onnx(found.spec).SerializeToString(deterministic=True))
    dimension = found.spec.dimension
    belongs = CardEmbedding(dimension=dimension)
    golden = []
    for seed in _GOLDEN_SEEDS:
        score = float(found.spec.evaluate(heads.probes(dimension, seed))[0])
        near = max(_HEAD_TOLERANCE, _HEAD_TOLERANCE * abs(score))
        golden.append(CardGolden(role="model", seed=seed, values=(score,), tolerance=near))
    card = Card(
        name=name,
        task=found.task,
        description=found.title,
        files={"model": CardFile(path=path.name, sha256=cards.sha256(path))},
        embedding=belongs,
        golden=tuple(golden),
        origin={"model": cards.sha256(source)},
    )
    if clip is None:
        return card
    owner, _ = cards.find(clip, "clip")
    check_fits(card, owner)
    known = belongs.model_copy(update={"image_sha256": owner.file("image").sha256})
    return card.model_copy(update={"embedding": known})


def _placed(card: Card, staged: Path, target: Path) -> Added:
    try:
        os.rename(staged, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        there, _ = cards.read(f"{target}/")
        if there.files != card.files:
            raise ModelProblem(
                f"{target} holds another model of this name: "
                f"{_digests(there)}, not {_digests(card)}; give this one another with --name, or "
                "remove that folder"
            ) from None
        return Added(there, target, is_new=False)
    return Added(card, target, is_new=True)


def _digests(card: Card) -> str:
    return ", ".join(f"{role} {file.sha256[:12]}" for role, file in sorted(card.files.items()))


def _write_card(card: Card, path: Path) -> None:
    plain = card.model_dump(mode="json", exclude_defaults=True)
    if card.task == "clip":  # how it is fed is written out: no later default may change it
        for part in ("preprocessing", "tokenizer"):
            plain[part] = getattr(card, part).model_dump(mode="json", exclude_none=True)
    path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))
    for file in path.parent.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def _name_of(source: Path, variant: str) -> str:
    name = source.resolve().name.lower()
    for suffix in (*archives.SUFFIXES, *_HEAD_SUFFIXES):
        name = name.removesuffix(suffix)
    clean = re.sub(r"[^a-z0-9._-]+", "-", name).strip("-._") or "model"
    return clean + (f"-{variant}" if variant else "")


def _tried(card: Card, folder: Path) -> trial.Tried:
    def file(role: str) -> ModelFile:
        return cards.model_file(card.file(role), folder)

    return trial.try_out(card, file)


def _width(card: Card, folder: Path) -> int:
    def file(role: str) -> ModelFile:
        return cards.model_file(card.file(role), folder)

    return trial.width(Path(file("image").locate()), card, file)


def check(
    name_or_place: str,
    *,
    fetch: cards.Fetch | None = None,
    deadline_s: float = trials.DEADLINE_S,
) -> tuple[Card, trial.Tried]:
    """Everything about a model that can be known before a job starts.

    Raises:
        ModelProblem: what is wrong with it.
        ConfigError: its card is not usable.
    """
    card, folder = cards.read(name_or_place, fetch)
    return card, trials.within(deadline_s, card.name, _tried, card, folder)


def compared(
    name_a: str,
    name_b: str,
    *,
    examples: Path | None = None,
    thresholds: dict[str, float] | None = None,
    fetch: cards.Fetch | None = None,
    deadline_s: float = trials.DEADLINE_S,
) -> list[compare.Drift]:
    """How far the second model is from the first, each run in a process of its own.

    Args:
        name_a: the model that is trusted.
        name_b: its variant.
        examples: folder of pictures with texts; null: rendered scenes.
        thresholds: signal -> where a decision is made, over those of the first model's card.
        fetch: as in `cards.find`.
        deadline_s: the most that each may take.

    Raises:
        ModelProblem: one is missing or does not run, or they are not of one kind.
    """
    (card_a, folder_a), (card_b, folder_b) = (cards.read(n, fetch) for n in (name_a, name_b))
    if card_a.task != card_b.task:
        raise ModelProblem(
            f"model {name_a} does {card_a.task}, {name_b} does {card_b.task}; allowed the same; "
            "compare variants of one model"
        )
    a, b = (
        trials.within(deadline_s, card.name, _values, card, folder, examples)
        for card, folder in ((card_a, folder_a), (card_b, folder_b))
    )
    return compare.drifts(a, b, card_a.thresholds | (thresholds or {}))


def _values(card: Card, folder: Path, examples: Path | None) -> compare.Values:
    needs_pictures = card.task not in HEAD_COLUMNS
    shown = compare.Examples([], [])
    if needs_pictures:
        shown = compare.in_folder(examples) if examples else compare.rendered()

    def file(role: str) -> ModelFile:
        return cards.model_file(card.file(role), folder)

    trial.try_out(card, file)
    return compare.values(card, file, shown)
