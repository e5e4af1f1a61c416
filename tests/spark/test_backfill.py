"""A set of signals takes over what an earlier set has computed by the same version."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.resource import ResourceProfile
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs import cycle, score_images
from jobs.runtime import streams
from jobs.runtime.config import Config, Dump
from jobs.runtime.errors import ConfigError
from jobs.runtime.models import Operator, Side
from jobs.runtime.tables import Warehouse, conform
from jobs.scoring import scored
from schemas import batches, image_signals, media, quarantine, signal_sets
from tests.plain_signals import NEW, OLD, MeanColour, Redness, side
from udfs.sharpness import Sharpness

IMAGES = 24
BROKEN = 5


def score(images: DataFrame, operator: Operator, asks: ResourceProfile | None) -> DataFrame:
    return score_images.transform(images, operator, asks)


def never(_: DataFrame, __: Operator, ___: ResourceProfile | None) -> DataFrame:
    raise AssertionError("bytes were asked for")


@pytest.fixture(scope="module")
def images(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for number in range(IMAGES):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 12, 3), np.uint8)).save(file, "PNG")
        content = file.getvalue()[: 40 if number == BROKEN else None]
        rows.append((f"{number:02d}", bytearray(content), len(content), None, None, None))
    types = "media_sha256 string, content binary, size_bytes bigint, root string, path string"
    return spark.createDataFrame(rows, f"{types}, offset_bytes bigint").repartition(2).cache()


def rows_of(of: Side, images: DataFrame, *earlier: DataFrame, **asked: Any) -> DataFrame:
    """Score as the stage does, after earlier sets' rows."""
    shared = asked.pop("shared", {})
    empty = images.sparkSession.createDataFrame([], image_signals.SCHEMA)
    stored = empty
    for rows in earlier:
        stored = stored.unionByName(rows, allowMissingColumns=True)
    scored_ = scored(of, images, stored, shared, asked.pop("by", score))
    return scored_.withColumns(of.stamp()).localCheckpoint()


def told(rows: DataFrame) -> dict[str, Row]:
    kept = rows.select(*image_signals.SIGNALS.names).collect()
    return {row.media_sha256: row for row in kept}


@pytest.fixture(scope="module")
def old(images: DataFrame) -> DataFrame:
    return rows_of(side(OLD), images)


@pytest.fixture(scope="module")
def new(images: DataFrame) -> DataFrame:
    return rows_of(side(NEW), images)


def test_a_set_without_predecessors_computes_all(new: DataFrame) -> None:
    found = told(new)

    assert len(found) == IMAGES
    assert found[f"{BROKEN:02d}"].status == "truncated_image"
    assert {row.status for key, row in found.items() if key != f"{BROKEN:02d}"} == {"ok"}
    assert all(row.nsfw_score is not None for row in found.values() if row.status == "ok")
    assert {tuple(row.computed) for row in new.collect()} == {tuple(NEW)}


def test_a_later_set_computes_what_is_new_and_ends_as_if_it_had_computed_all(
    images: DataFrame, old: DataFrame, new: DataFrame
) -> None:
    shared = {side(OLD).signal_set: ["clip", "phash"]}
    filled = rows_of(side(NEW), images, old, shared=shared)

    assert told(filled) == told(new)
    computed = {row.media_sha256: tuple(row.computed) for row in filled.collect()}
    # A refused image has no earlier values: it is looked at again, whole.
    assert computed.pop(f"{BROKEN:02d}") == tuple(NEW)
    assert set(computed.values()) == {("sharpness", "redness")}


def test_keys_are_filled_by_what_each_of_them_has(
    images: DataFrame, old: DataFrame, new: DataFrame
) -> None:
    sharp = side({"sharpness": Sharpness()})
    half = F.col("media_sha256") < "12"
    third = F.col("media_sha256") < "08"
    some = rows_of(sharp, images.where(third))
    shared = {side(OLD).signal_set: ["clip", "phash"], sharp.signal_set: ["sharpness"]}
    filled = rows_of(side(NEW), images, old.where(half), some, shared=shared)

    assert told(filled) == told(new)
    computed = {row.media_sha256: tuple(row.computed) for row in filled.collect()}
    for key, names in computed.items():
        if key == f"{BROKEN:02d}" or key >= "12":
            assert names == tuple(NEW)
        else:
            assert names == (("redness",) if key < "08" else ("sharpness", "redness"))


def test_what_is_derived_from_embeddings_needs_no_bytes(images: DataFrame, new: DataFrame) -> None:
    whole = new.where(F.col("status") == "ok")
    other = side({**NEW, "redness": Redness(version="redness/2")})
    shared = {side(NEW).signal_set: ["clip", "phash", "sharpness"]}
    todo = images.join(whole, "media_sha256", "left_semi")
    filled = rows_of(other, todo, whole, shared=shared, by=never)

    assert told(filled) == told(whole)
    assert {tuple(row.computed) for row in filled.collect()} == {("redness",)}
    assert {row.signal_set for row in filled.collect()} == {other.signal_set}


