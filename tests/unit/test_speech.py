import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scipy import signal

from tests.rendered_sound import babble
from udfs.model_file import ModelFile, ModelMismatch
from udfs.speech import Speech

RATE_HZ = 16_000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def louder(saved) -> Speech:
    """A network with a memory: the mean of a window's magnitudes, and how many it has seen."""
    nodes = [
        helper.make_node("Abs", ["input"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["speech_probs"], axes=[1], keepdims=0),
        helper.make_node("Shape", ["input"], ["shape"], start=0, end=1),
        helper.make_node("Cast", ["shape"], ["n"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["h", "n"], ["hn"]),
        helper.make_node("Identity", ["c"], ["cn"]),
    ]
    state = {"h": (1, 1, 128), "c": (1, 1, 128), "hn": (1, 1, 128), "cn": (1, 1, 128)}
    shapes = {"input": ("n", 576), "speech_probs": ("n",), **state}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    graph = helper.make_graph(
        nodes,
        "louder",
        [values[name] for name in ("input", "h", "c")],
        [values[name] for name in ("speech_probs", "hn", "cn")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return Speech(saved(model))


def fraction(speech: Speech, sound: np.ndarray, parts: int = 1) -> float | None:
    meter = speech.meter()
    for part in np.array_split(sound.astype(np.float32), parts):
        meter.add(part)
    return meter.fraction()


def test_the_share_is_that_of_windows(louder) -> None:
    loud, quiet = np.full(512 * 3, 0.9), np.zeros(512)
    assert fraction(louder, np.concatenate([loud, quiet])) == 0.75
    assert fraction(louder, np.concatenate([loud, quiet, quiet[:500]])) == 0.75


@pytest.mark.parametrize("parts", [2, 7, 400])
def test_how_sound_is_cut_into_blocks_does_not_matter(louder, parts) -> None:
    sound = np.repeat(np.random.default_rng(3).choice([0.0, 0.9], 90), 400)
    assert fraction(louder, sound, parts) == fraction(louder, sound)


def test_long_sound_goes_through_in_bounded_runs_that_remember(louder) -> None:
    meter = louder.meter()
    meter.add(np.zeros(512 * 1300, np.float32))
    assert meter._state[0][0, 0, 0] == 1300
    assert len(meter._rest) == 64


def test_less_than_a_window_has_no_share(louder) -> None:
    assert fraction(louder, np.zeros(0)) is None
    assert fraction(louder, np.zeros(511)) is None
    assert fraction(louder, np.zeros(512)) == 0


def test_broken_samples_spoil_nothing(louder) -> None:
    sound = np.full(512 * 4, 0.9)
    sound[600:1024] = np.nan
    sound[1100] = np.inf
    assert fraction(louder, sound) == 0.75


def test_what_is_no_probability_is_refused(saved) -> None:
    names = {"input": ["n", 576], "h": [1, 1, 128], "c": [1, 1, 128]}
    names |= {"hn": [1, 1, 128], "cn": [1, 1, 128], "speech_probs": ["n"]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in names.items()
    }
    nodes = [
        helper.make_node("ReduceSum", ["input", "one"], ["speech_probs"], keepdims=0),
        helper.make_node("Identity", ["h"], ["hn"]),
        helper.make_node("Identity", ["c"], ["cn"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [values[name] for name in ("input", "h", "c")],
        [values[name] for name in ("speech_probs", "hn", "cn")],
        [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ValueError, match="speech got no probabilities"):
        fraction(Speech(saved(model)), np.full(512, 0.9))


def test_the_model_is_the_one_described(louder) -> None:
    assert louder.load() == "CPUExecutionProvider"
    assert louder.version == f"speech/1:{louder.model.sha256}"
    with pytest.raises(ModelMismatch):
        Speech(ModelFile("0" * 64, louder.model.locate)).load()


def test_nothing_is_started_until_sound_is_heard() -> None:
    """A nursery of decoders has one thread, or its forks hang."""
    asked = "import sys, udfs.clips; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=False).returncode == 0


def test_silero_hears_voices_and_nothing_else(silero) -> None:
    assert fraction(silero, babble(10)) > 0.7
    assert fraction(silero, babble(10), 99) == fraction(silero, babble(10))
    times = np.arange(10 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).normal(0, 0.1, len(times))
    chord = sum(0.1 * signal.sawtooth(2 * np.pi * hz * times) for hz in (220, 277, 330))
    for sound in (np.zeros(len(times)), noise, chord, 0.3 * np.sin(2 * np.pi * 440 * times)):
        assert fraction(silero, sound) < 0.05
