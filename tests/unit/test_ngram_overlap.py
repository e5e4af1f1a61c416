import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.ngram_overlap import LONG, MOST_TEXTS, SHORT, NgramIndex, spread, words

# Pieces of one long text, so that runs are shared; 17 words that come again and again.
SOURCE = [f"w{n % 17}" for n in range(60)]
PIECES = st.tuples(st.integers(0, 40), st.integers(0, 18)).map(lambda p: SOURCE[p[0] : sum(p)])
TEXTS = st.lists(PIECES, max_size=3).map(
    lambda pieces: " ".join(w for piece in pieces for w in piece)
)


def numbered(count: int, start: int = 0) -> str:
    return " ".join(f"w{i}" for i in range(start, start + count))


def met(items: list[str], texts: list[str]) -> dict[str, set[tuple[int, int, float]]]:
    found = NgramIndex.of(items).met(texts)
    return {
        method: set(zip(h.rows.tolist(), h.items.tolist(), h.scores.tolist(), strict=True))
        for method, h in found.items()
    }


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    split = re.findall(r"\w+", text.lower())
    return {tuple(split[i : i + size]) for i in range(len(split) - size + 1)}


@given(st.lists(TEXTS.filter(bool), max_size=5, unique=True), st.lists(TEXTS, max_size=6))
def test_hits_are_those_of_sets_of_tuples(items: list[str], texts: list[str]) -> None:
    expected: dict[str, set[tuple[int, int, float]]] = {
        "exact_text": set(),
        "text_13gram": set(),
        "text_8gram": set(),
    }
    for row, text in enumerate(texts):
        for number, item in enumerate(items):
            if text == item:
                expected["exact_text"].add((row, number, 1.0))
            shares = {
                n: len(grams(text, n) & grams(item, n)) / max(len(grams(item, n)), 1)
                for n in (SHORT, LONG)
            }
            is_short = min(len(text.split()), len(item.split())) < LONG
            if shares[LONG]:
                expected["text_13gram"].add((row, number, float(np.float32(shares[LONG]))))
            if is_short and shares[SHORT] >= 0.5:
                expected["text_8gram"].add((row, number, float(np.float32(shares[SHORT]))))

    assert met(items, texts) == expected


def test_words_are_compared_without_case_and_punctuation() -> None:
    found = met(["The cat -- it sat, DOWN!"], ["the cat it sat down", "the cat it sat"])

    assert found["exact_text"] == {(0, 0, 1.0)}


def test_thirteen_words_in_a_row_are_a_hit_and_twelve_are_none() -> None:
    item = numbered(40)
    found = met([item], [f"x {numbered(13, 5)} y", f"x {numbered(12, 5)} " + "y " * 5])

    assert found["text_13gram"] == {(0, 0, float(np.float32(1 / 28)))}
    assert found["text_8gram"] == set()


def test_of_short_texts_half_the_runs_of_eight_words_are_a_hit() -> None:
    item = numbered(11)  # four runs of eight words
    found = met([item], [f"x {numbered(9)} y", f"x {numbered(8)} y", f"{numbered(9)} " + "y " * 20])

    assert found["text_8gram"] == {(0, 0, 0.5), (2, 0, 0.5)}


def test_a_text_of_under_eight_words_is_met_by_its_equal_alone() -> None:
    found = met(["a cat"], ["A cat.", "a cat on a mat", "", "!?"])

    assert found["exact_text"] == {(0, 0, 1.0)}
    assert not found["text_8gram"]
    assert not found["text_13gram"]


def test_runs_do_not_cross_from_one_text_to_the_next() -> None:
    texts = [numbered(7), numbered(13, 7)]

    assert met([numbered(20)], texts)["text_13gram"] == {(1, 0, 1 / 8)}
    assert not met([numbered(20)], [numbered(7), numbered(6, 7)])["text_13gram"]


def test_a_template_that_many_items_share_is_no_item() -> None:
    template = numbered(20)
    items = [f"{template} {numbered(14, 100 * (n + 1))}" for n in range(MOST_TEXTS + 1)]
    found = met(items, [template, items[3], f"{template} and more words than that"])

    assert found["text_13gram"] == {(1, 3, 1.0)}
    assert found["exact_text"] == {(1, 3, 1.0)}
    few = met(items[:MOST_TEXTS], [template])
    assert len(few["text_13gram"]) == MOST_TEXTS


def test_order_of_words_counts() -> None:
    item = numbered(13)
    backwards = " ".join(reversed(item.split()))

    assert not any(met([item], [backwards]).values())


def test_an_empty_index_and_no_texts_meet_nothing() -> None:
    assert not any(met([], ["a cat", numbered(30)]).values())
    assert not any(met([numbered(30)], []).values())


@pytest.mark.parametrize("texts", [["a cat", "A cat!"], ["a cat", "!"]])
def test_texts_must_have_words_of_their_own(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"2 texts have words in 1 ways; allowed distinct"):
        NgramIndex.of(texts)


def test_hostile_texts_cost_only_themselves() -> None:
    item = numbered(30)
    hostile = ["\ud800 \udfff", "a " * 1_000_000, "\0", "字" * 1000, item]

    assert met([item], hostile)["text_13gram"] == {(4, 0, 1.0)}


def test_spread_of_nothing_is_nothing() -> None:
    assert not len(spread(np.zeros(0, np.int64), np.zeros(0, np.int64)))
    assert words("!") == []
