"""Media go from a worker's file into the table: each content once, whatever was there before."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.runtime.staging import FOLDER, MediaFile, Staging, append_media
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse
from schemas import media
from tests import small_spark

SKIPPING = "spark.databricks.delta.stats.skipping"
Told = list[tuple[str, str]]


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    made = Warehouse(spark, str(tmp_path / "warehouse"))
    made.create(media.TABLE)
    return made


def batch(warehouse: Warehouse, number: int) -> Batch:
    return Batch(
        warehouse=warehouse,
        stage="ingest",
        checkpoint="shards",
        generation="g" * 32,
        batch_id=number,
        run_id="r",
        frame=warehouse.spark.range(1),
    )


def staged(of: Batch, *files: Iterable[bytes]) -> DataFrame:
    """What workers hand on that have written these contents, a file each."""
    told: Told = []
    for contents in files:
        file = MediaFile(Staging.of(of))
        for content in contents:
            key = hashlib.sha256(content).hexdigest()
            row = {"media_sha256": key, "md5": "m", "sha1": "s", "content": content}
            row |= {"size_bytes": len(content), "mime": "image/png"}
            row |= {"header_width_px": 1, "header_height_px": 1}
            told.append((key, file.put(row)))
        file.close()
    return of.warehouse.spark.createDataFrame(told, "media_sha256 string, media_file string")


def stored(warehouse: Warehouse) -> list[tuple[str, bytes]]:
    rows = warehouse.read(media.TABLE).select("batch", "content").collect()
    return sorted((row.batch[:8], bytes(row.content)) for row in rows)


def test_a_content_is_stored_once_however_often_it_comes(warehouse: Warehouse) -> None:
    first, second = batch(warehouse, 0), batch(warehouse, 1)
    append_media(first, staged(first, [b"a", b"b", b"a"], [b"b", b"c"], [b"c"]))
    append_media(second, staged(second, [b"a", b"d"], [b"b"], [b"e"]))

    assert stored(warehouse) == [
        ("00000000", b"a"),
        ("00000000", b"b"),
        ("00000000", b"c"),
        ("00000001", b"d"),
        ("00000001", b"e"),
    ]


def test_a_batch_that_comes_again_finds_its_media_there(warehouse: Warehouse) -> None:
    for _ in range(2):
        again = batch(warehouse, 0)
        append_media(again, staged(again, [b"a"], [b"b"]))
        assert stored(warehouse) == [("00000000", b"a"), ("00000000", b"b")]
    assert warehouse.version(media.TABLE) == 1


def test_a_batch_that_was_killed_ahead_of_its_commit_goes_on(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = batch(warehouse, 0)
    narrow = staged(killed, [b"a"], [b"b", b"c"]).localCheckpoint()
    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, "append_files", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            append_media(killed, narrow)
    assert list(Path(killed.staging(), FOLDER).iterdir()) == []  # all have moved
    append_media(batch(warehouse, 0), narrow)

    assert [content for _, content in stored(warehouse)] == [b"a", b"b", b"c"]


def test_a_file_that_is_nowhere_is_an_error_and_no_commit(warehouse: Warehouse) -> None:
    lost = batch(warehouse, 0)
    narrow = staged(lost, [b"a"]).localCheckpoint()
    for file in Path(lost.staging(), FOLDER).iterdir():
        file.unlink()

    with pytest.raises(FileNotFoundError):
        append_media(lost, narrow)
    assert warehouse.version(media.TABLE) == 0


def test_the_name_of_a_batch_leads_to_its_files_alone(warehouse: Warehouse) -> None:
    for number, content in enumerate((b"a", b"b", b"c")):
        each = batch(warehouse, number)
        append_media(each, staged(each, [content]))
    (history, *_) = (
        warehouse.spark.sql(f"DESCRIBE HISTORY delta.`{warehouse.path(media.TABLE)}`")
        .orderBy(F.desc("version"))
        .collect()
    )
    first, _, last = (
        warehouse.read(media.TABLE).select("_metadata.file_path").orderBy("batch").collect()
    )
    for row in (first, last):
        Path(row.file_path.removeprefix("file:")).rename(warehouse.root + "/aside")
    second = f"{1:08d}.{each.name.partition('.')[2]}"

    # What the statistics of a commit rule out is not opened; the tests' session looks at none.
    warehouse.spark.conf.set(SKIPPING, "true")
    asked = warehouse.read(media.TABLE).where(F.col("batch") == second)
    assert [bytes(row.content) for row in asked.collect()] == [b"b"]
    warehouse.spark.conf.set(SKIPPING, small_spark.CONF[SKIPPING])
    assert (history.operation, history.isBlindAppend) == ("WRITE", True)
    assert each.name in history.userMetadata
