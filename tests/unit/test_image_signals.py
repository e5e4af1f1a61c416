import io
import pickle
import threading
import time
from types import SimpleNamespace

import imagehash
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyspark import TaskContext

from jobs.runtime.config import Config, Dump
from jobs.runtime.models import image_side
from jobs.runtime.signals import Shelf
from schemas.image_signals import SIGNALS
from udfs.clip import ClipImage
from udfs.embedding import unpack
from udfs.image_codec import decode
from udfs.image_signals import image_signals_udf
from udfs.isolation import Limits
from udfs.phash import PHash, to_hex
from udfs.sharpness import Sharpness, sharpness

LIMIT = 10**7


def png(image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def grey(level: int) -> bytes:
    return png(Image.new("RGB", (8, 8), (level, level, level)))


class Level:
    """The grey level as sharpness; chosen levels fail."""

    columns = ("sharpness",)
    version = "level/1"

    def __init__(self, *, fails_prepare=(), fails_finish=()) -> None:
        self.fails_prepare, self.fails_finish = fails_prepare, fails_finish
        self.batches: list[int] = []

    def load(self):
        return "FakeProvider"

    def prepare(self, decoded):
        level = decoded.image.getpixel((0, 0))[0]
        time.sleep(level % 3 / 1000)  # later images overtake earlier ones
        if level in self.fails_prepare:
            raise ArithmeticError("poisoned")
        return level

    def finish(self, prepared):
        self.batches.append(len(prepared))
        if set(prepared) & set(self.fails_finish):
            raise RuntimeError("poisoned")
        return {"sharpness": [float(level) for level in prepared]}


def transported(contents, size: int):
    keys = [f"k{n}" for n in range(len(contents))]
    for start in range(0, len(contents), size):
        part = slice(start, start + size)
        yield pa.RecordBatch.from_pydict(
            {"media_sha256": keys[part], "content": pa.array(contents[part], pa.binary())}
        )


def signal_set(signals):
    config = Config(warehouse="w", dumps=(Dump(name="d", path="d"),))
    named = {type(signal).__name__: signal for signal in signals}
    return image_side(named, config, Shelf(config, None)).signal_set


def scored(signals, contents, size: int = 100, **options):
    score = image_signals_udf(signals, **{"max_pixels": LIMIT, **options})
    batches = list(score(transported(contents, size)))
    assert all(batch.schema.names == SIGNALS.names for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.fixture(params=[Limits(deadline_s=60), None], ids=["isolated", "threads"])
def isolation(request):
    return request.param


def test_every_signal_of_an_image_is_in_its_row(tiny_clip, photographs) -> None:
    image = photographs[1]
    signals = pickle.loads(pickle.dumps((PHash(), Sharpness(), ClipImage(tiny_clip))))
    (row,) = scored(signals, [png(image)])
    assert (row["media_sha256"], row["status"], row["detail"]) == ("k0", "ok", None)
    assert (row["format"], row["mode"], row["frames"]) == ("PNG", "RGB", 1)
    assert (row["width_px"], row["height_px"]) == image.size
    assert (row["is_animated"], row["has_alpha"], row["exif_orientation"]) == (False, False, 1)
    assert row["sharpness"] == pytest.approx(sharpness(image))
    assert row["nsfw_score"] is None
    assert row["provider"] == "CPUExecutionProvider"
    crop = tiny_clip.preprocessing.crop(image)
    alone = ClipImage(tiny_clip).finish([crop])
    assert row["clip_embedding"] == alone["clip_embedding"][0]


def test_the_hash_is_imagehashs_of_the_decoded_picture(photographs) -> None:
    contents = [png(image.convert("P")) for image in photographs]
    for content, row in zip(contents, scored([PHash()], contents), strict=True):
        picture = decode(content, max_pixels=LIMIT).image
        assert to_hex(row["phash"]) == str(imagehash.phash(picture))


def test_one_bad_image_costs_one_row() -> None:
    contents = [grey(1), b"", grey(2), b"no image", grey(3)[:40], png(Image.new("L", (99, 99)))]
    rows = scored([Level()], contents, max_pixels=1000)
    assert [row["status"] for row in rows] == [
        "ok",
        "empty_media",
        "ok",
        "not_an_image",
        "truncated_image",
        "too_many_pixels",
    ]
    assert [row["sharpness"] for row in rows] == [1, None, 2, None, None, None]
    assert all(row["detail"] for row in rows if row["status"] != "ok")
    assert [row["provider"] for row in rows[:2]] == ["FakeProvider", None]


@pytest.mark.parametrize("where", ["fails_prepare", "fails_finish"])
def test_a_signal_that_fails_on_one_image_costs_its_row_alone(where) -> None:
    rows = scored([PHash(), Level(**{where: (2,)}), Level()], [grey(n) for n in range(5)])
    assert [row["status"] for row in rows] == ["ok", "ok", "corrupt_image", "ok", "ok"]
    assert "poisoned" in rows[2]["detail"]
    assert rows[2]["phash"] is rows[2]["sharpness"] is rows[2]["format"] is None
    assert [row["sharpness"] for row in rows] == [0, 1, None, 3, 4]


def test_a_batch_of_only_bad_images_reaches_no_network() -> None:
    signal = Level()
    assert [row["status"] for row in scored([signal], [b"", b""])] == ["empty_media"] * 2
    assert signal.batches == []


def test_a_model_that_cannot_be_loaded_fails_the_task_not_the_rows() -> None:
    class Broken(Level):
        def load(self):
            raise FileNotFoundError("weights")

    with pytest.raises(FileNotFoundError):
        scored([Broken()], [grey(1)])


CONTENTS = [grey(level) for level in range(20)]


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(0, 20),
    size=st.integers(1, 21),
    batch_size=st.integers(1, 9),
    decoders=st.integers(1, 4),
    prefetch_bytes=st.sampled_from([1, 300, 10**6]),
)
def test_order_and_count_hold_for_any_split(
    count, size, batch_size, decoders, prefetch_bytes
) -> None:
    rows = scored(
        [Level()],
        CONTENTS[:count],
        size,
        batch_size=batch_size,
        decoders=decoders,
        prefetch_bytes=prefetch_bytes,
    )
    assert [row["media_sha256"] for row in rows] == [f"k{n}" for n in range(count)]
    assert [row["sharpness"] for row in rows] == list(range(count))


def test_networks_see_their_own_batch_size_whatever_the_transport() -> None:
    signal = Level()
    scored([signal], [grey(n) for n in range(20)], size=3, batch_size=8)
    assert signal.batches == [8, 8, 4]


def test_splits_do_not_change_values(tiny_clip, photographs) -> None:
    contents = [png(image.rotate(30 * n)) for n in range(3) for image in photographs[:5]]
    contents.append(contents[0])
    signals = (PHash(), Sharpness(), ClipImage(tiny_clip))
    whole, *others = (scored(signals, contents, size) for size in (16, 6, 1))
    for rows in others:
        assert [row["phash"] for row in rows] == [row["phash"] for row in whole]
        assert [row["sharpness"] for row in rows] == [row["sharpness"] for row in whole]
        got, expected = (unpack([row["clip_embedding"] for row in r]) for r in (rows, whole))
        assert got == pytest.approx(expected, abs=1e-6)


def test_images_are_read_ahead_only_as_far_as_the_bytes_allow() -> None:
    content = grey(1)
    taken = []

    def source():
        for batch in transported([content] * 50, 1):
            taken.append(batch)
            yield batch

    score = image_signals_udf(
        [Level()], max_pixels=LIMIT, batch_size=4, prefetch_bytes=3 * len(content)
    )
    next(score(source()))
    assert len(taken) == 4 + 3
    for decoders, expected in [(1, 5 + 2 * 5), (3, 5 + 3 * 2 * 5)]:  # none waits for the network
        taken.clear()
        score = image_signals_udf([Level()], max_pixels=LIMIT, batch_size=5, decoders=decoders)
        next(score(source()))
        assert len(taken) == expected + 5


def test_an_abandoned_run_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    run = image_signals_udf([Level()], max_pixels=LIMIT, batch_size=1)(
        transported([grey(1)] * 9, 1)
    )
    next(run)
    run.close()
    assert threading.active_count() == before


def test_a_source_that_breaks_is_not_hidden() -> None:
    def source():
        yield from transported([grey(1)], 1)
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError):
        list(image_signals_udf([Level()], max_pixels=LIMIT)(source()))


