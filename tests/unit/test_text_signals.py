import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.text_signals import SIGNALS
from udfs.clip import ClipText
from udfs.embedding import unpack
from udfs.language import Language, lid_176
from udfs.text_metrics import Metrics
from udfs.text_signals import text_signals_udf


class Fragile:
    """Fails, with the text in its message, where the text holds a bomb."""

    columns = ("words",)
    version = "fragile/1"

    def load(self):
        return None

    def finish(self, texts):
        if any("bomb" in text for text in texts):
            raise RuntimeError(f"cannot read {texts}")
        return {"words": [len(text) for text in texts]}


def transported(texts, size: int):
    keys = [f"k{n}" for n in range(len(texts))]
    for start in range(0, len(texts), size):
        part = slice(start, start + size)
        yield pa.RecordBatch.from_pydict({"text_sha256": keys[part], "caption": texts[part]})


def scored(signals, texts, size: int = 100, **options):
    score = text_signals_udf(signals, **options)
    batches = list(score(transported(texts, size)))
    assert all(batch.schema.names == SIGNALS.names for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


def test_every_signal_of_a_caption_is_in_its_row(tiny_clip) -> None:
    signals = (Metrics(), Language(lid_176()), ClipText(tiny_clip))
    (row,) = scored(pickle.loads(pickle.dumps(signals)), ["A dog plays with a red ball"])
    assert (row["text_sha256"], row["status"], row["detail"]) == ("k0", "ok", None)
    assert (row["words"], row["language"], row["clip_dimension"]) == (7, "en", 8)
    assert row["provider"] == "CPUExecutionProvider"
    assert unpack([row["clip_embedding"]]).shape == (1, 8)


def test_without_networks_there_is_no_provider() -> None:
    (row,) = scored([Metrics()], [""])
    assert (row["status"], row["provider"], row["language"]) == ("ok", None, None)


def test_a_text_that_fails_costs_its_own_row_and_is_not_quoted() -> None:
    rows = scored([Fragile(), Metrics()], ["a", "a bomb", "b"])
    assert [row["status"] for row in rows] == ["ok", "text_not_scored", "ok"]
    assert rows[1]["detail"] == "a signal failed: RuntimeError"
    assert rows[1]["words"] is rows[1]["chars"] is None
    assert [row["chars"] for row in rows] == [1, None, 1]


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), max_size=12), st.integers(1, 7), st.integers(1, 7))
def test_order_and_count_hold_for_any_split(texts, size, batch_size) -> None:
    rows = scored([Metrics()], texts, size, batch_size=batch_size)
    assert [row["text_sha256"] for row in rows] == [f"k{n}" for n in range(len(texts))]
    assert [row["chars"] for row in rows] == [len(text) for text in texts]


def test_splits_do_not_change_embeddings(tiny_clip) -> None:
    texts = [f"caption number {n}" for n in range(16)]
    whole, *others = (
        unpack([row["clip_embedding"] for row in scored([ClipText(tiny_clip)], texts, size)])
        for size in (16, 6, 1)
    )
    for other in others:
        assert other == pytest.approx(whole, abs=1e-6)


def test_a_column_that_the_table_lacks_is_refused() -> None:
    class Unknown(Fragile):
        columns = ("sentiment",)

    with pytest.raises(ValueError, match="sentiment"):
        text_signals_udf([Unknown()])
