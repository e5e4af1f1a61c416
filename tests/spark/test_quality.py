"""The figures of a suite are right on real frames, damage included."""

from datetime import UTC, datetime

import pytest
from pyspark.sql.types import StructField, StructType

from jobs.runtime import quality
from jobs.runtime.config import Quality
from schemas import gold, gold_clips, samples

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLE = {
    "sample_id": "a",
    "ingest_ordinal": 0,
    "dump": "d",
    "shard": "s",
    "sample_key": "k",
    "occurrence": 0,
    "member": "k.jpg",
    "shard_offset_bytes": 512,
    "size_bytes": 100,
    "modality": "image_text",
    "caption": "a red circle",
    "text_sha256": "t",
    "mime": "image/jpeg",
    "is_extension_mismatch": False,
    "media_sha256": "m",
    "header_width_px": 8,
    "header_height_px": 8,
    "ingested_at": NOW,
    "batch": "b",
    "run_id": "r",
}
GOLD = {
    "sample_id": "a",
    "ingest_ordinal": 0,
    "dump": "d",
    "shard": "s",
    "sample_key": "k",
    "caption": "a red circle",
    "language": "en",
    "media_sha256": "m",
    "mime": "image/jpeg",
    "width_px": 8,
    "height_px": 8,
    "clip_score": 0.3,
    "nsfw_score": 0.1,
    "signal_set": "s",
    "recipe_version": "v",
    "published_at": NOW,
    "run_id": "r",
}
NULLABLE = StructType([StructField(f.name, f.dataType) for f in gold.SCHEMA.fields])


CLIP = {
    **{name: GOLD[name] for name in ("media_sha256", "caption", "width_px", "height_px")},
    "video_sample_id": "v",
    "captions": [],
    "start_ms": 0,
    "end_ms": 1000,
    "start_frame": 0,
    "end_frame": 25,
    "nsfw_score_max": 0.1,
    "motion_score": 0.0,
}
NULLABLE_CLIP = StructType([StructField(f.name, f.dataType) for f in gold_clips.SCHEMA.fields])


def failed(verdict):
    return {result.expectation for result in verdict.results if not result.is_met}


@pytest.fixture
def judge_gold(spark, tmp_path):
    def judge(*changes, share=0.0, **bounds):
        rows = [{**GOLD, "sample_id": str(number), **row} for number, row in enumerate(changes)]
        frame = spark.createDataFrame(rows, NULLABLE)
        return quality.validate_gold(
            frame,
            "gold.test",
            share_quarantined=share,
            quality=Quality(**bounds),
            docs=tmp_path,
        )

    return judge


@pytest.fixture
def judge_samples(spark, tmp_path):
    def judge(*changes, share=0.0):
        rows = [{**SAMPLE, "sample_id": str(number), **row} for number, row in enumerate(changes)]
        frame = spark.createDataFrame(rows, samples.SCHEMA)
        return quality.validate_samples(
            frame, share_quarantined=share, quality=Quality(), docs=tmp_path
        )

    return judge


def test_good_gold_passes_without_a_warning(judge_gold):
    verdict = judge_gold({}, {"nsfw_score": 0.0, "clip_score": 1.0})
    assert verdict.is_passed
    assert failed(verdict) == set()


@pytest.mark.parametrize(
    ("change", "expectation"),
    [
        ({"sample_id": "0"}, "sample_id is unique"),
        ({"caption": None}, "caption is never missing"),
        ({"media_sha256": None}, "media_sha256 is never missing"),
        ({"width_px": None}, "width_px is never missing"),
        ({"height_px": None}, "height_px is never missing"),
        ({"nsfw_score": None}, "nsfw_score is never missing"),
        ({"nsfw_score": float("nan")}, "nsfw_score is never missing"),
        ({"clip_score": None}, "clip_score is never missing"),
        ({"nsfw_score": 1.5}, "nsfw_score is not above its range"),
        ({"nsfw_score": -0.5}, "nsfw_score is not below its range"),
        ({"clip_score": 1.5}, "clip_score is not above its range"),
        ({"clip_score": -1.5}, "clip_score is not below its range"),
    ],
)
def test_one_damaged_row_of_gold_fails_the_gate(judge_gold, change, expectation):
    verdict = judge_gold({}, {}, {}, change)
    assert not verdict.is_passed
    assert {failure.expectation for failure in verdict.failures} == {expectation}


