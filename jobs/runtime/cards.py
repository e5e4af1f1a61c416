"""Model cards: what a network is, where its files are, how to feed it."""

import hashlib
import json
import os
from functools import partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import onnxruntime as ort
from pydantic import BaseModel, ConfigDict, Field

from jobs.runtime import strict_yaml
from jobs.runtime.errors import ModelProblem
from udfs.model_file import ModelFile

CARD_FILE: Final = "model.yaml"
# Folders of models beside the bundled cards, as PATH is one of programs.
SEARCH_VARIABLE: Final = "SLUICE_MODEL_PATH"
REPOSITORY_MODELS: Final = Path(__file__).parents[2] / "infra"
Hex: Final = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CardFile(_Part):
    """One file of a model: beside its card, or inside an installed package."""

    path: str
    sha256: str = Field(pattern=Hex)
    package: str | None = None


class CardPreprocessing(_Part):
    """How the image network wants its picture; CLIP's own values by default."""

    size_px: int = Field(default=224, ge=1)
    resize: Literal["shortest", "squash", "longest"] = "shortest"
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"] = (
        "bicubic"
    )
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    fill: int = Field(default=0, ge=0, le=255)
    resize_px: int | None = Field(default=None, ge=1)
    half_pixel: Literal["even", "down"] = "even"


class CardTokenizer(_Part):
    """How the text network wants its text."""

    kind: Literal["clip_bpe", "tokenizer_json"] = "clip_bpe"
    context_length: int = Field(default=77, ge=2)
    pad_id: int = Field(default=0, ge=0)
    cleaning: Literal["none", "whitespace", "lower", "canonicalize"] | None = None


class CardOutput(_Part):
    """What comes out."""

    dimension: int = Field(ge=1)


class Card(_Part):
    """A `model.yaml`."""

    name: str
    task: Literal["clip", "nsfw", "language"]
    version: str = "1"
    is_demonstration: bool = False
    description: str = ""
    licence: str = "not stated"
    files: dict[str, CardFile]
    preprocessing: CardPreprocessing = CardPreprocessing()
    tokenizer: CardTokenizer = CardTokenizer()
    output: CardOutput | None = None
    threshold: dict[str, float | str] = {}
    training: dict[str, Any] = {}

    @property
    def thresholds(self) -> dict[str, float]:
        """Signal -> threshold that the card was calibrated to."""
        return {k: v for k, v in self.threshold.items() if isinstance(v, int | float)}

    def file(self, role: str) -> CardFile:
        """The file of a role.

        Raises:
            ModelProblem: the card names none.
        """
        if role not in self.files:
            raise ModelProblem(
                f"card {self.name} names no file {role}, only {', '.join(sorted(self.files))}; "
                f"add files.{role} to its {CARD_FILE}"
            )
        return self.files[role]


def find(name_or_folder: str, task: str) -> tuple[Card, Path]:
    """The card of a model and the folder its files are relative to.

    Args:
        name_or_folder: a folder with a `model.yaml` or a standard two-file CLIP export, or a
            name that a bundled card or a folder on `SLUICE_MODEL_PATH` has.
        task: what the model must do.

    Raises:
        ModelProblem: there is none, or it does something else.
    """
    card, folder = _find(name_or_folder)
    if card.task != task:
        raise ModelProblem(
            f"model {name_or_folder} does {card.task}, not {task}; name one that does {task}"
        )
    return card, folder


def _find(name_or_folder: str) -> tuple[Card, Path]:
    if "/" in name_or_folder:
        return _in_folder(Path(name_or_folder)), Path(name_or_folder)
    bundled = resources.files("jobs") / "cards" / f"{name_or_folder}.yaml"
    if bundled.is_file():
        return _parsed(bundled.read_bytes(), name_or_folder), Path()
    searched = [*os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep), str(REPOSITORY_MODELS)]
    for root in filter(None, searched):
        folder = Path(root) / name_or_folder.replace("-", "_")
        if (folder / CARD_FILE).is_file():
            return _in_folder(folder), folder
    raise ModelProblem(
        f"model {name_or_folder} is no bundled card and no folder under "
        f"{', '.join(filter(None, searched))}; "
        f"give the path of its folder, or set {SEARCH_VARIABLE}"
    )


