"""Each published layout, with its own file and tensor names, filled with small networks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tokenizers
from onnx import TensorProto, helper

from jobs.models import layouts, network, tokens, trial
from jobs.models.trial import picture
from jobs.runtime import model_store, trials
from jobs.runtime.cards import find, model_file
from jobs.runtime.errors import ModelProblem
from tests import model_layouts as made
from udfs.clip import ClipImage, ClipText
from udfs.clip_tokenizer import Tokenizer, clip_bpe
from udfs.embedding import unpack

LAYOUTS = {
    "two": made.two_files,
    "visual": made.visual_textual,
    "pair": made.pair,
    "combined": made.combined,
    "siglip": made.siglip,
}


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch) -> None:
    """A process for each model takes a second; that it is one is tested in test_model_store."""
    monkeypatch.setattr(trials, "within", lambda _, __, function, *args: function(*args))


def added(source: Path, store: Path, **options) -> model_store.Added:
    return model_store.add(source, name="mine", store=store, **options)


def embeddings(found: model_store.Added, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    card = found.card
    clip = trial.clip(card, lambda role: model_file(card.file(role), found.folder))
    image, text = ClipImage(clip), ClipText(clip)
    looks = image.finish([image.prepare(picture(seed)) for seed in range(3)])
    return unpack(looks["clip_embedding"]), unpack(text.finish(texts)["clip_embedding"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_taken_in_and_gives_the_same_embeddings(
    tmp_path: Path, layout: str, monkeypatch
) -> None:
    """All hold the same weights: what differs is names, types, cuts and lengths."""
    found = added(LAYOUTS[layout](tmp_path / "source"), tmp_path / "store")
    texts = ["a photo of a cat", "", "two red circles " * 40]
    looks, reads = embeddings(found, texts)

    assert found.card.output.dimension == made.WIDTH
    length, pad = (64, 0) if layout == "siglip" else (77, 49407)
    assert (found.card.tokenizer.context_length, found.card.tokenizer.pad_id) == (length, pad)
    assert (found.card.preprocessing.resize == "squash") is (layout == "siglip")
    table = np.random.default_rng(7)
    weights = [table.normal(size=(rows, made.WIDTH)) for rows in (3, made.VOCABULARY)]
    bpe = Tokenizer("clip_bpe", clip_bpe(), length, pad)
    expected = weights[1][bpe.encode(texts).ids].mean(axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert reads == pytest.approx(expected, abs=2e-3)  # stored as float16
    if layout != "siglip":
        plain = added(made.two_files(tmp_path / "plain"), tmp_path / "other")
        assert looks == pytest.approx(embeddings(plain, texts)[0], abs=1e-6)
    monkeypatch.setenv("SLUICE_MODEL_PATH", str(tmp_path / "store"))
    assert find("mine", "clip") == (found.card, found.folder)


def test_the_two_files_may_lie_at_the_top_and_in_a_variant(tmp_path: Path) -> None:
    source = made.two_files(tmp_path / "s", sub="", suffix="_fp16")
    assert added(source, tmp_path / "store", variant="fp16").card.description.endswith("fp16")
    with pytest.raises(ModelProblem, match=r"text_model_fp16.onnx"):
        added(source, tmp_path / "other")


def test_either_repository_of_a_pair_finds_the_other(tmp_path: Path) -> None:
    made.pair(tmp_path)
    for side in ("vision", "text"):
        found = layouts.recognise(tmp_path / f"clip-ViT-B-32-{side}")
        assert found.image.path.parent.name.endswith("vision")
    shutil.rmtree(tmp_path / "clip-ViT-B-32-text")
    with pytest.raises(ModelProblem, match=r"combined|asks for|makes"):
        layouts.recognise(tmp_path / "clip-ViT-B-32-vision")


def test_a_combined_network_is_cut_exactly(tmp_path: Path) -> None:
    found = layouts.recognise(made.combined(tmp_path))
    whole = ort.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    image, text = (ort.InferenceSession(side.content()) for side in (found.image, found.text))
    pixels = np.random.default_rng(1).normal(size=(2, 3, made.SIDE, made.SIDE)).astype(np.float32)
    ids = np.arange(2 * 77).reshape(2, 77)
    feeds = {"pixel_values": pixels, "input_ids": ids, "attention_mask": np.ones_like(ids)}

    assert [port.name for port in image.get_inputs()] == ["pixel_values"]
    assert [port.name for port in text.get_inputs()] == ["input_ids"]
    expected = whole.run(["image_embeds", "text_embeds"], feeds)
    assert (image.run(None, {"pixel_values": pixels})[0] == expected[0]).all()
    assert (text.run(None, {"input_ids": ids})[0] == expected[1]).all()


def test_a_combined_network_whose_sides_meet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelProblem, match="text_embeds from input_ids, pixel_values"):
        layouts.recognise(made.combined(tmp_path, is_crossed=True))


def test_what_a_branch_reads_from_around_it_is_needed() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["hidden"], ["out"])],
        "then",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["which"], ["y"], then_branch=inner, else_branch=inner)
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("hidden", "other")]
    which = helper.make_tensor_value_info("which", TensorProto.BOOL, [])
    graph = helper.make_graph([node], "g", [which, *ports], [])
    model = helper.make_model(graph)
    assert network.needed_inputs(model, "y") == {"which", "hidden"}


def test_the_preprocessing_of_no_file_is_the_types_own(tmp_path: Path) -> None:
    source = made.siglip(tmp_path / "s")
    (source / "preprocessor_config.json").unlink()
    found = layouts.recognise(source).preprocessing
    assert (found.size_px, found.resize, found.mean[0]) == (made.SIDE, "squash", 0.5)
    open_clip = made.visual_textual(tmp_path / "v")
    (open_clip / "visual" / "preprocess_cfg.json").unlink()
    assert layouts.recognise(open_clip).preprocessing.resize == "shortest"


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "no tokenizer": ("two", lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "sentencepiece": (
        "two",
        lambda f: (f / "tokenizer.json").rename(f / "spiece.model"),
        "SentencePiece.*save_pretrained",
    ),
    "broken tokenizer": (
        "two",
        lambda f: (f / "tokenizer.json").write_text("{}"),
        "no tokenizer that",
    ),
    "unknown pad": (
        "two",
        lambda f: made.write(f, "tokenizer_config.json", {"pad_token": "[NOPE]"}),
        r"pad_token \[NOPE\]",
    ),
    "config no JSON": ("two", lambda f: (f / "config.json").write_text("{"), "no JSON"),
    "config no object": ("two", lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
    "endless texts": (
        "two",
        lambda f: made.write(f, "config.json", {"text_config": {"max_position_embeddings": 10**9}}),
        "allowed 2 to 8192",
    ),
    "other size": (
        "two",
        lambda f: made.write(f, "preprocessor_config.json", made.CLIP | {"crop_size": 8}),
        "makes 8 px",
    ),
    "no network": (
        "two",
        lambda f: (f / "onnx" / "text_model.onnx").write_text("version https://git-lfs"),
        "Git LFS",
    ),
    "empty network": (
        "two",
        lambda f: (f / "onnx" / "text_model.onnx").write_bytes(b""),
        "no ONNX network",
    ),
    "pickled network": (
        "two",
        lambda f: (f / "onnx" / "text_model.onnx").write_bytes(b"\x80\x04N."),
        "sluice models export",
    ),
    "unknown opset": (
        "two",
        lambda f: made.vision(f / "onnx" / "vision_model.onnx", opset=99),
        "opset 99; allowed 1 to 26",
    ),
    "other width": (
        "two",
        lambda f: made.text(f / "onnx" / "text_model.onnx", width=9),
        "images 8 and texts 9",
    ),
    "extra input": (
        "two",
        lambda f: made.text(
            f / "onnx" / "text_model.onnx",
            extra=[made.port("position_ids", TensorProto.INT64, "batch", "sequence")],
        ),
        "position_ids",
    ),
    "float ids": (
        "two",
        lambda f: made.text(f / "onnx" / "text_model.onnx", dtype=TensorProto.FLOAT),
        "of FLOAT",
    ),
    "canonical texts": (
        "visual",
        lambda f: made.write(
            f,
            "config.json",
            {"embed_dim": 8, "text_cfg": {"tokenizer_kwargs": {"clean": "canonicalize"}}},
        ),
        "clean canonicalize",
    ),
    "torch alone": (
        "two",
        lambda f: (shutil.rmtree(f / "onnx"), (f / "pytorch_model.bin").write_bytes(b"x")),
        "sluice models export",
    ),
    "nothing": ("two", lambda f: shutil.rmtree(f / "onnx"), "no network; allowed vision_model"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_refused_and_nothing_stays(tmp_path: Path, damage: str) -> None:
    layout, change, message = DAMAGES[damage]
    source = LAYOUTS[layout](tmp_path / "source")
    change(source)
    with pytest.raises(ModelProblem, match=message):
        added(source, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_vocabulary_and_merges_are_clips_tokenizer(tmp_path: Path) -> None:
    made.tokenizer(tmp_path, as_words=True)
    read = tokenizers.Tokenizer.from_buffer(tokens.tokenizer_json([tmp_path]))
    texts = ["A photo of a CAT", "", "naïve  don't 1234\n!?", "日本語 emoji 🐈"]
    ours = Tokenizer("clip_bpe", clip_bpe()).encode(texts)
    for text, ids, mask in zip(texts, ours.ids, ours.mask, strict=True):
        assert read.encode(text).ids == ids[mask == 1].tolist()


def test_what_pads_a_text_is_read_where_it_stands(tmp_path: Path) -> None:
    content = made.tokenizer_json()
    assert tokens.pad_id(content, [tmp_path]) == 49407  # nothing says it: CLIP's end
    made.write(tmp_path, "tokenizer_config.json", {"pad_token": {"content": "!"}})
    assert tokens.pad_id(content, [tmp_path]) == 0
    made.write(tmp_path, "tokenizer_config.json", {"pad_token_id": 3})
    assert tokens.pad_id(content, [tmp_path]) == 3
    padded = tokenizers.Tokenizer.from_buffer(content)
    padded.enable_padding(pad_id=5)
    assert tokens.pad_id(padded.to_str().encode(), [tmp_path / "none"]) == 5
    other = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ModelProblem, match="pads a text"):
        tokens.pad_id(other.to_str().encode(), [tmp_path / "none"])


@pytest.mark.parametrize(
    ("config", "written", "expected"),
    [
        ({"text_config": {"max_position_embeddings": 64}}, {}, 64),
        ({"model_cfg": {"text_cfg": {"context_length": 32}}}, {}, 32),
        ({"model_cfg": {"text_cfg": {}}}, {}, 77),
        ({"model_type": "other"}, {"model_max_length": 128}, 128),
        ({"model_type": "siglip2"}, {"model_max_length": 10**30}, 64),
        ({}, {}, 77),
    ],
)
def test_the_length_of_a_text_is_read_where_it_stands(tmp_path, config, written, expected) -> None:
    made.write(tmp_path, "tokenizer_config.json", written)
    assert tokens.context_length(None, config, [tmp_path], tmp_path) == expected
    assert tokens.context_length(16, config, [tmp_path], tmp_path) == 16
    with pytest.raises(ModelProblem, match="texts of None ids"):
        tokens.context_length(None, {"model_type": "other"}, [tmp_path / "none"], tmp_path)


@pytest.mark.parametrize(
    ("words", "merges"),
    [({"a": 0}, ""), ({"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}, "x y z\n")],
)
def test_another_vocabulary_is_refused(tmp_path: Path, words, merges) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(ModelProblem, match=r"vocab.json|merges.txt"):
        tokens.tokenizer_json([tmp_path])


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """An export that keeps its weights in a file of their own."""
    source = made.two_files(tmp_path / "source")
    path = source / "onnx" / "text_model.onnx"
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="text_model.onnx_data",
        size_threshold=0,
    )
    return source


def test_weights_beside_a_network_go_into_it(tmp_path: Path, beside: Path) -> None:
    plain = added(made.two_files(tmp_path / "plain"), tmp_path / "a")
    inlined = added(beside, tmp_path / "b")
    assert not list(inlined.folder.glob("*_data"))
    assert (embeddings(inlined, ["a"])[1] == embeddings(plain, ["a"])[1]).all()


def test_weights_that_are_missing_too_large_or_elsewhere_are_refused(
    tmp_path: Path, beside: Path, monkeypatch
) -> None:
    path, data = (beside / "onnx" / f"text_model.onnx{end}" for end in ("", "_data"))
    with monkeypatch.context() as patched:
        patched.setattr(network, "MAX_INLINE_BYTES", 10_000)
        with pytest.raises(ModelProblem, match="--variant fp16"):
            network.inlined(path)
    content = data.read_bytes()
    data.unlink()
    with pytest.raises(ModelProblem, match="missing"):
        network.inlined(path)
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelProblem, match=r"do not fit|got weights"):
        network.inlined(path)
    (tmp_path / "elsewhere").write_bytes(content)
    data.unlink()
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelProblem, match="own folder"):
        network.inlined(path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../../elsewhere"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelProblem, match="own folder"):
        network.inlined(path)
