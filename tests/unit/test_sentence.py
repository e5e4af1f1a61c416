import hashlib
import json
import math
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import tokenizers
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from infra.minilm.export import HERE, build, read_safetensors
from udfs.clip_tokenizer import Tokenizer
from udfs.embedding import unpack
from udfs.model_file import ModelFile, ModelMismatch
from udfs.sentence import Sentence, mean_pool

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "ball", "dog"]
CONFIG = {
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "layer_norm_eps": 1e-12,
}


def tiny_weights(width: int = 8, grown: int = 16) -> dict[str, np.ndarray]:
    """Random weights by the names that BERT's checkpoints have."""
    random = np.random.default_rng(0)

    def linear(name, out, width):
        return {f"{name}.weight": random.normal(size=(out, width)), f"{name}.bias": np.ones(out)}

    def norm(name):
        return {f"{name}.weight": random.normal(size=width), f"{name}.bias": np.ones(width)}

    found = {
        f"embeddings.{kind}_embeddings.weight": random.normal(size=(rows, width))
        for kind, rows in (("word", len(WORDS)), ("position", 32), ("token_type", 2))
    } | norm("embeddings.LayerNorm")
    for n in range(CONFIG["num_hidden_layers"]):
        layer = f"encoder.layer.{n}"
        for part in ("query", "key", "value"):
            found |= linear(f"{layer}.attention.self.{part}", width, width)
        found |= linear(f"{layer}.attention.output.dense", width, width)
        found |= norm(f"{layer}.attention.output.LayerNorm")
        found |= linear(f"{layer}.intermediate.dense", grown, width)
        found |= linear(f"{layer}.output.dense", width, grown)
        found |= norm(f"{layer}.output.LayerNorm")
    return {name: array.astype(np.float32) for name, array in found.items()}


def words_json() -> bytes:
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made.to_str().encode()


@pytest.fixture
def tiny(saved) -> Sentence:
    """A random encoder of two layers, built as the real one is."""
    tokenizer = Tokenizer("tokenizer_json", saved(words_json()), context_length=16)
    return Sentence(saved(build(tiny_weights(), CONFIG)), tokenizer, dimension=8)


@pytest.fixture(scope="module")
def minilm() -> Sentence:
    card = yaml.safe_load((HERE / "model.yaml").read_text(encoding="utf-8"))
    if not (HERE / "model.onnx").is_file():
        pytest.skip("infra/minilm/model.onnx is not built; run make minilm")
    files = {
        role: ModelFile(file["sha256"], partial(str, HERE / file["path"]))
        for role, file in card["files"].items()
    }
    tokenizer = Tokenizer(
        card["tokenizer"]["kind"],
        files["tokenizer"],
        context_length=card["tokenizer"]["context_length"],
        pad_id=card["tokenizer"]["pad_id"],
    )
    return Sentence(files["model"], tokenizer, card["output"]["dimension"])


