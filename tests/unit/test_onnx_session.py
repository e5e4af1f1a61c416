import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from pyspark import TaskContext

from udfs import onnx_session
from udfs.model_file import ModelFile, ModelMismatch
from udfs.onnx_session import CPU, CUDA, Placement, infer, infer_all, run_bound, session


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


@pytest.fixture
def with_cuda(monkeypatch) -> list[dict]:
    """A runtime that has CUDA, so it says; what it was asked to open."""
    taken: list[dict] = []
    on_gpu = SimpleNamespace(get_providers=lambda: [CUDA, CPU])
    monkeypatch.setattr(onnx_session, "session", lambda _, **asked: taken.append(asked) or on_gpu)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    return taken


@pytest.fixture
def in_task(monkeypatch) -> Callable[[list[str]], None]:
    """Have the process run a task that was given GPUs of these addresses."""

    def enter(addresses: list[str]) -> None:
        given = {"gpu": SimpleNamespace(addresses=addresses)} if addresses else {}
        task = SimpleNamespace(resources=lambda: given)
        monkeypatch.setattr(TaskContext, "get", lambda: task)

    return enter


def test_auto_takes_the_gpu_where_the_runtime_has_one(monkeypatch, with_cuda) -> None:
    Placement("auto").open(ModelFile("", str))
    Placement("cpu").open(ModelFile("", str))
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    Placement("auto", intra_op_threads=3).open(ModelFile("", str))
    assert [options["provider"] for options in with_cuda] == [CUDA, CPU, CPU]
    assert [options["intra_op_threads"] for options in with_cuda] == [1, 1, 3]


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize(("addresses", "expected"), [([], 0), (["3"], 3)])
def test_the_gpu_is_the_one_that_the_task_was_given(
    with_cuda, in_task, device, addresses, expected
) -> None:
    in_task(addresses)
    Placement(device).open(ModelFile("", str))
    assert (with_cuda[0]["provider"], with_cuda[0]["device_id"]) == (CUDA, expected)


def test_a_task_takes_no_gpu_that_spark_gives_to_others(monkeypatch, with_cuda, in_task) -> None:
    monkeypatch.setenv(onnx_session.GIVES_GPUS, "1")
    in_task([])
    Placement("auto").open(ModelFile("", str))
    with pytest.raises(RuntimeError, match="Spark gave this task none"):
        Placement("cuda").open(ModelFile("", str))
    in_task(["1"])
    Placement("auto").open(ModelFile("", str))
    assert [(o["provider"], o["device_id"]) for o in with_cuda] == [(CPU, 0), (CUDA, 1)]


def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(monkeypatch, saved, networks):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    with pytest.raises(RuntimeError, match=r"no GPU: this onnxruntime has no CUDA; .*gpu\.txt"):
        Placement("cuda").open(saved(networks[0]()))


@pytest.mark.filterwarnings("ignore:Specified provider")  # by a runtime without it
def test_where_no_device_answers_the_cpu_runs_and_says_so(monkeypatch, caplog, saved, networks):
    asked = []
    open_ = ort.InferenceSession

    def fail_on_gpu(*args, providers, **options):
        asked.append((providers, options["disabled_optimizers"], options["enable_fallback"]))
        if len(providers) > 1:
            raise OSError("CUDA failure 100: no CUDA-capable device is detected")
        return open_(*args, providers=providers, **options)

    monkeypatch.setattr(ort, "InferenceSession", fail_on_gpu)
    monkeypatch.setattr(onnx_session, "_has_float16", lambda _: True)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnx_session, "_sessions", {})
    file = saved(networks[0]())

    opened = [Placement("auto").open(file) for _ in range(2)]

    assert opened[0].get_providers() == [CPU]
    assert opened[0] is opened[1]  # the driver is not asked at every batch
    chains = [[(CUDA, {"device_id": 0, "use_tf32": 0}), CPU], [CPU]]
    assert asked == [(chain, ["NchwcTransformer"], False) for chain in chains]
    assert "no CUDA-capable device" in caplog.text
    with pytest.raises(RuntimeError, match="got CPUExecutionProvider, not CUDA"):
        Placement("cuda").open(file)


def test_another_provider_comes_before_the_cpu(monkeypatch, saved, networks) -> None:
    asked = []
    monkeypatch.setattr(
        ort, "InferenceSession", lambda *_, providers, **__: asked.append(providers)
    )
    session(saved(networks[0](name="only_here")), provider=CUDA, device_id=2)
    assert asked == [[(CUDA, {"device_id": 2, "use_tf32": 0}), CPU]]


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


def in_half() -> onnx.ModelProto:
    """Float16 in and out, and the shape as integers."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Shape", ["y"], ["lengths"]),
    ]
    graph = helper.make_graph(
        nodes,
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["n", 3]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, [2]),
        ],
        [numpy_helper.from_array(np.arange(12, dtype=np.float16).reshape(4, 3), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("count", [1, 3, 32])
def test_a_bound_run_equals_a_plain_one(saved, networks, count) -> None:
    opened = session(saved(networks[0]()))
    upright = np.random.default_rng(count).random((16, 16, 3, count), np.float32)
    feeds = {"pixel_values": upright.T}  # as a view that is not contiguous too
    outputs = ["image_embeds", "flat"]
    bound = run_bound(opened, feeds, outputs, device="cpu")
    for got, expected in zip(bound, opened.run(outputs, feeds), strict=True):
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected)


def test_a_bound_run_has_the_types_of_the_network(saved) -> None:
    opened = session(saved(in_half()))
    feeds = {"x": np.random.default_rng(0).random((5, 4)).astype(np.float16)}
    lengths, halves = run_bound(opened, feeds, ["lengths", "y"], device="cpu")
    assert (halves.dtype, lengths.tolist()) == (np.float16, [5, 3])
    assert np.array_equal(halves, opened.run(["y"], feeds)[0])


@pytest.mark.parametrize("batch", ["N", 4])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_on_a_gpu_every_run_is_bound_to_its_memory(
    monkeypatch, saved, networks, batch, count
) -> None:
    opened = session(saved(networks[0](batch=batch)))
    expected = infer_all(opened, {"pixel_values": pixels(count)}, ["flat", "image_embeds"])
    on_gpu = SimpleNamespace(
        get_inputs=opened.get_inputs,
        get_providers=lambda: [CUDA, CPU],
        get_provider_options=lambda: {CUDA: {"device_id": "2"}, CPU: {}},
    )
    seen = []

    def run_on_cpu(_, feeds, outputs, *, device, device_id):
        seen.append((device, device_id, len(feeds["pixel_values"])))
        return run_bound(opened, feeds, outputs, device="cpu")

    monkeypatch.setattr(onnx_session, "run_bound", run_on_cpu)
    bound = infer_all(on_gpu, {"pixel_values": pixels(count)}, ["flat", "image_embeds"])
    chunks = [count] if batch == "N" else [4] * math.ceil(count / 4)
    assert seen == [("cuda", 2, rows) for rows in chunks]
    assert all(np.array_equal(a, b) for a, b in zip(bound, expected, strict=True))
