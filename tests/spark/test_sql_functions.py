"""What SQL's functions say of an image or a text is what the stages write."""

import io

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import score_images, score_text
from jobs.demo.photographs import PHOTOGRAPHS
from jobs.runtime import models, sql_functions
from jobs.runtime.config import Config, Dump
from jobs.runtime.models import Scoring
from schemas import image_signals
from tests.plain_signals import NEW, side
from udfs.signal_function import signal_function

CAPTIONS = ["a red circle on blue", "Ein Hund läuft über die Wiese", "", None, "12 34"]


@pytest.fixture(scope="module")
def scoring(spark: SparkSession) -> Scoring:
    found = models.scoring(
        Config(warehouse="unused", dumps=(Dump(name="d", path="unused"),)), spark
    )
    sql_functions.register(spark, found)
    return found


@pytest.fixture(scope="module")
def images(spark: SparkSession) -> None:
    contents = [photograph.content() for photograph in PHOTOGRAPHS]
    rows = [(f"{n:02d}", bytearray(content)) for n, content in enumerate(contents)]
    rows += [("bad", bytearray(contents[0][:100])), ("none", None)]
    nowhere = "size_bytes bigint, root string, path string, offset_bytes bigint"
    frame = spark.createDataFrame(
        [(*row, None, None, None, None) for row in rows],
        f"media_sha256 string, content binary, {nowhere}",
    )
    frame.repartition(2).createOrReplaceTempView("images")


@pytest.mark.usefixtures("images")
def test_functions_of_images_equal_the_stage(spark: SparkSession, scoring: Scoring) -> None:
    said = spark.sql(
        "SELECT media_sha256, phash(content) phash, sharpness(content) sharpness,"
        " nsfw(content) nsfw_score, embed_image(content) clip_embedding,"
        " exposure(content).dark_fraction dark_fraction,"
        " borders(content).content_box content_box,"
        " colours(content).dominant_colours dominant_colours FROM images"
    )
    stage = score_images.transform(spark.table("images"), scoring.images.operator)
    stage = stage.select(*said.columns)

    assert sorted(said.collect()) == sorted(stage.collect())
    assert said.where("media_sha256 IN ('bad', 'none') AND phash IS NULL").count() == 2


def test_functions_of_texts_equal_the_stage(spark: SparkSession, scoring: Scoring) -> None:
    rows = [(str(n), text) for n, text in enumerate(CAPTIONS)]
    texts = spark.createDataFrame(rows, "text_sha256 string, caption string")
    texts.createOrReplaceTempView("texts")
    said = spark.sql(
        "SELECT text_sha256, language(caption).language, metrics(caption).words,"
        " embed_text(caption) clip_embedding FROM texts"
    )
    stage = score_text.transform(texts, scoring.texts.operator)
    stage = stage.select("text_sha256", "language", "words", "clip_embedding")
    found = {row.text_sha256: row for row in said.collect()}

    assert {key: row for key, row in found.items() if key != "3"} == {
        row.text_sha256: row for row in stage.collect() if row.text_sha256 != "3"
    }
    assert set(found["3"][1:]) == {None}


@pytest.mark.usefixtures("images", "scoring")
def test_clip_score_is_the_cosine_of_both_embeddings(spark: SparkSession) -> None:
    both = spark.sql(
        "SELECT clip_score(content, 'a cat') AS said,"
        " cosine(embed_image(content), embed_text('a cat')) AS cosine FROM images"
    ).collect()

    assert [row.said for row in both] == [row.cosine for row in both]
    assert sum(row.said is not None for row in both) == len(PHOTOGRAPHS)


def test_a_derived_signal_needs_no_embedding_of_the_callers(spark: SparkSession) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), (255, 0, 0), np.uint8)).save(file, "PNG")
    redness = signal_function(
        sql_functions.operator(side(NEW), "redness"),
        ["nsfw_score"],
        value="content",
        signals=image_signals.SIGNALS,
    )
    (row,) = spark.range(1).select(redness(F.lit(file.getvalue())).alias("redness")).collect()

    assert row.redness == pytest.approx(1, abs=0.01)