def reference(weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """BERT's encoder for one text, with nothing padded: arXiv:1810.04805."""

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True))
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def softmax(x):
        powers = np.exp(x - x.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    erf = np.vectorize(math.erf)
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for n in range(CONFIG["num_hidden_layers"]):
        layer, mixed = f"encoder.layer.{n}", []
        parts = [linear(x, f"{layer}.attention.self.{p}") for p in ("query", "key", "value")]
        for query, key, value in zip(*(np.split(part, 2, axis=1) for part in parts), strict=True):
            mixed.append(softmax(query @ key.T / np.sqrt(query.shape[1])) @ value)
        attended = linear(np.concatenate(mixed, axis=1), f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        grown = linear(x, f"{layer}.intermediate.dense")
        grown = grown * (1 + erf(grown / np.sqrt(2))) / 2
        x = norm(x + linear(grown, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_the_graph_computes_what_bert_computes(tiny) -> None:
    texts = ["a red ball", "dog", "", "a dog a dog a red dog a ball"]
    ids = [[2, *(WORDS.index(word) for word in text.split()), 3] for text in texts]
    expected = [reference(tiny_weights(), row) for row in ids]
    columns = tiny.finish(texts)
    np.testing.assert_allclose(unpack(columns["sentence_embedding"]), expected, atol=2e-3)
    assert columns["sentence_dimension"] == [8] * 4


def test_neighbours_and_their_order_change_nothing(tiny) -> None:
    texts = ["a red ball", "dog", "a " * 40, "", "red red", "a dog a ball"] * 4
    together = unpack(tiny.finish(texts)["sentence_embedding"])
    alone = np.concatenate([unpack(tiny.finish([t])["sentence_embedding"]) for t in texts])
    np.testing.assert_allclose(together, alone, atol=2e-3)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=10))
def test_any_text_has_a_unit_vector(tiny, texts) -> None:
    vectors = [np.frombuffer(v, "<f2") for v in tiny.finish(texts)["sentence_embedding"]]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)


def test_an_export_without_token_types_is_fed_what_it_takes(saved, tiny) -> None:
    table = np.random.default_rng(1).normal(size=(len(WORDS), 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", 8])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = Sentence(saved(model), tiny.tokenizer, dimension=8)
    made.load()
    expected = table[[2, 5, 6, 3]].mean(axis=0)
    np.testing.assert_allclose(
        unpack(made.finish(["red ball"])["sentence_embedding"])[0],
        expected / np.linalg.norm(expected),
        atol=1e-3,
    )


def test_padding_is_no_part_of_the_mean() -> None:
    hidden = np.array([[[1, 2], [3, 4]], [[5, 6], [99, 99]]], np.float32)
    assert mean_pool(hidden, np.array([[1, 1], [1, 0]])).tolist() == [[2, 3], [5, 6]]


def test_it_travels_and_loads_elsewhere(tiny) -> None:
    travelled = pickle.loads(pickle.dumps(tiny))
    assert travelled.load() == "CPUExecutionProvider"
    assert travelled.version == f"sentence/1:{tiny.model.sha256}:{tiny.tokenizer.version}"


def test_a_network_that_is_not_the_cards_is_refused(saved, tiny, networks) -> None:
    with pytest.raises(ModelMismatch, match="length 8 differs from 384"):
        Sentence(tiny.model, tiny.tokenizer, dimension=384).load()
    with pytest.raises(ModelMismatch, match="outputs text_embeds; allowed last_hidden_state"):
        Sentence(saved(networks[1]()), tiny.tokenizer, dimension=8).load()


def test_safetensors_are_read() -> None:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
            "b": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]},
        }
    ).encode()
    content = len(header).to_bytes(8, "little") + header
    content += np.array([1, 2], "<f4").tobytes() + np.array([7], "<i8").tobytes()
    arrays = read_safetensors(content)
    assert {name: array.tolist() for name, array in arrays.items()} == {"a": [[1, 2]], "b": [7]}


def test_the_export_is_the_same_every_time() -> None:
    models = [build(tiny_weights(), CONFIG).SerializeToString(deterministic=True) for _ in "ab"]
    assert models[0] == models[1]
    onnx.checker.check_model(models[0])


# The first components that sentence-transformers gives with the same weights.
PUBLISHED = {
    "This is an example sentence": [0.06765693, 0.06349593, 0.04871314, 0.07930495, 0.03744806],
    "": [-0.11883835, 0.04829856, -0.00254805, -0.01101118, 0.05195070],
    "Café déjà vu — 東京": [0.05083271, 0.00967685, 0.09635572, -0.00997369, -0.01987603],
}
PARAPHRASES = [
    ("Two dogs run along the wet beach.", "A pair of dogs is racing over the damp sand."),
    ("A red bicycle leans against a brick wall.", "There is a bike, red, by a wall of bricks."),
    ("Snow covers the roofs of the village.", "The little town's rooftops are white with snow."),
    ("A cat sleeps on a pile of laundry.", "The kitten is napping on freshly washed clothes."),
    ("They wait for the last train home.", "They stand at the station until the final train."),
]


def test_minilm_gives_the_published_vectors(minilm) -> None:
    assert minilm.load() == "CPUExecutionProvider"
    vectors = unpack(minilm.finish(list(PUBLISHED))["sentence_embedding"])
    # float16 keeps eleven bits of a component
    np.testing.assert_allclose(vectors[:, :5], list(PUBLISHED.values()), atol=6e-5)


def test_minilm_tells_paraphrases_from_other_sentences(minilm) -> None:
    left, right = (
        unpack(minilm.finish([pair[side] for pair in PARAPHRASES])["sentence_embedding"])
        for side in (0, 1)
    )
    cosines = left @ right.T
    others = cosines[~np.eye(len(PARAPHRASES), dtype=bool)]
    assert np.diag(cosines).min() > 0.6
    assert others.max() < 0.3


def test_minilm_reads_256_tokens(minilm) -> None:
    texts = ["ball " * 254, "ball " * 254 + "dog " * 300, "ball " * 253 + "dog"]
    vectors = unpack(minilm.finish(texts)["sentence_embedding"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-3)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_the_card_names_the_files_that_the_export_wrote(minilm) -> None:
    for file in (minilm.model, minilm.tokenizer.file):
        assert hashlib.sha256(Path(file.locate()).read_bytes()).hexdigest() == file.sha256