def _in_folder(folder: Path) -> Card:
    if (folder / CARD_FILE).is_file():
        return _parsed((folder / CARD_FILE).read_bytes(), str(folder / CARD_FILE))
    return _recognised(folder)


def _parsed(content: bytes, origin: str) -> Card:
    return strict_yaml.validated(Card, strict_yaml.parse(content, origin=f"model card {origin}"))


def _recognised(folder: Path) -> Card:
    """The card of a standard two-file CLIP export that has none.

    Layout: `vision_model.onnx` and `text_model.onnx`, at the top or in `onnx/`, with
    `tokenizer.json` and, where they differ from CLIP's, `preprocessor_config.json` and
    `config.json`, as the usual exporter writes them.
    """
    networks = next(
        (sub for sub in (folder, folder / "onnx") if (sub / "vision_model.onnx").is_file()), None
    )
    if networks is None or not (networks / "text_model.onnx").is_file():
        raise ModelProblem(
            f"{folder} holds neither {CARD_FILE} nor vision_model.onnx and text_model.onnx; "
            "give the folder of a two-file CLIP export, or write a card for it"
        )
    if not (folder / "tokenizer.json").is_file():
        raise ModelProblem(
            f"{folder} has no tokenizer.json; add the one the model was trained with"
        )
    paths = {
        "image": networks / "vision_model.onnx",
        "text": networks / "text_model.onnx",
        "tokenizer": folder / "tokenizer.json",
    }
    config = _json(folder / "config.json")
    text_config = config.get("text_config", {})
    return Card(
        name=folder.name,
        task="clip",
        description="two-file CLIP export without a card",
        files={
            role: CardFile(
                path=str(path.relative_to(folder)),
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for role, path in paths.items()
        },
        preprocessing=_preprocessing(_json(folder / "preprocessor_config.json")),
        tokenizer=CardTokenizer(
            kind="tokenizer_json",
            context_length=text_config.get("max_position_embeddings", 77),
            # Hugging Face's CLIP tokenizers pad with the end token.
            pad_id=_json(folder / "tokenizer_config.json").get("pad_token_id", 49407),
        ),
        output=CardOutput(dimension=config.get("projection_dim") or _width(paths["image"])),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    parsed = json.loads(path.read_text())
    if not isinstance(parsed, dict):
        raise ModelProblem(f"{path} holds no JSON object; restore the exporter's file")
    return parsed


def _preprocessing(written: dict[str, Any]) -> CardPreprocessing:
    """`preprocessor_config.json` in our words; what it leaves out is CLIP's."""
    size = written.get("crop_size") or written.get("size") or 224
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    fields: dict[str, Any] = {"size_px": size}
    for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
        if theirs in written:
            fields[ours] = tuple(written[theirs])
    if written.get("do_center_crop") is False:
        fields["resize"] = "squash"
    # PIL's resampling numbers.
    if "resample" in written:
        fields["interpolation"] = {2: "bilinear", 3: "bicubic"}[written["resample"]]
    return CardPreprocessing(**fields)


def _width(network: Path) -> int:
    shape = ort.InferenceSession(str(network)).get_outputs()[0].shape
    if not isinstance(shape[-1], int):
        raise ModelProblem(
            f"{network} does not say how long its embeddings are; "
            "put projection_dim into config.json"
        )
    return shape[-1]


def local_path(file: CardFile, folder: Path) -> str:
    """Where a card's file is on this machine.

    Raises:
        ModelProblem: its package is not installed.
    """
    return _in_package(file.package, file.path) if file.package else str(folder / file.path)


def _in_package(package: str, path: str) -> str:
    # Found, not imported: some of these wheels are installed for their files alone.
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelProblem(f"package {package} is not installed; run make setup")
    return str(Path(spec.submodule_search_locations[0]) / path)


def model_file(file: CardFile, folder: Path) -> ModelFile:
    """The file as workers on this machine, or with the same packages, find it."""
    if file.package:
        return ModelFile(file.sha256, partial(_in_package, file.package, file.path))
    return ModelFile(file.sha256, partial(str, folder / file.path))
