from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from pyspark import TaskContext

from udfs import onnx_session
from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import Placement, infer, infer_all, session

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 16, 16)).astype(np.float32)


def test_a_process_opens_a_model_once(saved, networks) -> None:
    file = saved(networks[0]())
    assert session(file) is session(ModelFile(file.sha256, file.locate))
    assert session(file, intra_op_threads=2) is not session(file)


def test_threads_are_as_given_and_do_not_spin(saved, networks) -> None:
    options = session(saved(networks[0]()), intra_op_threads=1).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize(
    ("dtype", "disabled"), [(np.float32, []), (np.float16, ["NchwcTransformer"])]
)
def test_float16_is_kept_from_what_ends_the_process(monkeypatch, saved, dtype, disabled) -> None:
    """The network is that of microsoft/onnxruntime#28392; loaded without, it ends this test."""
    type_ = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.FLOAT
    weights = numpy_helper.from_array(np.ones((4, 4), dtype), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            helper.make_node("MatMul", ["t", "w"], ["y"]),
        ],
        "crash",
        [helper.make_tensor_value_info("x", type_, ["n", 1, 4])],
        [helper.make_tensor_value_info("y", type_, [1, "n", 4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    seen = []
    open_ = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda *a, **k: seen.append(k) or open_(*a, **k))
    opened = session(saved(model))
    assert seen[0]["disabled_optimizers"] == disabled
    assert infer(opened, {"x": np.ones((2, 1, 4), np.float32)}, "y") == pytest.approx(4)


def test_another_digest_is_refused(saved, networks) -> None:
    file = saved(networks[0]())
    with pytest.raises(ModelMismatch, match="differs from the expected"):
        session(ModelFile("2" * 64, file.locate))


@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_fixed_batch_gives_the_same_rows_as_a_free_one(saved, networks, batch, count) -> None:
    opened = session(saved(networks[0](batch=batch)))
    free = session(saved(networks[0]()))
    got = infer(opened, {"pixel_values": pixels(count)}, "image_embeds")
    expected = free.run(["image_embeds"], {"pixel_values": pixels(count)})[0]
    assert got.shape == (count, 8)
    assert got == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_inputs_are_cast_as_declared(saved, networks, dtype) -> None:
    opened = session(saved(networks[1](dtype=dtype)))
    ids = np.arange(154, dtype=np.int64).reshape(2, 77)
    assert infer(opened, {"input_ids": ids}, "text_embeds").dtype == np.float32


def test_auto_takes_the_gpu_where_the_runtime_has_one(monkeypatch) -> None:
    taken = []
    monkeypatch.setattr(onnx_session, "session", lambda _, **options: taken.append(options))
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    Placement("auto").open(ModelFile("", str))
    Placement("cpu").open(ModelFile("", str))
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    Placement("auto", intra_op_threads=3).open(ModelFile("", str))
    assert [options["provider"] for options in taken] == [CUDA, CPU, CPU]
    assert [options["intra_op_threads"] for options in taken] == [1, 1, 3]


@pytest.mark.parametrize(("resources", "expected"), [({}, 0), ({"gpu": ["3"]}, 3)])
def test_the_gpu_is_the_one_that_the_task_was_given(monkeypatch, resources, expected) -> None:
    given = {kind: SimpleNamespace(addresses=ids) for kind, ids in resources.items()}
    task = SimpleNamespace(resources=lambda: given)
    taken = []
    monkeypatch.setattr(TaskContext, "get", lambda: task)
    monkeypatch.setattr(onnx_session, "session", lambda _, **options: taken.append(options))
    Placement("cpu").open(ModelFile("", str))
    assert taken[0]["device_id"] == expected


def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(monkeypatch) -> None:
    fallen_back = SimpleNamespace(get_providers=lambda: [CPU])
    monkeypatch.setattr(onnx_session, "session", lambda *_, **__: fallen_back)
    with pytest.raises(RuntimeError, match="gives CPUExecutionProvider, not CUDA"):
        Placement("cuda").open(ModelFile("", str))


def test_another_provider_comes_before_the_cpu(monkeypatch, saved, networks) -> None:
    asked = []
    monkeypatch.setattr(
        ort, "InferenceSession", lambda *_, providers, **__: asked.append(providers)
    )
    session(saved(networks[0](name="only_here")), provider=CUDA, device_id=2)
    assert asked == [[(CUDA, {"device_id": 2}), CPU]]


@pytest.mark.parametrize("declared_as", ["intermediate", "output"])
def test_an_input_may_take_more_than_its_file_declares(saved, declared_as) -> None:
    # The runtime computes in advance whatever follows from declared shapes alone.
    nodes = [
        helper.make_node("Relu", ["pixels"], ["positive"]),
        helper.make_node("Shape", ["positive"], ["lengths"]),
        helper.make_node("Cast", ["lengths"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceProd", ["floats"], ["count"], keepdims=0),
        helper.make_node("Mul", ["positive", "count"], ["scaled"]),
    ]
    pixels, positive, scaled = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [10, 3, 4, 4])
        for name in ("pixels", "positive", "scaled")
    )
    weight = helper.make_tensor_value_info("weight", TensorProto.FLOAT, [1])  # as old exports do
    graph = helper.make_graph(
        nodes,
        "fixed",
        [weight, pixels],
        [scaled, positive] if declared_as == "output" else [scaled],
        [numpy_helper.from_array(np.ones(1, np.float32), "weight")],
        value_info=[positive] if declared_as == "intermediate" else [],
    )
    opset = [helper.make_opsetid("", 17)]
    file = saved(helper.make_model(graph, opset_imports=opset, ir_version=8))
    feeds = {"pixels": np.random.default_rng(1).random((2, 3, 8, 24)).astype(np.float32)}

    for shape in [("n", 3, "height", "width"), ("n", 3, 8, 24)]:
        (got,) = infer_all(Placement("cpu").open(file, shape), feeds, ["scaled"])
        assert got == pytest.approx(feeds["pixels"] * feeds["pixels"].size, rel=1e-6)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
        Placement("cpu").open(file).run(None, feeds)


def test_outputs_of_one_run_come_in_the_order_asked_for(saved, networks) -> None:
    opened = session(saved(networks[0](batch=4)))
    flat, embeds = infer_all(opened, {"pixel_values": pixels(9)}, ["flat", "image_embeds"])
    assert flat.shape == (9, 3 * 16 * 16)
    assert np.array_equal(embeds, infer(opened, {"pixel_values": pixels(9)}, "image_embeds"))