def test_a_set_of_what_others_have_runs_nothing(images: DataFrame, new: DataFrame) -> None:
    whole = new.where(F.col("status") == "ok")
    shared = {side(NEW).signal_set: ["clip", "phash"]}
    todo = images.join(whole, "media_sha256", "left_semi")
    filled = rows_of(side(OLD), todo, whole, shared=shared, by=never)

    known = told(new)
    assert {tuple(row.computed) for row in filled.collect()} == {()}
    for key, row in told(filled).items():
        assert (row.phash, row.clip_embedding) == (known[key].phash, known[key].clip_embedding)
        assert row.sharpness is None


def test_a_derived_signal_that_fails_refuses_its_row(images: DataFrame, new: DataFrame) -> None:
    whole = new.where(F.col("status") == "ok")
    bad = whole.withColumn(
        "clip_embedding",
        F.when(F.col("media_sha256") == "03", F.lit(bytes(6))).otherwise(F.col("clip_embedding")),
    )
    other = side({**NEW, "redness": Redness(version="redness/2")})
    shared = {side(NEW).signal_set: ["clip", "phash", "sharpness"]}
    todo = images.join(whole, "media_sha256", "left_semi")
    found = told(rows_of(other, todo, bad, shared=shared, by=never))

    assert found["03"].status == "corrupt_image"
    assert found["03"].phash is None
    assert {row.status for key, row in found.items() if key != "03"} == {"ok"}


def test_another_version_is_another_set() -> None:
    renewed = replace(side(OLD), signals={**OLD, "clip": MeanColour(version="mean_colour/2")})

    assert renewed.signal_set != side(OLD).signal_set
    assert renewed.version("phash") == side(OLD).version("phash")


def test_the_stage_takes_over_from_the_table_and_says_so_in_the_ledger(
    spark: SparkSession, images: DataFrame, tmp_path: Path
) -> None:
    warehouse = Warehouse(spark, str(tmp_path / "warehouse"))
    for module in (media, image_signals, signal_sets, quarantine, batches):
        warehouse.create(module.TABLE)
    nothing = {name: F.lit(None) for name in media.SCHEMA.names if name not in images.columns}
    given = {"mime": "image/png", "md5": "m", "sha1": "s", "batch": "b", "run_id": "r"}
    rows = images.withColumns(nothing | {name: F.lit(said) for name, said in given.items()})
    rows = rows.withColumns(
        {name: F.lit(1) for name in ("header_width_px", "header_height_px")}
    ).withColumn("ingested_at", F.current_timestamp())

    def arrive(which: Column) -> None:
        path = warehouse.path(media.TABLE)
        conform(rows.where(which), media.TABLE).write.format("delta").mode("append").save(path)

    def run(of: Side) -> Row:
        streams.run(warehouse, score_images.stage(of), run_id="r")
        ledger = warehouse.read(batches.TABLE).where(F.col("checkpoint") == of.signal_set)
        row: Row = ledger.orderBy(F.desc("batch_id")).first()
        return row

    arrive(F.col("media_sha256") < "12")
    run(side(OLD))
    arrive(F.col("media_sha256") >= "12")
    # Half of what it meets has the old set's values; of those nothing but what is new runs.
    ledger = run(side(NEW))

    assert (ledger.rows_in, ledger.rows_kept, ledger.rows_quarantined) == (IMAGES, IMAGES - 1, 1)
    assert ledger.rows_reused == 0
    computed = warehouse.read(image_signals.TABLE).where(
        F.col("signal_set") == side(NEW).signal_set
    )
    counts = {
        tuple(row.computed): row["count"] for row in computed.groupBy("computed").count().collect()
    }
    assert counts == {("sharpness", "redness"): 11, tuple(NEW): IMAGES - 11}
    # The images that are new to the old set come from the new one, without a look at them.
    assert run(side(OLD)).rows_reused == IMAGES - 12
    described = warehouse.read(signal_sets.TABLE).groupBy("signal_set").count().collect()
    assert {row.signal_set: row["count"] for row in described} == {
        side(OLD).signal_set: len(OLD),
        side(NEW).signal_set: len(NEW),
    }
    version = warehouse.version(image_signals.TABLE)
    streams.run(warehouse, score_images.stage(side(NEW)), run_id="r")
    assert warehouse.version(image_signals.TABLE) == version


def test_a_backfill_runs_the_named_signals_alone_and_needs_no_clip(
    spark: SparkSession, tmp_path: Path
) -> None:
    config = Config(
        warehouse=str(tmp_path / "w"), dumps=(Dump(name="d", path=str(tmp_path / "dump")),)
    )
    with pytest.raises(ConfigError, match="did you mean entropy"):
        cycle.backfill(config, spark, ["entropi"])
    planned = cycle.backfill(config, spark, ["entropy"])

    assert list(planned.scoring.images.signals) == ["entropy"]
    assert planned.recipe.name == "default"
