import numpy as np
import pyarrow as pa
import pytest

from schemas.image_signals import SIGNALS
from tests.plain_signals import Redness
from udfs.arrow import record_batch
from udfs.embedding import pack, unit
from udfs.embedding_signals import embedding_signals_udf
from udfs.signal_set import Signal


class Failing(Redness):
    """Fails on embeddings that point to the blue."""

    def finish(self, embeddings):
        if np.any(np.stack(embeddings)[:, 2] > 0.9):
            raise ValueError("too blue")
        return super().finish(embeddings)


def rows(*vectors: tuple[float, float, float] | None) -> pa.RecordBatch:
    told = []
    for number, vector in enumerate(vectors):
        row: dict[str, object] = {"media_sha256": str(number), "status": "ok", "width_px": 7}
        if vector is None:
            row |= {"status": "corrupt_image", "detail": "before", "width_px": None}
        else:
            row["clip_embedding"] = pack(unit(np.array([vector])))[0]
        told.append(row)
    return record_batch(told, SIGNALS)


def derived(signal: Signal, *batches: pa.RecordBatch) -> list[dict[str, object]]:
    return [row for b in embedding_signals_udf([signal])(iter(batches)) for row in b.to_pylist()]


def test_rows_come_back_in_order_with_the_signal_filled_and_all_else_as_it_was() -> None:
    before = rows((3, 4, 0), None, (0, 1, 0))
    after = derived(Redness(), before, rows((1, 0, 0)))

    assert [row["media_sha256"] for row in after] == ["0", "1", "2", "0"]
    assert [row["nsfw_score"] for row in after] == pytest.approx([0.6, None, 0, 1], abs=1e-3)
    for row, old in zip(after, before.to_pylist(), strict=False):
        assert row | {"nsfw_score": None} == old


def test_a_row_that_the_signal_fails_on_is_refused_alone() -> None:
    after = derived(Failing(), rows((1, 0, 0), (0, 0, 1), (0, 1, 0)))

    assert [row["status"] for row in after] == ["ok", "corrupt_image", "ok"]
    assert after[1]["detail"] == "a signal failed: ValueError: too blue"
    assert {name for name, value in after[1].items() if value is not None} == {
        "media_sha256",
        "status",
        "detail",
    }
    assert after[0]["nsfw_score"] == pytest.approx(1)


def test_bytes_that_are_no_embedding_cost_their_row() -> None:
    batch = rows((1, 0, 0), (0, 1, 0)).to_pylist()
    batch[1]["clip_embedding"] = bytes(6)
    after = derived(Redness(), record_batch(batch, SIGNALS))

    assert [row["status"] for row in after] == ["ok", "corrupt_image"]


def test_no_rows_give_no_rows() -> None:
    assert derived(Redness(), rows()) == []