def test_a_nan_does_not_hide_a_score_out_of_range(judge_gold):
    verdict = judge_gold({"nsfw_score": float("nan")}, {"nsfw_score": 1.5})
    assert "nsfw_score is not above its range" in failed(verdict)


def test_a_caption_that_says_nan_is_a_caption(judge_gold):
    assert judge_gold({"caption": "NaN"}).is_passed


def test_empty_gold_fails_unless_it_is_allowed(judge_gold):
    assert failed(judge_gold()) == {"there are enough rows"}
    assert judge_gold(min_rows=0).is_passed


def test_too_much_quarantine_fails_the_gate(judge_gold):
    assert judge_gold({}, share=0.25, max_quarantined_share=0.25).is_passed
    assert not judge_gold({}, share=0.26, max_quarantined_share=0.25).is_passed


@pytest.mark.parametrize(
    ("samples", "quarantined", "share"),
    [
        (3, ["ingest"], 0.25),
        (3, ["fetch"], 0.25),
        (4, ["pair"], 0.25),
        (3, ["ingest", "pair"], 0.5),
        (0, ["ingest"], 1.0),
        (0, [], 0.0),
    ],
)
def test_the_quarantined_share_counts_a_quarantined_sample_once(spark, samples, quarantined, share):
    bad = spark.createDataFrame([(stage,) for stage in quarantined], "stage string")
    assert quality.quarantined_share(spark.range(samples), bad) == share


def test_good_samples_pass_without_a_warning(judge_samples):
    assert failed(judge_samples({}, {})) == set()


@pytest.mark.parametrize(
    ("change", "expectation", "is_passed"),
    [
        ({"sample_id": "0"}, "sample_id is unique", False),
        ({"caption": "  "}, "few captions are empty", True),
        ({"size_bytes": 0}, "every media has bytes", True),
        (
            {"is_extension_mismatch": True},
            "few extensions name another type than the bytes do",
            True,
        ),
    ],
)
def test_damaged_samples_are_found(judge_samples, change, expectation, is_passed):
    verdict = judge_samples({}, change)
    assert verdict.is_passed is is_passed
    assert failed(verdict) == {expectation}


def test_much_quarantine_in_bronze_is_a_warning_only(judge_samples):
    verdict = judge_samples({}, share=0.9)
    assert verdict.is_passed
    assert failed(verdict) == {"little of the input is quarantined"}


@pytest.fixture
def judge_clips(spark, tmp_path):
    def judge(*changes):
        rows = [
            {**CLIP, "sample_id": f"s{number}", "clip_id": f"c{number}", **row}
            for number, row in enumerate(changes)
        ]
        return quality.validate_gold_clips(
            spark.createDataFrame(rows, NULLABLE_CLIP),
            "gold.clips_test",
            share_quarantined=0.0,
            quality=Quality(),
            docs=tmp_path,
        )

    return judge


def test_good_clips_pass_with_a_text_or_without(judge_clips):
    # A clip may be delivered by two samples.
    verdict = judge_clips({}, {"clip_score": 0.3}, {"clip_id": "c0", "video_sample_id": "w"})
    assert verdict.is_passed
    assert failed(verdict) == set()


def test_each_damage_to_clips_fails_the_gate(judge_clips):
    damaged = {
        "sample_id is unique": {"sample_id": "s0"},
        "each clip of a sample is there once": {"clip_id": "c0"},
        "clip_id is never missing": {"clip_id": None},
        "video_sample_id is never missing": {"video_sample_id": None},
        "media_sha256 is never missing": {"media_sha256": None},
        "caption is never missing": {"caption": None},
        "captions is never missing": {"captions": None},
        "width_px is never missing": {"width_px": None},
        "height_px is never missing": {"height_px": None},
        "every clip has a length": {"end_ms": 0},
        "every clip has frames": {"end_frame": 0},
        "nsfw_score_max is never missing": {"nsfw_score_max": float("nan")},
        "nsfw_score_max is not above its range": {"nsfw_score_max": 1.5},
        "nsfw_score_max is not below its range": {"nsfw_score_max": -0.5},
        "clip_score is not above its range": {"clip_score": 1.5},
        "clip_score is not below its range": {"clip_score": -1.5},
        "no clip moves less than not at all": {"motion_score": -1.0},
    }
    verdict = judge_clips({}, *damaged.values())
    assert {result.expectation for result in verdict.failures} == damaged.keys()
