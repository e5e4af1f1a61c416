import hashlib
import io
import os
import pickle
import zipfile
from functools import partial

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from infra.transnetv2 import export
from jobs.runtime import cards, distribution
from jobs.runtime.errors import ModelProblem
from tests import rendered_scenes
from udfs.clips import ClipPass
from udfs.cpu_network import cpu_network
from udfs.model_file import ModelFile
from udfs.spans import SpanConfig
from udfs.transnetv2 import TransNetDetector, TransNetV2, after_transitions

RNG = np.random.default_rng(0)


def network(nodes) -> onnx.ModelProto:
    """A stand-in for the network."""
    graph = helper.make_graph(
        nodes,
        "stand_in",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", 100, 27, 48, 3])],
        [helper.make_tensor_value_info("transition", TensorProto.FLOAT, ["n", 100])],
        [helper.make_tensor("full", TensorProto.FLOAT, [1], [255.0])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


@pytest.fixture
def bright(saved) -> TransNetV2:
    """Takes a frame for a transition if it is bright, whatever stands beside it."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["levels"], ["light"], axes=[2, 3, 4], keepdims=0),
        helper.make_node("Div", ["light", "full"], ["transition"]),
    ]
    return TransNetV2(saved(network(nodes)))


def frames_of(levels):
    return [np.full((36, 64, 3), level, np.uint8) for level in levels]


def found(detector, frames):
    for frame in frames:
        detector.add(frame)
    return detector.boundaries()


class Seen:
    """Keeps the windows that it is shown; a frame's probability is its own level / 255."""

    def __init__(self) -> None:
        self.windows = []

    def run(self, _names, feeds):
        levels = feeds["frames"][0, :, 0, 0, 0]
        self.windows.append(levels.tolist())
        return [levels[None].astype(np.float32) / 255]


@given(st.integers(0, 260))
def test_windows_are_those_of_the_original(count) -> None:
    """As its `predict_frames` pads and cuts them, all frames being there."""
    levels = (np.arange(count) % 256).tolist()
    seen = Seen()
    detector = TransNetDetector(seen)
    for frame in frames_of(levels):
        detector.add(frame)
    probabilities = detector.probabilities()

    expected = []
    if count:
        after = 25 + 50 - (count % 50 or 50)
        padded = [levels[0]] * 25 + levels + [levels[-1]] * after
        expected = [padded[at : at + 100] for at in range(0, len(padded) - 99, 50)]
    assert [[int(level) for level in window] for window in seen.windows] == expected
    np.testing.assert_allclose(probabilities, np.array(levels, np.float32) / 255)


def test_asking_twice_gives_the_same() -> None:
    detector = TransNetDetector(Seen())
    levels = [0] * 60 + [255] + [0] * 61

    assert found(detector, frames_of(levels)) == [61]
    assert detector.boundaries() == [61]
    assert len(detector._window) < 100


@pytest.mark.parametrize(
    ("levels", "starts"),
    [
        ([], []),
        ([1] * 5, []),
        ([255] * 5, []),
        ([255] * 3 + [1] * 5, []),  # nothing is before it
        ([1] * 5 + [255] * 3, []),  # nor behind
        ([1] * 5 + [255] * 3 + [1] * 60 + [255] + [1], [8, 69]),
        ([1, 127, 1, 128, 1], [4]),
    ],
)
def test_a_shot_begins_behind_a_transition(bright, levels, starts) -> None:
    assert found(bright.detector(), frames_of(levels)) == starts


def test_what_is_no_probability_is_refused(saved) -> None:
    nodes = [
        helper.make_node("Cast", ["frames"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["levels"], ["transition"], axes=[2, 3, 4], keepdims=0),
    ]
    with pytest.raises(ValueError, match="transnetv2 got no probabilities"):
        found(TransNetV2(saved(network(nodes))).detector(), frames_of([200] * 9))


def test_runs_end_where_shots_begin() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        given = rng.random(rng.integers(1, 12)).astype(np.float32)
        is_transition = given > 0.5
        expected = [
            at
            for at in range(1, len(given))
            if is_transition[at - 1] and not is_transition[at] and not is_transition[:at].all()
        ]
        assert after_transitions(given) == expected


def test_a_pass_cuts_by_the_network_that_it_is_given(bright) -> None:
    frames = np.full((60, 96, 160, 3), 20, np.uint8)
    frames[30] = 250
    content = rendered_scenes.encoded(frames)
    video = {
        "media_sha256": "",
        "size_bytes": len(content),
        "duration_s": None,
        "pictures": os.devnull,
    }
    passing = ClipPass(cut_by="transnetv2", network=bright, lengths=SpanConfig(min_ms=0))
    cut = pickle.loads(pickle.dumps(passing))(io.BytesIO(content), video).clips

    assert [clip["start_frame"] for clip in cut] == [0, 31]
    assert bright.version in passing.version
    assert passing.here().version == passing.version
    with pytest.raises(ValueError, match="without a network"):
        ClipPass(cut_by="transnetv2")(io.BytesIO(content), video)


def test_a_model_that_is_not_built_is_told(tmp_path) -> None:
    card, _ = cards.find("transnetv2", "shots")
    with pytest.raises(ModelProblem, match=r"model.onnx is not there; build it .* `make minilm`"):
        distribution.file(card.file("model"), tmp_path, None)


def convolved(x, weights, pads, dilations=(1, 1, 1)):
    """A convolution of (channels, t, h, w), by its definition."""
    x = np.pad(x, [(0, 0), *((pad, pad) for pad in pads)])
    sizes = [
        side - step * (kernel - 1)
        for side, step, kernel in zip(x.shape[1:], dilations, weights.shape[2:], strict=True)
    ]
    result = np.zeros((len(weights), *sizes))
    for place in np.ndindex(weights.shape[2:]):
        part = tuple(
            slice(at * step, at * step + size)
            for at, step, size in zip(place, dilations, sizes, strict=True)
        )
        result += np.einsum("oi,ithw->othw", weights[(..., *place)], x[(slice(None), *part)])
    return result


def alike(x, weights, name):
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cosines = np.pad(x @ x.T, ((0, 0), (50, 50)))
    around = np.stack([cosines[t, t : t + 101] for t in range(len(x))])
    return np.maximum(0, around @ weights[f"{name}.fc.weight"].T + weights[f"{name}.fc.bias"])


def reference(weights, frames):
    """What the paper's code computes, in float64."""
    x = frames.transpose(3, 0, 1, 2) / 255
    means = []
    for n in range(3):
        layers = []
        for m in range(2):
            name = f"SDDCNN.{n}.DDCNN.{m}"
            parts = []
            for d in (1, 2, 4, 8):
                conv = f"{name}.Conv3D_{d}.layers"
                part = convolved(x, weights[f"{conv}.0.weight"], (0, 1, 1))
                parts.append(convolved(part, weights[f"{conv}.1.weight"], (d, 0, 0), (d, 1, 1)))
            x = np.concatenate(parts)
            scale, shift, mean, variance = (
                weights[f"{name}.bn.{n}"][:, None, None, None]
                for n in ("weight", "bias", "running_mean", "running_var")
            )
            x = np.maximum(0, (x - mean) / np.sqrt(variance + 1e-3) * scale + shift)
            layers.append(x)
        x = sum(layers)
        height, width = (side // 2 * 2 for side in x.shape[2:])
        x = x[:, :, :height, :width]
        x = x.reshape(*x.shape[:2], height // 2, 2, width // 2, 2).mean((3, 5))
        means.append(x.mean((2, 3)))
    seen = x.transpose(1, 2, 3, 0).reshape(100, -1)
    features = np.concatenate(means).T @ weights["frame_sim_layer.projection.weight"].T
    moved = alike(features + weights["frame_sim_layer.projection.bias"], weights, "frame_sim_layer")
    bins = (frames.astype(int) >> 5) @ (64, 8, 1)
    histograms = np.stack([np.bincount(bin_.ravel(), minlength=512) for bin_ in bins])
    joined = np.concatenate([alike(histograms, weights, "color_hist_layer"), moved, seen], axis=1)
    hidden = np.maximum(0, joined @ weights["fc1.weight"].T + weights["fc1.bias"])
    scores = hidden @ weights["cls_layer1.weight"].T + weights["cls_layer1.bias"]
    return 1 / (1 + np.exp(-scores[:, 0]))


def small_weights():
    """Random ones, of two filters where the network has sixteen."""
    rng = np.random.default_rng(3)
    weights = {}

    def put(name, *shape):
        weights[name] = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:]) or 1), shape)

    channels = 3
    for n in range(3):
        for m in range(2):
            filters = 2 * 2**n
            for d in (1, 2, 4, 8):
                conv = f"SDDCNN.{n}.DDCNN.{m}.Conv3D_{d}.layers"
                put(f"{conv}.0.weight", 2 * filters, channels, 1, 3, 3)
                put(f"{conv}.1.weight", filters, 2 * filters, 3, 1, 1)
            channels = 4 * filters
            for part in ("weight", "bias", "running_mean", "running_var"):
                weights[f"SDDCNN.{n}.DDCNN.{m}.bn.{part}"] = rng.uniform(0.2, 1, channels)
    for name, inner, outer in (
        ("frame_sim_layer.projection", 8 + 16 + 32, 5),
        ("frame_sim_layer.fc", 101, 4),
        ("color_hist_layer.fc", 101, 4),
        ("fc1", 3 * 6 * 32 + 8, 6),
        ("cls_layer1", 6, 1),
    ):
        put(f"{name}.weight", outer, inner)
        put(f"{name}.bias", outer)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def test_the_graph_computes_what_the_paper_computes(saved) -> None:
    weights = small_weights()
    session = cpu_network(saved(export.build(weights)))
    frames = np.random.default_rng(4).integers(0, 256, (2, 100, 27, 48, 3), np.uint8)
    (given,) = session.run(["transition"], {"frames": frames})

    expected = [reference(weights, part) for part in frames]
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_a_pickle_that_asks_for_more_than_tensors_is_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(print))
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print is no tensor"):
        export.read_weights(tmp_path / "weights.pth")


@pytest.fixture(scope="module")
def built() -> TransNetV2:
    path = export.HERE / "model.onnx"
    if not path.is_file():
        pytest.skip("infra/transnetv2/model.onnx is not built; run make transnetv2")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return TransNetV2(ModelFile(digest, partial(str, path)))


def test_the_card_names_the_file_that_the_export_wrote(built) -> None:
    card, _ = cards.find("transnetv2", "shots")
    assert card.file("model").sha256 == built.model.sha256


@pytest.mark.parametrize("kind", ["cuts", "static"])
def test_it_sees_the_cuts_of_rendered_scenes(built, kind) -> None:
    rendered = rendered_scenes.scenes(kind, seed=100)
    starts = found(built.detector(), rendered_scenes.small(rendered.frames))

    assert rendered_scenes.score(starts, rendered.changes) == (len(rendered.changes), 0, 0)
