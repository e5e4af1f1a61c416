import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from infra.profanity.convert import HERE, converted
from udfs.clip_tokenizer import Tokenizer
from udfs.model_file import ModelFile, ModelMismatch
from udfs.toxicity import Toxicity, probabilities

NASTY = ["you stupid fool", "what a stupid rotten liar", "rotten fool", "go away rotten liar"]
KIND = ["a red ball", "the lake at dawn", "what a sunny day", "go to the lake", "you and the dog"]
TEXTS = [*NASTY, *KIND, "", " ", "a b", "Stupid STUPID ball", "lake " * 60, "unheard words"]


@pytest.fixture(scope="module")
def trained():
    """A classifier of the package's kind, of a handful of words."""
    vectorizer = TfidfVectorizer(stop_words="english")
    vectors = vectorizer.fit_transform((NASTY + KIND) * 3)
    classifier = CalibratedClassifierCV(LinearSVC(class_weight="balanced"), cv=3)
    return vectorizer, classifier.fit(vectors, ([1] * len(NASTY) + [0] * len(KIND)) * 3)


@pytest.fixture
def tiny(saved, trained) -> Toxicity:
    words, model = converted(*trained)
    tokenizer = Tokenizer("tokenizer_json", saved(words.to_str().encode()), context_length=64)
    return Toxicity(saved(model), tokenizer)


@pytest.fixture(scope="module")
def profanity() -> Toxicity:
    card = yaml.safe_load((HERE / "model.yaml").read_text(encoding="utf-8"))
    if not (HERE / "model.onnx").is_file():
        pytest.skip("infra/profanity/model.onnx is not built; run make profanity")
    files = {
        role: ModelFile(file["sha256"], partial(str, HERE / file["path"]))
        for role, file in card["files"].items()
    }
    tokenizer = Tokenizer("tokenizer_json", files["tokenizer"], context_length=512)
    return Toxicity(files["model"], tokenizer)


def expected(trained, texts) -> np.ndarray:
    vectorizer, classifier = trained
    return classifier.predict_proba(vectorizer.transform(texts))[:, 1]


def test_a_converted_classifier_gives_what_scikit_learn_gives(tiny, trained) -> None:
    scores = tiny.finish(TEXTS)["toxicity_score"]
    np.testing.assert_allclose(scores, expected(trained, TEXTS), atol=1e-6)
    assert max(scores) - min(scores) > 0.3


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(
        st.one_of(
            st.sampled_from(" _'-\u0301éßÉ½²"),
            st.characters(max_codepoint=0x2FF, exclude_categories=["Cs", "Cn"]),
        ),
        max_size=30,
    )
)
@example("\u0301")  # a mark that cannot be joined to its letter is no part of a word
@example("_x")
def test_words_are_cut_as_scikit_learn_cuts_them(tiny, trained, text) -> None:
    text = f"stupid{text} {text}lake"
    scores = tiny.finish([text])["toxicity_score"]
    np.testing.assert_allclose(scores, expected(trained, [text]), atol=1e-6)


def with_outputs(values: list[float], name: str = "logits"):
    """A network that says the same of every text."""
    nodes = [
        helper.make_node("ReduceMax", ["input_ids"], ["top"], axes=[1], keepdims=1),
        helper.make_node("Cast", ["top"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "values"], [name]),
    ]
    constants = {"zero": np.zeros(1, np.float32), "values": np.array([values], np.float32)}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(values)])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("label", "activation", "score"),
    [(0, "sigmoid", 0.5), (1, "sigmoid", 1 / (1 + np.exp(-1))), (1, "softmax", np.e / (1 + np.e))],
)
def test_a_usual_export_is_read_by_its_card(saved, tiny, label, activation, score) -> None:
    made = Toxicity(saved(with_outputs([0, 1])), tiny.tokenizer, label, activation)
    assert made.load() == "CPUExecutionProvider"
    assert made.finish(["a", "red ball"])["toxicity_score"] == pytest.approx([score] * 2)


def test_far_logits_overflow_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = np.array([[1000.0, -1000.0]])
        assert probabilities(far, "sigmoid").tolist() == [[1, 0]]
        assert probabilities(far, "softmax").tolist() == [[1, 0]]
        assert probabilities(far, "none").tolist() == far.tolist()


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_a_score_that_is_no_probability_is_an_error(saved, tiny, value) -> None:
    made = Toxicity(saved(with_outputs([value], "scores")), tiny.tokenizer)
    with pytest.raises(ValueError, match="outside"):
        made.finish(["a"])


def test_a_label_that_the_network_lacks_is_refused(saved, tiny) -> None:
    with pytest.raises(ModelMismatch, match="label 2"):
        Toxicity(saved(with_outputs([0, 1])), tiny.tokenizer, label=2).load()


def test_it_travels_and_its_version_names_all_that_decides(saved, tiny) -> None:
    travelled = pickle.loads(pickle.dumps(tiny))
    assert travelled.finish(TEXTS) == tiny.finish(TEXTS)
    others = [
        Toxicity(tiny.model, tiny.tokenizer, label=1),
        Toxicity(tiny.model, tiny.tokenizer, activation="sigmoid"),
        Toxicity(saved(with_outputs([0])), tiny.tokenizer),
        Toxicity(tiny.model, Tokenizer("tokenizer_json", tiny.tokenizer.file)),
    ]
    assert len({tiny.version, *(other.version for other in others)}) == 5


def test_the_converted_package_tells_insults_from_captions(profanity) -> None:
    profanity.load()
    insults = ["You are a stupid idiot and nobody likes you.", "Shut up, you worthless moron."]
    captions = ["Gay pride parade in the city", "Jewish museum entrance hall", "two dogs", ""]
    assert min(profanity.finish(insults)["toxicity_score"]) > 0.9
    assert max(profanity.finish(captions)["toxicity_score"]) < 0.5
