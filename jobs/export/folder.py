"""Write a dual encoder as a model folder: two networks, the tokenizer, the card."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from jobs.export import fidelity, network
from jobs.export.fidelity import Drift
from jobs.export.network import Precision
from jobs.export.source import Source
from jobs.models.card import CARD_FILE, Card, CardFile, CardOutput
from jobs.runtime.errors import ConfigError
from udfs.clip_tokenizer import CLIP_BPE_SHA256, clip_bpe

_EXAMPLES: Final = 2


def write(
    source: Source,
    folder: Path,
    *,
    precision: Precision = "fp32",
    licence: str = "not stated",
    is_verified: bool = True,
) -> Drift | None:
    """Write a new folder; nothing is left where it fails.

    Args:
        source: the dual encoder.
        folder: new or empty.
        precision: of weights and arithmetic.
        licence: of the weights, for the card.
        is_verified: compare the networks with torch before the folder appears.

    Returns:
        How far the export is off; null where it was not compared.

    Raises:
        ConfigError: the folder holds something, or cannot be written.
        ModelProblem: what comes out is too far from what torch gives.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"export got folder {folder}, which is not empty; allowed a new one")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ConfigError(
            f"export got folder {folder}: {error.strerror}; allowed one that you can write to"
        ) from error
    try:
        card = _networks(source, made, precision, licence)
        drift = None
        if is_verified:
            drift = fidelity.measure(source, fidelity.clip(card, made), *fidelity.examples())
            fidelity.check(drift, precision)
        _write_card(card, drift, made)
        made.chmod(0o755)  # as mkdir makes it; mkdtemp keeps others out
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return drift


def _networks(source: Source, folder: Path, precision: Precision, licence: str) -> Card:
    side = source.preprocessing.size_px
    pixels = np.zeros((_EXAMPLES, 3, side, side), np.float32)
    image = network.to_onnx(
        source.image, pixels, names=("pixel_values", "image_embeds"), precision=precision
    )
    text = network.to_onnx(
        source.text,
        source.ids(["a photo of a cat"] * _EXAMPLES),
        names=("input_ids", "text_embeds"),
        precision=precision,
    )
    files = {
        "image": _file(folder / "image.onnx", image.content),
        "text": _file(folder / "text.onnx", text.content),
        "tokenizer": _clip_bpe()
        if source.tokenizer_json is None
        else _file(folder / "tokenizer.json", source.tokenizer_json),
    }
    return Card(
        name=source.name,
        task="clip",
        is_demonstration=source.is_random,
        description=(
            "Random weights, to try an export: its scores mean nothing."
            if source.is_random
            else f"{source.name}, exported to ONNX."
        ),
        licence=licence,
        files=files,
        preprocessing=source.preprocessing,
        tokenizer=source.tokenizer,
        output=CardOutput(dimension=image.dimension),
        origin={**source.origin, **network.origin(), "precision": precision},
    )


def _clip_bpe() -> CardFile:
    name = Path(clip_bpe().verified_path()).name
    return CardFile(path=name, sha256=CLIP_BPE_SHA256, package="open_clip")


def _file(path: Path, content: bytes) -> CardFile:
    path.write_bytes(content)
    return CardFile(path=path.name, sha256=hashlib.sha256(content).hexdigest())


def _write_card(card: Card, drift: Drift | None, folder: Path) -> None:
    dumped = card.model_dump(mode="json", exclude_none=True)
    written: dict[str, Any] = {key: value for key, value in dumped.items() if value not in ({}, [])}
    if drift is not None:
        figures = ("image", "image_centred", "text", "text_centred")
        written["origin"] |= {
            f"least_cosine_to_torch_{name}": f"{getattr(drift, name):.6f}" for name in figures
        }
    text = yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=100)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
