import dataclasses
import json
import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from jobs.models import heads, tensors
from jobs.models.heads import HeadSpec, Layer, published, to_onnx
from jobs.runtime.errors import ModelProblem
from udfs.heads import Head
from udfs.model_file import ModelMismatch

Weights = dict[str, np.ndarray]


def torch_layers(indices: tuple[int, ...], widths: tuple[int, ...]) -> Weights:
    """Random weights under the names of a torch Sequential called ``layers``."""
    rng = np.random.default_rng(len(indices))
    weights = {}
    for index, (before, after) in zip(indices, pairwise(widths), strict=True):
        weights[f"layers.{index}.weight"] = rng.normal(size=(after, before)) / np.sqrt(before)
        weights[f"layers.{index}.bias"] = rng.normal(size=after)
    return {name: array.astype(np.float32) for name, array in weights.items()}


def keras_layers(widths: tuple[int, ...], norm: str = "normalization") -> Weights:
    rng = np.random.default_rng(3)
    weights = {
        f"{norm}/mean:0": rng.normal(size=widths[0]) / 30,
        f"{norm}/variance:0": rng.uniform(0.5, 2, widths[0]) / 900,
        f"{norm}/count:0": np.array(1000),
    }
    for number, (before, after) in enumerate(pairwise(widths)):
        name = f"dense_{number}" if number else "dense"
        weights[f"{name}/kernel:0"] = rng.normal(size=(before, after)) / np.sqrt(before)
        weights[f"{name}/bias:0"] = rng.normal(size=after) / 10
    return {name: array.astype(np.float32) for name, array in weights.items()}


def linear() -> Weights:
    rng = np.random.default_rng(1)
    return {
        "weight": rng.normal(size=(1, 768)).astype(np.float32),
        "bias": rng.normal(size=1).astype(np.float32),
    }


V2 = (768, 1024, 128, 64, 16, 1)
H14 = (1024, 1024, 2048, 1024, 256, 128, 16, 1)
# title: (weights, ReLU after so many layers, sigmoid)
PUBLISHED = {
    "aesthetic": [
        (linear(), 0, False),
        (torch_layers((0, 2, 4, 6, 7), V2), 0, False),
        (torch_layers((0, 3, 6, 9, 11), V2), 4, False),
    ],
    "nsfw_head": [
        (torch_layers((0, 3, 6, 9, 12, 15, 16), H14), 5, False),
        (keras_layers((768, 64, 512, 256, 1)), 3, True),
        (keras_layers((512, 32, 32, 1)), 2, True),
    ],
}
CASES = [(task, *case) for task, cases in PUBLISHED.items() for case in cases]


def by_hand(weights: Weights, relus: int, *, sigmoid: bool, x: np.ndarray) -> np.ndarray:
    """The published network in float64, written without the code under test."""
    x = x.astype(np.float64)
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    if "normalization/mean:0" in exact:
        std = np.maximum(np.sqrt(exact["normalization/variance:0"]), 1e-7)
        x = (x - exact["normalization/mean:0"]) / std
    kernels = [
        array if name.endswith("kernel:0") else array.T
        for name, array in exact.items()
        if name.endswith(("kernel:0", "weight"))
    ]
    biases = [array for name, array in exact.items() if name.endswith(("bias:0", "bias"))]
    for place, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        x = x @ kernel + bias
        x = np.where(x > 0, x, 0) if place < relus else x
    return (1 / (1 + np.exp(-x)) if sigmoid else x)[:, 0]


def run(spec: HeadSpec, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(to_onnx(spec).SerializeToString())
    return session.run(["score"], {"embedding": x})[0]


@pytest.mark.parametrize(("task", "weights", "relus", "sigmoid"), CASES)
def test_a_published_layout_gives_what_its_weights_say(task, weights, relus, sigmoid) -> None:
    found = published(weights, "test")
    x = heads.probes(found.spec.dimension, seed=5, rows=50)
    expected = by_hand(weights, relus, sigmoid=sigmoid, x=x)

    assert found.task == task
    assert run(found.spec, x) == pytest.approx(expected, abs=1e-5)
    assert found.spec.evaluate(x) == pytest.approx(expected, abs=1e-12)
    assert expected.std() > 1e-3


def test_affine_layers_in_a_row_are_one_vector() -> None:
    found = published(torch_layers((0, 2, 4, 6, 7), V2), "test").spec

    assert [layer.weight.shape for layer in found.layers] == [(768, 1)]
    assert len(to_onnx(found).SerializeToString()) < 4 * 768 + 500


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["none", "relu"])), max_size=4),
    st.booleans(),
    st.integers(0, 9),
)
def test_any_head_is_the_same_fused_and_as_a_network(middle, has_norm, seed) -> None:
    rng = np.random.default_rng(seed)
    widths = [5, *(width for width, _ in middle), 1]
    activations = [*(act for _, act in middle), "none"]
    layers = tuple(
        Layer(rng.normal(size=(a, b)), rng.normal(size=b), act)
        for (a, b), act in zip(pairwise(widths), activations, strict=True)
    )
    norm = (rng.normal(size=5), rng.uniform(0.1, 2, 5)) if has_norm else (None, None)
    spec = HeadSpec(layers, *norm, end="sigmoid" if seed % 2 else "identity")
    x = rng.normal(size=(7, 5)).astype(np.float32)

    assert spec.fused().evaluate(x) == pytest.approx(spec.evaluate(x), abs=1e-9)
    assert run(spec, x) == pytest.approx(spec.evaluate(x), rel=1e-4, abs=1e-4)


