import io
import json
import re
from pathlib import Path

import numpy as np
import onnx
import webdataset
from onnx import TensorProto, helper, numpy_helper
from pyspark.sql import SparkSession
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from jobs import cycle
from jobs.demo import scenes
from jobs.init import write_config
from jobs.runtime.config import load

DIMENSION = 32
SIDE = 64


def write_dump(folder: Path) -> int:
    """Tars as webdataset's own writer makes them, with the side-cars that img2dataset adds."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    written = 0
    for shard in range(2):
        with webdataset.TarWriter(str(folder / f"{shard:05d}.tar")) as tar:
            for i in range(12):
                scene = scenes.draw(rng, split="train")
                with io.BytesIO() as file:
                    scenes.render(scene, rng, width_px=256, height_px=240).save(file, "JPEG")
                    image = file.getvalue()
                caption = scenes.caption(scene, rng)
                key = f"{shard:05d}{i:04d}"
                facts = {"url": f"https://example.org/{key}", "caption": caption, "width": 256}
                tar.write(
                    {
                        "__key__": key,
                        "jpg": image,
                        "txt": caption,
                        "json": json.dumps(facts).encode(),
                    }
                )
                written += 1
    return written


def write_clip(folder: Path) -> None:
    """A two-file CLIP export with random weights, laid out as the usual exporter does."""
    (folder / "onnx").mkdir(parents=True)
    rng = np.random.default_rng(1)

    def save(name: str, nodes: list, source: tuple, target: str, **weights: np.ndarray) -> None:
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(*source)],
            [helper.make_tensor_value_info(target, TensorProto.FLOAT, ["batch", DIMENSION])],
            [numpy_helper.from_array(value, key) for key, value in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.save(model, str(folder / "onnx" / f"{name}.onnx"))

    save(
        "vision_model",
        [
            helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "projection"], ["image_embeds"]),
        ],
        ("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE]),
        "image_embeds",
        projection=rng.normal(size=(3, DIMENSION)).astype(np.float32),
    )
    save(
        "text_model",
        [
            helper.make_node("Gather", ["tokens", "input_ids"], ["embedded"], axis=0),
            helper.make_node("ReduceMean", ["embedded"], ["text_embeds"], axes=[1], keepdims=0),
        ],
        ("input_ids", TensorProto.INT64, ["batch", "length"]),
        "text_embeds",
        tokens=rng.normal(size=(300, DIMENSION)).astype(np.float32),
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "<s>", "<e>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <e>", special_tokens=[(t, vocabulary[t]) for t in ("<s>", "<e>")]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token_id": vocabulary["<e>"]}))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": SIDE}, "crop_size": SIDE, "resample": 3})
    )


def test_own_tars_and_an_own_clip_need_three_edits(spark: SparkSession, tmp_path: Path) -> None:
    count = write_dump(tmp_path / "tars")
    write_clip(tmp_path / "clip")
    path = tmp_path / "sluice.yaml"
    write_config(path)
    edits = {
        r"path: path/to/tars": "path: tars",
        r"clip: demo-clip": "clip: ./clip",
        r"min: card": "min: -1",
    }
    text = path.read_text()
    for before, after in edits.items():
        text, edited = re.subn(f"(?m)^( +(?:- )?){before}$", rf"\g<1>{after}", text)
        assert edited == 1, before
    path.write_text(text)

    planned = cycle.plan(load(str(path)), spark)
    cycle.run(planned, command="own")

    read = planned.warehouse.read
    assert read("bronze.samples").count() == count
    assert read("bronze.samples").where("url LIKE 'https://example.org/%'").count() == count
    kept, rejected = (
        read("ops.decisions").where("is_kept").count(),
        read("ops.decisions").where("NOT is_kept").count(),
    )
    assert kept + rejected == count
    assert read("gold.default").count() == kept > 0
    (dimension,) = {
        row.clip_dimension
        for row in read("silver.image_signals").select("clip_dimension").collect()
    }
    assert dimension == DIMENSION
