from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs import dedup
from schemas import duplicates
from udfs.phash import hamming, to_hex

SAMPLES = "sample_id string, ingest_ordinal long, media_sha256 string, text_sha256 string"


def verdicts(
    spark: SparkSession,
    rows: list[tuple[str, int, str, str]],
    hashes: dict[str, int],
    history: DataFrame | None = None,
) -> dict[tuple[str, str], dict[str, Any]]:
    found = frame(spark, rows, hashes, history)
    return {(row.kind, row.sample_id): row.asDict() for row in found.collect()}


def frame(
    spark: SparkSession,
    rows: list[tuple[str, int, str, str]],
    hashes: dict[str, int],
    history: DataFrame | None = None,
) -> DataFrame:
    return dedup.transform(
        spark.createDataFrame(rows, SAMPLES),
        spark.createDataFrame(list(hashes.items()), "media_sha256 string, phash long"),
        spark.createDataFrame([], duplicates.SCHEMA) if history is None else history,
    )


def far_apart(count: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(value) for value in rng.integers(-(2**63), 2**63, count)]


def flipped(value: int, *bits: int) -> int:
    for bit in bits:
        value ^= 1 << int(bit)
    return (value + 2**63) % 2**64 - 2**63


def test_equal_bytes_and_equal_pairs_are_told_apart(spark: SparkSession) -> None:
    rows = [("a", 0, "m", "t"), ("b", 1, "m", "t"), ("c", 2, "m", "u"), ("d", 3, "n", "t")]
    found = verdicts(spark, rows, dict(zip("mn", far_apart(2, 0), strict=True)))

    def duplicate_of(kind: str) -> dict[str, str]:
        return {
            sample: found[kind, sample]["representative_id"]
            for sample in "abcd"
            if found[kind, sample]["is_duplicate"]
        }

    assert duplicate_of("exact_pair") == {"b": "a"}
    assert duplicate_of("exact_media") == {"b": "a", "c": "a"}
    assert duplicate_of("phash") == {}
    assert len(found) == 3 * 4


@pytest.mark.parametrize("at_once", [True, False])
def test_perceptual_verdicts_equal_brute_force_whatever_the_batches(
    spark: SparkSession, at_once: bool
) -> None:
    rng = np.random.default_rng(1)
    base = far_apart(12, 2)
    values = [
        flipped(base[i % 12], *rng.choice(64, size=int(rng.integers(0, 6)), replace=False))
        for i in range(72)
    ]
    values += [-1, 0, flipped(-1, 63, 0, 31), flipped(0, 63)]
    rows = [(f"s{i:02d}", i, f"m{i:02d}", f"t{i}") for i in range(len(values))]
    hashes = {f"m{i:02d}": value for i, value in enumerate(values)}
    if at_once:
        found = verdicts(spark, rows, hashes)
    else:
        first = frame(spark, rows[:40], hashes).localCheckpoint()
        found = {(r.kind, r.sample_id): r.asDict() for r in first.collect()}
        found |= verdicts(spark, rows[40:], hashes, first)

    for i, value in enumerate(values):
        verdict = found["phash", f"s{i:02d}"]
        near = [
            j
            for j in range(i)
            if hamming(np.array([value]), np.array([values[j]]))[0] <= dedup.RADIUS
        ]
        assert verdict["is_duplicate"] == bool(near), i
        assert verdict["representative_id"] == (f"s{near[0]:02d}" if near else f"s{i:02d}")
        assert verdict["fingerprint"] == to_hex(value)
        if near:
            distance = hamming(np.array([value]), np.array([values[near[0]]]))[0]
            assert verdict["similarity"] == pytest.approx(1 - distance / 64)


def test_a_chain_ends_in_one_cluster(spark: SparkSession) -> None:
    (value,) = far_apart(1, 3)
    steps = [flipped(value, *range(3 * i)) for i in range(4)]
    rows = [(f"s{i}", i, f"m{i}", f"t{i}") for i in range(4)]
    found = verdicts(spark, rows, {f"m{i}": step for i, step in enumerate(steps)})

    assert [found["phash", f"s{i}"]["representative_id"] for i in range(4)] == [
        "s0",
        "s0",
        "s1",
        "s2",
    ]
    assert {found["phash", f"s{i}"]["cluster_id"] for i in range(4)} == {"s0"}


def test_samples_of_one_image_share_its_perceptual_verdict(spark: SparkSession) -> None:
    (value,) = far_apart(1, 4)
    rows = [("a", 0, "m", "t"), ("b", 1, "n", "u"), ("c", 2, "n", "v")]
    first = frame(spark, rows, {"m": value, "n": flipped(value, 5)}).localCheckpoint()
    found = {(r.kind, r.sample_id): r for r in first.collect()}
    later = verdicts(spark, [("d", 9, "n", "w")], {"n": flipped(value, 5)}, first)

    assert [found["phash", s].is_duplicate for s in "abc"] == [False, True, True]
    assert later["phash", "d"]["is_duplicate"]
    assert later["phash", "d"]["representative_id"] == "a"
