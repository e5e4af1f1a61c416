"""A CLIP or SigLIP checkpoint folder of transformers; nothing is downloaded."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jobs.export.extra import extra
from jobs.export.source import Source
from jobs.models import preprocessor
from jobs.models.card import CardTokenizer
from jobs.runtime.errors import ModelProblem


def read(folder: Path) -> Source:
    """The model in float32 on the CPU.

    Raises:
        ModelProblem: transformers cannot read it, or it is of a kind that no card describes.
    """
    torch = extra("torch")
    transformers = extra("transformers", is_offline=True)
    try:
        made = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the library raises a dozen types
        raise ModelProblem(
            f"transformers cannot read {folder}: {error}; allowed a checkpoint with config.json, "
            "weights in safetensors, preprocessor_config.json and tokenizer.json"
        ) from error
    if not (hasattr(made, "get_image_features") and hasattr(made, "get_text_features")):
        raise ModelProblem(
            f"{folder} got a {type(made).__name__}; allowed a model with image and text features, "
            "as CLIP and SigLIP; give such a checkpoint"
        )
    if not (folder / "tokenizer.json").is_file():
        raise ModelProblem(
            f"{folder} has no tokenizer.json; add the one the model was trained with"
        )
    length = made.config.text_config.max_position_embeddings

    def pixels(image: Image.Image) -> np.ndarray:
        return np.asarray(processor(image, return_tensors="np")["pixel_values"][0], np.float32)

    def ids(texts: Sequence[str]) -> np.ndarray:
        padded = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length)
        return np.asarray(padded["input_ids"], np.int64)

    return Source(
        name=folder.resolve().name,
        origin={
            "library": f"transformers {transformers.__version__}",
            "weights": "of the folder",
        },
        is_random=False,
        image=_tower(torch, made, lambda x: _pooled(made.get_image_features(pixel_values=x))),
        text=_tower(torch, made, lambda x: _pooled(made.get_text_features(input_ids=x))),
        preprocessing=preprocessor.from_transformers(_written(processor), str(folder)),
        tokenizer=CardTokenizer(
            kind="tokenizer_json", context_length=length, pad_id=tokenizer.pad_token_id
        ),
        tokenizer_json=(folder / "tokenizer.json").read_bytes(),
        pixels=pixels,
        ids=ids,
    )


def _pooled(features: Any) -> Any:
    return getattr(features, "pooler_output", features)


def _tower(torch: Any, made: Any, forward: Callable[[Any], Any]) -> Any:
    """One side as a module; made without a class, which would need torch to be defined."""
    tower = torch.nn.Module()
    tower.whole, tower.forward = made, forward
    return tower.eval()


def _written(processor: Any) -> dict[str, Any]:
    """The processor as its file would say it, with every default of its type filled in."""
    written: dict[str, Any] = json.loads(processor.to_json_string())
    return {key: value for key, value in written.items() if value is not None}
