"""A model of open_clip: by name and weights, or a folder with `open_clip_config.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jobs.export.extra import extra
from jobs.export.source import Source
from jobs.models import preprocessor
from jobs.models.card import CardTokenizer
from jobs.runtime.errors import ModelProblem

CONFIG_FILE = "open_clip_config.json"


def read(model: str, *, pretrained: str | None, seed: int | None) -> Source:
    """The model in float32 on the CPU.

    Args:
        model: a name that open_clip knows, or a folder that holds its configuration.
        pretrained: a tag, which may be downloaded, or a checkpoint's path; null for a folder.
        seed: of random weights, to try an export without any.

    Raises:
        ModelProblem: open_clip cannot make it, or it is of a kind that no card describes.
    """
    is_folder = Path(model).is_dir()
    torch = extra("torch")
    open_clip = extra("open_clip", is_offline=is_folder or seed is not None)
    factory, transforms = extra("open_clip.factory"), extra("open_clip.transform")
    if not is_folder and pretrained is None and seed is None:
        raise ModelProblem(
            f"{model} got no weights; allowed --pretrained TAG or FILE, or --seed N for random ones"
        )
    name = f"local-dir:{model}" if is_folder else model
    if seed is not None:
        torch.manual_seed(seed)
    try:
        made = open_clip.create_model(
            name,
            pretrained=pretrained,
            load_weights=seed is None,
            require_pretrained=seed is None,
            force_custom_text=True,  # the text tower is a module of its own; the weights are equal
            pretrained_text=False,
        ).eval()
        tokenizer = factory.get_tokenizer(name)
    except Exception as error:  # the library raises a dozen types
        raise ModelProblem(
            f"open_clip cannot make {model} with weights {pretrained or seed}: {error}; "
            "allowed a name and a tag of open_clip.list_pretrained(), a checkpoint of that name, "
            f"or a folder with {CONFIG_FILE}, weights and tokenizer"
        ) from error
    config = made.visual.preprocess_cfg
    transform = transforms.image_transform_v2(transforms.PreprocessCfg(**config), is_train=False)

    def pixels(image: Image.Image) -> np.ndarray:
        return np.asarray(transform(image))

    def ids(texts: Sequence[str]) -> np.ndarray:
        return np.asarray(tokenizer(list(texts)))

    described, content = _tokenizer(tokenizer)
    weights = "random" if seed is not None else str(pretrained or "of the folder")
    return Source(
        name=Path(model).name,
        origin={"library": f"open_clip {open_clip.__version__}", "weights": weights},
        is_random=seed is not None,
        image=made.visual,
        text=made.text,
        preprocessing=preprocessor.from_open_clip(config, model),
        tokenizer=described,
        tokenizer_json=content,
        pixels=pixels,
        ids=ids,
    )


def _tokenizer(tokenizer: Any) -> tuple[CardTokenizer, bytes | None]:
    """What the card says and the file; whether it gives the same ids is tried afterwards."""
    cleaning = tokenizer.clean_fn.__name__.removeprefix("_clean_")
    length = tokenizer.context_length
    if hasattr(tokenizer, "encoder"):
        own = None if cleaning == "lower" else cleaning
        return CardTokenizer(kind="clip_bpe", context_length=length, cleaning=own), None
    inner = tokenizer.tokenizer
    if not hasattr(inner, "backend_tokenizer"):
        raise ModelProblem(
            f"tokenizer {type(inner).__name__} has no tokenizer.json; "
            "allowed those of the tokenizers library; save it as one first"
        )
    described = CardTokenizer(
        kind="tokenizer_json",
        context_length=length,
        pad_id=inner.pad_token_id,
        cleaning=cleaning,
    )
    backend = type(inner.backend_tokenizer).from_str(inner.backend_tokenizer.to_str())
    backend.no_padding()  # both are the card's; what was last called must not show in the file
    backend.no_truncation()
    return described, str(backend.to_str()).encode()
