"""Texts that read the same have one form; texts that do not have different ones."""
# ruff: noqa: RUF001 - characters that look like others are what it is about

import hashlib
import sys
import time
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from udfs.normalised_text import (
    _LAST_MARK,
    VERSION,
    normalised_text,
    text_fingerprint,
    text_fingerprints,
)

EQUAL = {
    "a cat": [
        *("A  Cat", "\ta\ncat\r\n", "Ａ　ｃａｔ", "a\u00a0cat", "a\u2028cat", "a c\u00adat"),
        *("\ufeffa cat", "a\u202e cat", "a\x1fcat", "\x00a cat\x7f", "a ca\u200bt", "𝐚 𝒄at"),
    ],
    "straße 1⁄2".casefold(): ["STRASSE ½", "straße ½"],
    "café": ["CAFE\u0301", "Café", "cafe\u0301\u200e"],
    "ὠ\u03b9": ["ᾠ", "ὠ\u0345", "ᾨ"],
    "σσ": ["ΣΣ", "σς"],
    "ガ": ["ｶﾞ", "カ\u3099"],
    "각": ["\u1100\u1161\u11a8"],
}
DIFFERENT = [
    *("a cat", "acat", "a cat.", "a cats", "ä cat", "a-cat", "1", "2", "one"),
    *("👩", "👩🏽", "👩‍👩‍👧", "👩👩👧", "❤", "❤️", "🇩🇪", "🇫🇷"),
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # Scotland
    *("می\u200cخواهم", "میخواهم", "é", "e", "ñ", "n", "ي", "ى", "貓", "猫"),
]
BLANK = ["", " ", "\n\t\u00a0\u2003", "\u200b\ufeff", "\x00\x01", "\u00ad \u202e"]
texts = st.text(st.characters(), max_size=80)
# What interacts: marks, cases of more than one character, compatible forms, what goes.
odd = st.text(
    st.sampled_from(
        "aAİıßẞςΣǰΐᾳ\u0345\u0344\u0301\u0316\u0f73\u0f71ﾞ\u3099か½¨´ﷺﬃ"
        "\u1e9b\u0323 \u00a0\u200b\u034f\u200d\x00\ud800"
    ),
    max_size=40,
)


@pytest.mark.parametrize("form", EQUAL)
def test_what_reads_the_same_has_one_form(form):
    assert normalised_text(form) == form
    for text in EQUAL[form]:
        assert normalised_text(text) == form, ascii(text)
        assert text_fingerprint(text) == text_fingerprint(form)


def test_what_reads_differently_has_different_forms():
    assert len(set(map(normalised_text, DIFFERENT))) == len(DIFFERENT)
    assert len(set(map(text_fingerprint, DIFFERENT))) == len(DIFFERENT)


@pytest.mark.parametrize("text", [None, *BLANK])
def test_a_blank_text_equals_nothing(text):
    assert text_fingerprint(text) is None


@given(st.one_of(texts, odd))
@example("\u0345\u0301" * 8)
@example("a" + "\u0301\u0316" * 40)
def test_the_form_is_stable_and_its_fingerprint_is_of_it(text):
    form = normalised_text(text)
    assert normalised_text(form) == form
    assert form == " ".join(form.split())
    assert normalised_text(text.swapcase().swapcase()) == normalised_text(
        text.swapcase().swapcase()
    )
    expected = hashlib.sha256(form.encode("utf-8", "surrogatepass")).digest()[:16]
    assert text_fingerprint(text) == (expected if form else None)


@given(st.one_of(texts, odd))
def test_the_way_a_text_is_encoded_does_not_matter(text):
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert normalised_text(unicodedata.normalize(form, text)) == normalised_text(text)


def test_every_character_has_a_stable_form():
    for start in range(0, sys.maxunicode, 256):
        form = normalised_text("".join(f"a{chr(code)}b" for code in range(start, start + 256)))
        assert normalised_text(form) == form, hex(start)


def test_no_mark_is_left_out():
    above = map(chr, range(_LAST_MARK + 1, sys.maxunicode + 1))
    assert not any(unicodedata.combining(unicodedata.normalize("NFKD", c)[0]) for c in above)


@given(st.lists(st.one_of(st.none(), texts, odd, st.sampled_from(BLANK)), max_size=10))
def test_the_vectorised_form_equals_the_plain_one(column):
    storable = [t if t is None else t.encode("utf-8", "replace").decode() for t in column]
    expected = [text_fingerprint(text) for text in storable]
    for kind in (pa.string(), pa.large_string()):
        array = pa.array(storable, kind)
        found = text_fingerprints(array)
        assert found.type == pa.binary()
        assert found.to_pylist() == expected
        assert text_fingerprints(array[1:]).to_pylist() == expected[1:]


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_takes_the_short_way_to_the_same_end(text):
    assert text_fingerprints(pa.array([text])).to_pylist() == [text_fingerprint(text)]


def test_bytes_that_are_no_text_cost_only_themselves():
    broken = pa.array([b"a cat", b"\xff\xfe", b"caf\xc3"], pa.binary()).view(pa.string())
    first, second, third = text_fingerprints(broken).to_pylist()
    assert first == text_fingerprint("a cat")
    assert second == text_fingerprint("\ufffd\ufffd")
    assert third == text_fingerprint("caf\ufffd")


@pytest.mark.parametrize(
    "text",
    [
        "The quick  brown Fox. " * 476_000,
        "Ｔｈｅ ﬁrst Straße; " * 300_000,
        "a" + "\u0301\u0316" * 1_700_000,
        "\u0f73\u0f75" * 1_000_000,
        "ｶﾞﾟ" * 1_000_000,
        " \u00a0" * 3_000_000,
        "\u200b\x00" * 2_000_000,
        "ﷺ" * 500_000,
    ],
    ids=["ascii", "compatible", "marks", "hidden marks", "voiced", "blank", "unseen", "expanding"],
)
def test_ten_megabytes_take_seconds_at_most(text):
    began = time.process_time()
    text_fingerprints(pa.array([text]))
    assert time.process_time() - began < 15  # measured: 3 s for the slowest


def test_the_version_names_the_tables_of_characters():
    assert unicodedata.unidata_version in VERSION
