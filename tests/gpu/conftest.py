"""Networks as they are on a GPU; every test here needs one, and is skipped with what is missing."""

import hashlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from tests import vision_tower
from udfs.clip import Clip, Preprocessing
from udfs.clip_tokenizer import Tokenizer, clip_bpe
from udfs.model_file import ModelFile


@pytest.fixture(scope="session")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[np.floating]], Clip]:
    """ViT-B/32 of random weights in a precision, both sides of a CLIP."""
    of, folder = vision_tower.VIT_B_32, tmp_path_factory.mktemp("towers")

    def made(dtype: type[np.floating]) -> Clip:
        path = folder / f"{np.dtype(dtype).name}.onnx"
        if not path.exists():
            vision_tower.write(of, path, dtype)
        file = ModelFile(hashlib.sha256(path.read_bytes()).hexdigest(), partial(str, path))
        pixels = Preprocessing(size_px=of.image_px)
        return Clip(file, file, Tokenizer("clip_bpe", clip_bpe()), pixels, of.dimension)

    return made
