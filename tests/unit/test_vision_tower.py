"""The tower's graph against the same arithmetic in numpy."""

import numpy as np
import onnxruntime as ort
import pytest

from tests import vision_tower
from tests.vision_tower import QUICK, SMALL


def computed(pixels: np.ndarray) -> np.ndarray:
    """What the small tower is to give, head by head."""
    of = vision_tower.weights(SMALL, np.float32)
    count, side = len(pixels), SMALL.image_px // SMALL.patch_px

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return (x - x.mean(-1, keepdims=True)) / spread * of[name] + of[f"{name}_bias"]

    cut = pixels.reshape(count, 3, side, SMALL.patch_px, side, SMALL.patch_px)
    cut = cut.transpose(0, 2, 4, 1, 3, 5).reshape(count, SMALL.patches, -1)
    patches = cut @ of["patch"].reshape(SMALL.width, -1).T
    first = np.broadcast_to(of["class"], (count, 1, SMALL.width))
    x = norm(np.concatenate([first, patches], 1) + of["positions"], "before")
    for layer in range(SMALL.layers):
        at = f"layer{layer}."
        mixed = norm(x, f"{at}norm1") @ of[f"{at}qkv"] + of[f"{at}qkv_bias"]
        heads = []
        for q, k, v in zip(
            *(np.split(part, SMALL.heads, -1) for part in np.split(mixed, 3, -1)), strict=True
        ):
            scores = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v)
        x = x + np.concatenate(heads, -1) @ of[f"{at}out"] + of[f"{at}out_bias"]
        up = norm(x, f"{at}norm2") @ of[f"{at}up"] + of[f"{at}up_bias"]
        x = x + up / (1 + np.exp(-QUICK * up)) @ of[f"{at}down"] + of[f"{at}down_bias"]
    projected: np.ndarray = norm(x[:, 0], "after") @ of["project"]
    return projected


# Of embeddings of spread 1; 2e-3 is two steps of float16 there, and what it rounds adds up.
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-5), (np.float16, 1e-2)])
def test_the_tower_is_a_vision_transformer(tmp_path, dtype, bound) -> None:
    path = tmp_path / "small.onnx"
    vision_tower.write(SMALL, path, dtype)
    pixels = np.random.default_rng(1).standard_normal((3, 3, 32, 32), np.float32)
    network = ort.InferenceSession(path, disabled_optimizers=["NchwcTransformer"])
    (got,) = network.run(None, {"pixel_values": pixels})
    assert got.dtype == np.float32
    assert np.abs(got - computed(pixels)).max() < bound


def test_weights_are_as_many_as_published() -> None:
    counts = [
        sum(int(np.prod(shape)) for shape in vision_tower.shapes(tower).values())
        for tower in (vision_tower.VIT_B_32, vision_tower.VIT_L_14)
    ]
    assert counts == [87_849_216, 303_966_208]  # open_clip's visual.parameters()
