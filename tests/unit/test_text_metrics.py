import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from udfs.text_metrics import Metrics, TextMetrics, text_metrics


@given(st.text())
@example("0" * 19 + "A" * 25)
def test_any_text_has_counts_and_shares_in_range(text) -> None:
    measured = text_metrics(text)
    categories = [unicodedata.category(character) for character in text]
    assert measured.chars == len(text)
    assert measured.words == len(text.split())
    # Divided, as multiplying back need not give a whole number: 25 / 44 * 44 does not.
    chars = max(len(text), 1)
    assert measured.letter_fraction == sum(c[0] == "L" for c in categories) / chars
    assert measured.digit_fraction == sum(c == "Nd" for c in categories) / chars
    assert 0 <= measured.upper_fraction <= 1


def test_an_empty_text_is_all_zeros() -> None:
    assert text_metrics("") == TextMetrics(0, 0, 0.0, 0.0, 0.0)


def test_letters_of_any_script_count() -> None:
    assert text_metrics("日本 ٣٤ ÄÖ") == TextMetrics(8, 3, 0.5, 0.25, 0.5)


def test_the_signal_fills_its_columns_row_by_row() -> None:
    signal = Metrics()
    signal.load()
    columns = signal.finish(["A b", "12"])
    assert tuple(columns) == signal.columns
    assert columns["words"] == [2, 1]
    assert columns["digit_fraction"] == [0.0, 1.0]