def test_the_signal_set_follows_signals_and_decoder(monkeypatch) -> None:
    first = signal_set([PHash(), Sharpness()])
    assert first == signal_set([Sharpness(), PHash()])
    assert first != signal_set([PHash()])
    monkeypatch.setattr("udfs.image_codec.VERSION", "image_codec/next")
    assert first != signal_set([PHash(), Sharpness()])


def test_a_column_that_the_table_lacks_is_refused() -> None:
    class Unknown(Level):
        columns = ("beauty",)

    with pytest.raises(ValueError, match="beauty"):
        image_signals_udf([Unknown()], max_pixels=1)


def test_columns_have_the_types_of_the_table() -> None:
    score = image_signals_udf([Level(), PHash()], max_pixels=LIMIT)
    (batch,) = score(transported([grey(1), b""], 2))
    types = {field.name: field.type for field in batch.schema}
    assert types["phash"] == pa.int64()
    assert types["sharpness"] == pa.float32()
    assert types["clip_embedding"] == pa.binary()
    assert np.issubdtype(types["width_px"].to_pandas_dtype(), np.int32)


def test_a_task_of_more_cores_decodes_more_at_a_time(monkeypatch) -> None:
    taken = []

    def source():
        for batch in transported([grey(1)] * 60, 1):
            taken.append(batch)
            yield batch

    monkeypatch.setattr(TaskContext, "get", lambda: SimpleNamespace(cpus=lambda: 4))
    next(image_signals_udf([Level()], max_pixels=LIMIT, batch_size=5)(source()))
    assert len(taken) == 5 + 4 * 2 * 5 + 5