def test_the_violence_margin_is_above_zero_where_the_second_prompt_is_nearer() -> None:
    prompts = heads.probes(512, seed=9, rows=2)
    found = published({"prompts": prompts.astype(np.float64)}, "test")
    x = heads.probes(512, seed=1, rows=200)
    nearer = np.argmax(x.astype(np.float64) @ prompts.T.astype(np.float64), axis=1)

    assert found.task == "violence"
    assert ((run(found.spec, x) > 0) == (nearer == 1)).all()
    assert set(nearer) == {0, 1}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "nothing"),
        ({"head.weight": np.zeros((1, 4)), "head.bias": np.zeros(1)}, "head.weight"),
        ({"weight": np.zeros((2, 4)), "bias": np.zeros(2)}, "chain that ends in one value"),
        ({"weight": np.zeros((1, 4)), "bias": np.zeros(3)}, "one value an output"),
        ({"weight": np.zeros(4), "bias": np.zeros(1)}, "chain|bias"),
        ({"prompts": np.zeros((3, 4))}, "prompts"),
        (torch_layers((0, 2, 4, 6, 7), (8, 7, 6, 5, 4, 1)) | {"layers.9.bias": np.zeros(1)}, "9"),
        (keras_layers((4, 3, 1)) | {"normalization/mean:0": np.zeros(5)}, "normalisation of shape"),
        (keras_layers((4, 3, 1)) | {"normalization/variance:0": -np.ones(4)}, "negative variance"),
    ],
)
def test_weights_of_no_known_head_are_refused(weights, message) -> None:
    with pytest.raises(ModelProblem, match=message):
        published(weights, "weights.npz")


def test_a_layer_with_the_wrong_width_inside_is_refused() -> None:
    weights = torch_layers((0, 2, 4, 6, 7), V2)
    weights["layers.4.weight"] = np.zeros((64, 127), np.float32)
    with pytest.raises(ModelProblem, match="chain"):
        published(weights, "test")


# --- files


