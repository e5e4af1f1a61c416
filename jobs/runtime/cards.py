"""Where models are: a card and its files by a name, a folder or an address."""

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from jobs.models import layouts
from jobs.models.card import (
    CARD_FILE,
    Card,
    CardFile,
    CardOutput,
    CardPreprocessing,
    CardTokenizer,
    Hex,
)
from jobs.runtime import strict_yaml
from jobs.runtime.errors import ConfigError, ModelProblem
from udfs.model_file import ModelFile, in_package

__all__ = [
    "CARD_FILE",
    "PACKAGE_GROUP",
    "SEARCH_VARIABLE",
    "Card",
    "CardFile",
    "CardOutput",
    "CardPreprocessing",
    "CardTokenizer",
    "Hex",
    "every",
    "find",
    "local_path",
    "model_file",
    "read",
    "store",
]

# Folders of models beside the bundled cards, as PATH is one of programs; new ones go to the first.
SEARCH_VARIABLE: Final = "SLUICE_MODEL_PATH"
# Entry points of this group name a package that has a card: `mine = "my_models.clip"`.
PACKAGE_GROUP: Final = "sluice.models"
REPOSITORY_MODELS: Final = Path(__file__).parents[2] / "infra"
_STORE: Final = Path("~/.local/share/sluice/models")  # XDG Base Directory, $XDG_DATA_HOME's default
_MAX_CARD_BYTES: Final = 2**20  # chosen: a hundred times the longest card

Fetch = Callable[[str], Path]


def store() -> Path:
    """The folder that new models go to: the first of the search path, or the user's own."""
    return next(iter(_search_path()))


def find(name_or_place: str, task: str, fetch: Fetch | None = None) -> tuple[Card, Path]:
    """The card of a model and the folder its files are relative to.

    Args:
        name_or_place: a folder with a `model.yaml` or a CLIP export; or a name that a bundled card,
            a folder on `SLUICE_MODEL_PATH` or in the store, or an installed package has; or an
            address such as `hdfs://…` or `models:/name/1`.
        task: what the model must do.
        fetch: gives the local folder of what lies at an address; null where none can be reached.

    Raises:
        ModelProblem: there is none, or it does something else.
        ConfigError: its card is not usable.
    """
    card, folder = read(name_or_place, fetch)
    if card.task != task:
        raise ModelProblem(
            f"model {name_or_place} does {card.task}, not {task}; name one that does {task}"
        )
    return card, folder


def read(name_or_place: str, fetch: Fetch | None = None) -> tuple[Card, Path]:
    """`find`, whatever the model does."""
    if "://" in name_or_place or name_or_place.startswith("models:/"):
        if fetch is None:
            raise ModelProblem(
                f"model {name_or_place} got an address; allowed a name or a folder here; "
                "copy it to a folder and say `sluice models add FOLDER`"
            )
        folder = fetch(name_or_place)
        return _in_folder(folder), folder
    if "/" in name_or_place:
        return _in_folder(Path(name_or_place)), Path(name_or_place)
    bundled = resources.files("jobs") / "cards" / f"{name_or_place}.yaml"
    if bundled.is_file():
        return _parsed(bundled.read_bytes(), name_or_place), Path()
    searched = [*_search_path(), REPOSITORY_MODELS]
    for root in searched:
        for folder in (root / name_or_place, root / name_or_place.replace("-", "_")):
            if (folder / CARD_FILE).is_file():
                return _in_folder(folder), folder
    in_package = _packaged().get(name_or_place)
    if in_package is not None and (in_package / CARD_FILE).is_file():
        return _in_folder(in_package), in_package
    raise ModelProblem(
        f"model {name_or_place} is no bundled card, in no installed package and no folder under "
        f"{', '.join(map(str, searched))}; give the path of its folder, say `sluice models add`, "
        f"or set {SEARCH_VARIABLE}"
    )


