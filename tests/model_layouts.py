"""Writers of every published CLIP layout, in its own file and tensor names, with small networks."""

import functools
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jobs.models.tokens import clip_json
from udfs.clip_tokenizer import Tokenizer, clip_bpe

SIDE, WIDTH, VOCABULARY = 16, 8, 49408
CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": SIDE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
SIGLIP = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
OPEN_CLIP = {
    "size": [SIDE, SIDE],
    "mode": "RGB",
    "mean": CLIP["image_mean"],
    "std": CLIP["image_std"],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
Nodes = list[onnx.NodeProto]
Ports = list[onnx.ValueInfoProto]


def port(name: str, dtype: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def save(path: Path, nodes: Nodes, inputs: Ports, outputs: Ports, *, opset: int = 17) -> None:
    rng = np.random.default_rng(7)
    weights = {
        "looks": rng.normal(size=(3, WIDTH)),
        "reads": rng.normal(size=(VOCABULARY, WIDTH)),
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        outputs,
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in weights.items()
            if name in used
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def image_nodes(name: str, output: str) -> Nodes:
    return [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["channels"]),
        helper.make_node("MatMul", ["channels", "looks"], [output]),
    ]


def text_nodes(name: str, output: str) -> Nodes:
    return [
        helper.make_node("Gather", ["reads", name], ["words"], axis=0),
        helper.make_node("ReduceMean", ["words"], [output], axes=[1], keepdims=0),
    ]


def vision(path: Path, name="pixel_values", output="image_embeds", size=SIDE, **options) -> None:
    inputs = [port(name, TensorProto.FLOAT, "batch", 3, size, size)]
    outputs = [port(output, TensorProto.FLOAT, "batch", WIDTH)]
    save(path, image_nodes(name, output), inputs, outputs, **options)


def text(
    path: Path,
    name="input_ids",
    output="text_embeds",
    dtype=TensorProto.INT64,
    length: int | str = "sequence",
    width: int | str = WIDTH,
    extra: Ports = (),
    **options,
) -> None:
    inputs = [port(name, dtype, "batch", length), *extra]
    outputs = [port(output, TensorProto.FLOAT, "batch", width)]
    save(path, text_nodes(name, output), inputs, outputs, **options)


def clip_words() -> tuple[dict[str, int], list[str]]:
    """CLIP's real vocabulary and merges."""
    loaded = Tokenizer("clip_bpe", clip_bpe()).load()
    with gzip.open(clip_bpe().locate(), "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    return loaded.get_vocab(), merges


@functools.cache
def word_files() -> dict[str, bytes]:
    """`vocab.json` and `merges.txt`."""
    words, merges = clip_words()
    text = "#version: 0.2\n" + "\n".join(merges) + "\n"
    return {"vocab.json": json.dumps(words).encode(), "merges.txt": text.encode()}


@functools.cache
def tokenizer_json() -> bytes:
    """The same as one `tokenizer.json`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in word_files().items():
            Path(folder, name).write_bytes(content)
        return clip_json(Path(folder, "vocab.json"), Path(folder, "merges.txt"))


def tokenizer(folder: Path, *, pad: str = "<|endoftext|>", as_words: bool = False) -> None:
    """CLIP's tokenizer: `tokenizer.json`, or `vocab.json` and `merges.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = word_files() if as_words else {"tokenizer.json": tokenizer_json()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write(folder, "tokenizer_config.json", {"pad_token": pad})


def write(folder: Path, name: str, content: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def two_files(folder: Path, sub: str = "onnx", suffix: str = "") -> Path:
    """Xenova's and onnx-community's exports by optimum."""
    vision(folder / sub / f"vision_model{suffix}.onnx")
    text(folder / sub / f"text_model{suffix}.onnx")
    tokenizer(folder)
    write(folder, "preprocessor_config.json", CLIP)
    write(folder, "config.json", {"model_type": "clip", "projection_dim": WIDTH})
    return folder


def visual_textual(folder: Path) -> Path:
    """immich's exports of open_clip models."""
    vision(folder / "visual" / "model.onnx", "image", "image_embedding")
    text(folder / "textual" / "model.onnx", "text", "text_embedding", TensorProto.INT32, 77)
    tokenizer(folder / "textual")
    write(folder / "visual", "preprocess_cfg.json", OPEN_CLIP)
    described = {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": SIDE, "layers": 12},
        "text_cfg": {"context_length": 77, "vocab_size": VOCABULARY},
    }
    write(folder, "config.json", described)
    return folder


def pair(folder: Path) -> Path:
    """Qdrant's two repositories."""
    vision(folder / "clip-ViT-B-32-vision" / "model.onnx")
    write(folder / "clip-ViT-B-32-vision", "preprocessor_config.json", CLIP)
    mask = port("attention_mask", TensorProto.INT64, "batch", "sequence")
    text(folder / "clip-ViT-B-32-text" / "model.onnx", extra=[mask])
    tokenizer(folder / "clip-ViT-B-32-text", as_words=True)
    write(folder / "clip-ViT-B-32-text", "config.json", {"model_type": "clip"})
    return folder


def combined(folder: Path, *, is_crossed: bool = False) -> Path:
    """optimum's one-file export, with both sides and their products in one graph."""
    text_in = "text_embeds" if not is_crossed else "alone"
    nodes = [*image_nodes("pixel_values", "image_embeds"), *text_nodes("input_ids", text_in)]
    if is_crossed:
        nodes.append(helper.make_node("Add", ["alone", "image_embeds"], ["text_embeds"]))
    nodes += [
        helper.make_node("Transpose", ["image_embeds"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["text_embeds", "turned"], ["logits_per_text"]),
    ]
    save(
        folder / "onnx" / "model.onnx",
        nodes,
        [
            port("input_ids", TensorProto.INT64, "texts", "sequence"),
            port("pixel_values", TensorProto.FLOAT, "images", 3, SIDE, SIDE),
            port("attention_mask", TensorProto.INT64, "texts", "sequence"),
        ],
        [
            port("logits_per_text", TensorProto.FLOAT, "texts", "images"),
            port("text_embeds", TensorProto.FLOAT, "texts", WIDTH),
            port("image_embeds", TensorProto.FLOAT, "images", WIDTH),
        ],
    )
    tokenizer(folder)
    write(folder, "preprocessor_config.json", CLIP)
    write(folder, "config.json", {"model_type": "clip", "projection_dim": WIDTH})
    return folder


def siglip(folder: Path) -> Path:
    """onnx-community's exports of SigLIP: no projection, a pooled output, 64 ids."""
    vision(folder / "onnx" / "vision_model.onnx", output="pooler_output")
    text(folder / "onnx" / "text_model.onnx", output="pooler_output", width="dim")
    tokenizer(folder, pad="!")  # id 0
    write(folder, "preprocessor_config.json", SIGLIP)
    text_config = {"model_type": "siglip_text_model", "max_position_embeddings": 64}
    write(folder, "config.json", {"model_type": "siglip", "text_config": text_config})
    return folder