def safetensors(arrays: Weights, **header: object) -> bytes:
    entries: dict[str, object] = {}
    numbers = b""
    names = {"float32": "F32", "float64": "F64", "float16": "F16"}
    for name, array in arrays.items():
        span = [len(numbers), len(numbers) + array.nbytes]
        dtype = names[str(array.dtype)]
        entries[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": span}
        numbers += array.tobytes()
    text = json.dumps(entries | header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def test_the_three_formats_give_the_same_numbers(tmp_path: Path) -> None:
    weights = linear()
    (tmp_path / "a.safetensors").write_bytes(safetensors(weights, __metadata__={"by": "us"}))
    np.savez(tmp_path / "a.npz", **weights)
    np.save(tmp_path / "a.npy", np.asfortranarray(np.arange(6.0).reshape(2, 3)))

    for name in ("a.safetensors", "a.npz"):
        read = tensors.read(tmp_path / name)
        assert {k: v.tolist() for k, v in read.items()} == {
            k: v.tolist() for k, v in weights.items()
        }
    assert tensors.read(tmp_path / "a.npy")["prompts"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_bfloat16_is_the_upper_half_of_a_float(tmp_path: Path) -> None:
    content = safetensors({"weight": np.array([0x40490000], "<u4").view("<f4")})
    content = content.replace(b"F32", b"BF16").replace(b"[0, 4]", b"[0, 2]").replace(b"[1]", b"[1]")
    length = int.from_bytes(content[:8], "little") + 1
    body = content[8 : 8 + length] + (0x4049).to_bytes(2, "little")
    (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + body)

    assert tensors.read(tmp_path / "a.safetensors")["weight"].tolist() == [3.140625]


GOOD = safetensors({"weight": np.ones((1, 4), np.float32), "bias": np.ones(1, np.float32)})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (10**12).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        GOOD[:-1],
        GOOD + b"\0",
        GOOD.replace(b"[0, 16]", b"[0, 12]"),
        GOOD.replace(b"[16, 20]", b"[12, 16]"),
        GOOD.replace(b"[1, 4]", b"[9, 4]"),
        GOOD.replace(b"[1, 4]", b"[-1,4]"),
        GOOD.replace(b'"F32"', b'"X32"'),
        GOOD.replace(b'"weight"', b'"bias"  '),
        b"[" * 50_000,
    ],
)
def test_broken_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ModelProblem, match=r"a.safetensors"):
        tensors.read(tmp_path / "a.safetensors")


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_of_safetensors_is_read_or_refused(
    tmp_path_factory, place: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.safetensors"
    path.write_bytes(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    try:
        read = tensors.read(path)
    except ModelProblem:
        return
    assert all(np.isfinite(array).all() for array in read.values())


def test_arrays_that_claim_more_than_they_hold_take_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(
        content.replace(b"(2, 3), ", b"(2, 3e9)").replace(b"e9", b"99")
    )
    with pytest.raises(ModelProblem, match=r"a.npy"):
        tensors.read(tmp_path / "a.npy")


def test_a_zip_bomb_of_numbers_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tensors, "MAX_BYTES", 10_000)
    np.savez_compressed(tmp_path / "a.npz", weight=np.zeros(100_000))
    with pytest.raises(ModelProblem, match="unpacked"):
        tensors.read(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["pth", "protocol", "zip", "objects"])
def test_a_pickle_is_refused_under_any_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npz"
    if kind == "pth":
        path = tmp_path / "a.pth"
        path.write_bytes(b"anything")
    elif kind == "protocol":
        path.write_bytes(pickle.dumps({"weight": 1}))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"x")
    else:
        np.savez(path, weight=np.array([{}], dtype=object))
    with pytest.raises(ModelProblem, match=r"sluice models export|array of object"):
        tensors.read(path)


@pytest.mark.parametrize("name", ["a.h5", "a.txt", "none.npz"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    if name != "none.npz":
        (tmp_path / name).write_bytes(b"\x89HDF")
    with pytest.raises(ModelProblem, match=name):
        tensors.read(tmp_path / name)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight=np.array([[np.nan]]), bias=np.zeros(1))
    with pytest.raises(ModelProblem, match="not finite"):
        tensors.read(tmp_path / "a.npz")


# --- the signal


@pytest.fixture
def head(saved) -> Head:
    spec = HeadSpec((Layer(np.eye(4)[:, :1], np.zeros(1)),))
    return Head(saved(to_onnx(spec)), "aesthetic_score", 4)


def test_a_head_scores_embeddings(head: Head) -> None:
    x = heads.probes(4, seed=2, rows=6)

    assert head.columns == ("aesthetic_score",)
    assert head.load() == "CPUExecutionProvider"
    assert head.finish(x)["aesthetic_score"] == pytest.approx(x[:, 0])
    assert head.finish(x[:0]) == {"aesthetic_score": []}
    assert pickle.loads(pickle.dumps(head)).version == head.version
    assert head.version != dataclasses.replace(head, column="other").version


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 5), np.float32), r"allowed \(n, 4\)"),
        (np.zeros(4, np.float32), r"allowed \(n, 4\)"),
        (np.full((1, 4), 2, np.float32), "unit length"),
        (np.full((1, 4), np.nan, np.float32), "unit length"),
    ],
)
def test_embeddings_that_are_none_of_its_clip_are_refused(head: Head, x, message) -> None:
    with pytest.raises(ValueError, match=message):
        head.finish(x)


def test_a_head_of_another_dimension_is_refused_at_load(head: Head) -> None:
    with pytest.raises(ModelMismatch, match=r"allowed one input \(n, 5\)"):
        dataclasses.replace(head, dimension=5).load()


@pytest.mark.parametrize(
    ("nodes", "error", "message"),
    [
        ([helper.make_node("Log", ["x"], ["y"])], ValueError, "not finite"),
        ([helper.make_node("Identity", ["x"], ["y"])], ModelMismatch, "one score each"),
    ],
)
def test_a_head_that_gives_no_scores_is_refused(saved, nodes, error, message) -> None:
    width = 1 if nodes[0].op_type == "Log" else 4
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])]
    graph = helper.make_graph(nodes, "bad", ports, ends)
    opset = [helper.make_opsetid("", 17)]
    made = Head(saved(helper.make_model(graph, opset_imports=opset, ir_version=8)), "s", width)
    x = np.full((2, width), -1, np.float32) if width == 1 else heads.probes(4, 0, rows=2)
    with pytest.raises(error, match=message):
        made.finish(x)
