"""A GPU gives what the CPU gives, on the device that the task was given, and it is said."""

import io
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import skimage.data
from PIL import Image
from pyspark import TaskContext

from jobs.export.fidelity import LEAST_COSINE
from udfs import onnx_session
from udfs.clip import ClipImage
from udfs.embedding import unpack
from udfs.image_signals import image_signals_udf
from udfs.onnx_session import CPU, CUDA, Placement, infer, run_bound

pytestmark = pytest.mark.gpu


def scored(clip, device: str) -> tuple[set[str], np.ndarray]:
    """Providers and unit embeddings of 70 pictures by the stage's operator; no full last batch."""
    contents = []
    for number in range(70):
        picture = Image.fromarray(skimage.data.astronaut()).rotate(5 * number)
        with io.BytesIO() as file:
            picture.save(file, "JPEG")
            contents.append(file.getvalue())
    rows = {"media_sha256": [str(n) for n in range(70)], "content": contents}
    batch = pa.RecordBatch.from_pydict(rows)
    operator = image_signals_udf([ClipImage(clip, Placement(device))], max_pixels=1 << 24)
    told = pa.Table.from_batches(operator([batch]))
    assert set(told["status"].to_pylist()) == {"ok"}
    return set(told["provider"].to_pylist()), unpack(told["clip_embedding"].to_pylist())


# The bounds that exports keep against torch. Measured on a CPU, this network and these pictures:
# float16 against float32 0.99999, without the mean.
@pytest.mark.parametrize(("dtype", "precision"), [(np.float32, "fp32"), (np.float16, "fp16")])
def test_embeddings_are_those_of_the_cpu_and_the_provider_is_told(tower, dtype, precision):
    least_cosine = LEAST_COSINE[precision]
    (on_cpu, expected), (on_gpu, got) = (scored(tower(dtype), device) for device in ("cpu", "cuda"))
    assert (on_cpu, on_gpu) == ({CPU}, {CUDA})
    assert np.sum(expected * got, axis=1).min() >= least_cosine
    # Random weights put all embeddings close together: what is left without their mean counts.
    expected, got = (rows - expected.mean(axis=0) for rows in (expected, got))
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(got, axis=1)
    assert (np.sum(expected * got, axis=1) / lengths).min() >= least_cosine


def test_auto_takes_the_device(tower):
    assert Placement("auto").open(tower(np.float16).image).get_providers()[0] == CUDA


def test_the_device_is_the_one_that_the_task_was_given(monkeypatch, tower):
    gpu = SimpleNamespace(addresses=["0"])
    task = SimpleNamespace(resources=lambda: {"gpu": gpu})
    monkeypatch.setattr(TaskContext, "get", lambda: task)
    monkeypatch.setenv(onnx_session.GIVES_GPUS, "1")
    opened = Placement("cuda").open(tower(np.float16).image)
    assert opened.get_provider_options()[CUDA]["device_id"] == "0"
    # One that the machine does not have is an error, and no other is taken in its place.
    gpu.addresses = ["99"]
    with pytest.raises(RuntimeError, match="got CPUExecutionProvider, not CUDA"):
        Placement("cuda").open(tower(np.float16).image)


@pytest.mark.parametrize("count", [1, 7, 64])
def test_a_bound_run_equals_a_plain_one(tower, count):
    opened = Placement("cuda").open(tower(np.float16).image)
    pixels = np.random.default_rng(count).standard_normal((count, 3, 224, 224), np.float32)
    feeds = {"pixel_values": pixels}
    (bound,) = run_bound(opened, feeds, ["image_embeds"], device="cuda")
    (plain,) = opened.run(["image_embeds"], feeds)
    assert bound == pytest.approx(plain, rel=1e-3, abs=1e-3)  # a step of float16: 2**-10
    assert infer(opened, feeds, "image_embeds") == pytest.approx(plain, rel=1e-3, abs=1e-3)