def every() -> Iterator[tuple[Card | None, str, str]]:
    """Every model that a name finds.

    Yields:
        Its card, or null where that cannot be read; its name; where it is, or what is wrong.
    """
    places: dict[str, str] = {}
    for file in sorted((resources.files("jobs") / "cards").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            places.setdefault(file.name.removesuffix(".yaml"), "bundled")
    for root in [*_search_path(), REPOSITORY_MODELS]:
        for path in sorted(root.glob(f"*/{CARD_FILE}")):
            folder, name = path.parent, path.parent.name
            if root == REPOSITORY_MODELS:  # a Python package as well, so without hyphens
                name = name.replace("_", "-")
            if not name.startswith("."):
                places.setdefault(name, str(folder))
    for name, packaged in _packaged().items():
        places.setdefault(name, str(packaged))
    for name, place in places.items():
        try:
            yield read(name)[0], name, place
        except (ModelProblem, ConfigError) as error:
            yield None, name, str(error)


def _search_path() -> list[Path]:
    given = os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep)
    return [*map(Path, filter(None, given)), _STORE.expanduser()]


def _packaged() -> dict[str, Path]:
    """Name -> folder of the models that installed packages say they have; none is imported."""
    found = {}
    for point in entry_points(group=PACKAGE_GROUP):
        top, *inner = point.value.split(".")
        spec = find_spec(top)  # not of the whole name: that would import what is above it
        if spec is not None and spec.submodule_search_locations:
            found[point.name] = Path(spec.submodule_search_locations[0]).joinpath(*inner)
    return found


def _in_folder(folder: Path) -> Card:
    path = folder / CARD_FILE
    if path.is_file():
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise ModelProblem(
                f"{path} got {path.stat().st_size} bytes; allowed {_MAX_CARD_BYTES}; "
                "restore the model's card"
            )
        return _parsed(path.read_bytes(), str(path))
    return _in_place(folder)


def _parsed(content: bytes, origin: str) -> Card:
    return strict_yaml.validated(Card, strict_yaml.parse(content, origin=f"model card {origin}"))


def _in_place(folder: Path) -> Card:
    """The card of a CLIP export that has none and whose files can be used as they lie."""
    if not folder.is_dir():
        raise ModelProblem(
            f"{folder} is no folder; allowed a folder with {CARD_FILE} or a CLIP export; "
            "take in an archive or a single file with `sluice models add`"
        )
    found = layouts.recognise(folder)
    paths = {"image": found.image.path, "text": found.text.path}
    tokenizer = next(
        (at / "tokenizer.json" for at in found.text.folders if (at / "tokenizer.json").is_file()),
        None,
    )
    is_as_it_lies = all(
        side.keeps is None and not side.has_weights_beside and side.path.is_relative_to(folder)
        for side in (found.image, found.text)
    )
    if tokenizer is None or not is_as_it_lies or found.dimension is None:
        raise ModelProblem(
            f"{folder} holds a {found.layout} that cannot be used as it lies; "
            f"take it in with `sluice models add {folder}` and give its name"
        )
    paths["tokenizer"] = tokenizer
    return Card(
        name=folder.name,
        task="clip",
        description=f"{found.layout} without a card",
        files={
            role: CardFile(path=str(path.relative_to(folder)), sha256=sha256(path))
            for role, path in paths.items()
        },
        preprocessing=found.preprocessing,
        tokenizer=found.tokenizer,
        output=CardOutput(dimension=found.dimension),
    )


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_path(file: CardFile, folder: Path) -> str:
    """Where a card's file is on this machine.

    Raises:
        ModelProblem: its package is not installed, or its path leaves the folder.
    """
    if file.package:
        try:
            return in_package(file.package, file.path)
        except ModuleNotFoundError as error:
            raise ModelProblem(str(error)) from None
    return str(_inside(file, folder))


def _inside(file: CardFile, folder: Path) -> Path:
    path = Path(file.path)
    if path.is_absolute() or ".." in path.parts:
        raise ModelProblem(
            f"card file {file.path} got a path outside the model's folder; allowed relative ones; "
            "put the file beside its card"
        )
    return folder / path


def model_file(file: CardFile, folder: Path) -> ModelFile:
    """The file as workers on this machine, or with the same packages, find it.

    Raises:
        ModelProblem: its path leaves the folder.
    """
    if file.package:
        return ModelFile(file.sha256, partial(in_package, file.package, file.path))
    return ModelFile(file.sha256, partial(str, _inside(file, folder)))
