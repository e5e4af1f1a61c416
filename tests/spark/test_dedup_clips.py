"""Duplicates among clips; how two clips are compared is in tests/unit/test_clip_hashes.py."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs.dedup import clips, video
from jobs.runtime import streams
from jobs.runtime.config import Dedup
from jobs.runtime.errors import ConfigError
from jobs.runtime.table_scan import Streamed
from jobs.runtime.tables import Warehouse
from schemas import clip_index, clip_pairs, clip_runs, duplicate_edges, duplicates, exact_index
from tests.clip_warehouse import FPS, Clip, ClipWarehouse, video_links
from tests.dedup_warehouse import duplicates_of, elders
from tests.rendered_clips import copies, encoded, plain, rendered, sampled, titled
from udfs.clip_hashes import ClipHashes, clip_hashes
from udfs.clip_match import LEAST_SIMILARITY

WRITTEN = (
    duplicates.TABLE,
    duplicate_edges.TABLE,
    exact_index.TABLE,
    clip_index.TABLE,
    clip_runs.TABLE,
)


def made_of(hashes: np.ndarray, frames: int = 1) -> ClipHashes:
    """A clip each of whose frames tells all it can."""
    count = len(hashes)
    return ClipHashes(hashes, np.full(count, 64, np.uint8), np.full(count, frames, np.int32))


def random_frames(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(-(2**63), 2**63, count)


def re_encoded(rng: np.random.Generator, hashes: np.ndarray, bits: int) -> np.ndarray:
    flips = rng.random((len(hashes), 64)).argsort(axis=1)[:, :bits].astype(np.uint64)
    return hashes ^ (np.uint64(1) << flips).sum(axis=1, dtype=np.uint64).view(np.int64)


def versions(tables: ClipWarehouse) -> dict[str, int]:
    return {table: tables.warehouse.version(table) for table in WRITTEN}


def test_copies_of_every_kind_are_found_and_nothing_else(
    spark: SparkSession, tmp_path: Path
) -> None:
    files = [encoded(rendered(seed, 5)) for seed in (0, 1, 2)]
    files += [encoded(titled(50)), encoded(titled(51)), encoded(plain(0, 2)), encoded(plain(1, 2))]
    first = [
        Clip(ordinal=n, content=f"original {n}", hashes=clip_hashes(sampled(file)))
        for n, file in enumerate(files)
    ]
    later = [
        Clip(ordinal=100 + 10 * n + m, content=f"{kind} of {n}", hashes=clip_hashes(sampled(copy)))
        for n in (0, 1)
        for m, (kind, copy) in enumerate(copies(files[n], n).items())
    ]
    # Nothing was ever measured of these two; and one more is black.
    silent = [Clip(ordinal=200 + n, content=f"silent {n}", hashes=None) for n in range(2)]
    black = Clip(ordinal=202, content="black", hashes=clip_hashes(sampled(encoded(plain(2, 2)))))
    tables = ClipWarehouse(spark, tmp_path / "w")
    tables.arrive(*first)
    entered = tables.arrive(*later, *silent, black)

    assert (entered.rows_in, entered.rows_kept, entered.rows_reused) == (17, 17, 0)
    found = tables.verdicts()
    assert {kind: len(of_kind) for kind, of_kind in found.items()} == {
        "exact_clip": 24,
        "video": 24,
    }
    assert duplicates_of(found["exact_clip"]) == {}
    assert duplicates_of(found["video"]) == {
        clip.sample_id: f"c0000{clip.ordinal // 10 % 10}" for clip in later
    }
    assert all(row["similarity"] >= LEAST_SIMILARITY for row in found["video"].values())
    assert all(row["ingest_ordinal"] >= clip_pairs.FIRST_ORDINAL for row in found["video"].values())

    with pytest.raises(ConfigError, match=r"video\.sample_fps 4\.0; silver\.clip_index was built"):
        tables.search([black], sample_fps=4.0)
    tables.settings = Dedup.model_validate({"video": {"threshold": 0.7}})
    with pytest.raises(ConfigError, match=r"video\.threshold 0\.7; silver\.clip_index was built"):
        tables.search([black])


def test_the_same_clip_under_two_samples_and_two_signal_sets(
    spark: SparkSession, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    frames = random_frames(rng, 10)
    whole, near = made_of(frames), made_of(re_encoded(rng, frames, 4))
    tables = ClipWarehouse(spark, tmp_path / "w")
    tables.arrive(
        Clip(ordinal=0, content="a", hashes=whole),
        Clip(ordinal=1, content="b", hashes=near),
        Clip(ordinal=2, content="a", hashes=whole),
    )
    before = tables.warehouse.version(clip_index.TABLE)
    # Measured anew, an old clip has two rows by which it is named.
    again = Clip(ordinal=1, content="b", hashes=near, signal_set="other")
    tables.put([again])
    late = Clip(ordinal=3, content="b", hashes=near)
    tables.arrive(late)

    found = tables.verdicts()
    assert duplicates_of(found["exact_clip"]) == {"c00002": "c00000", "c00003": "c00001"}
    assert duplicates_of(found["video"]) == {"c00001": "c00000", "c00003": "c00000"}
    assert found["video"]["c00002"]["cluster_id"] == "c00000"
    # Copies alone bring nothing to compare.
    assert tables.warehouse.version(clip_index.TABLE) == before

    stood = versions(tables)
    entered = tables.search([again, late])
    assert (entered.rows_in, entered.rows_kept, entered.rows_reused) == (2, 2, 2)
    assert versions(tables) == stood


@pytest.mark.parametrize("sizes", [(42,), (5, 21, 16)])
def test_verdicts_equal_brute_force_whatever_the_batches(
    spark: SparkSession, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(2)
    ident = random_frames(rng, 1)
    sources = [random_frames(rng, 12) for _ in range(8)]
    delivered = []
    for ordinal in range(42):
        frames = sources[int(rng.integers(0, 8))]
        start = int(rng.integers(0, 6))
        frames = frames[start : start + int(rng.integers(6, 13))]
        frames = re_encoded(rng, frames, int(rng.integers(0, 6)))
        if ordinal % 3 == 0:
            frames = np.concatenate([ident, frames])
        delivered.append(Clip(ordinal=ordinal, content=f"v{ordinal}", hashes=made_of(frames)))
    tables = ClipWarehouse(spark, tmp_path / "w")
    start = 0
    for size in sizes:
        tables.arrive(*delivered[start : start + size])
        start += size

    names = [clip.sample_id for clip in delivered]
    links = video_links(delivered)
    expected = elders(names, links, {name: (0.0, n) for n, name in enumerate(names)})
    assert 10 < sum(told[0] for told in expected.values()) < 40
    found = tables.verdicts()["video"]
    assert {
        name: (
            row["is_duplicate"],
            row["representative_id"],
            pytest.approx(row["similarity"]),
            row["cluster_id"],
        )
        for name, row in found.items()
    } == {name: (*told[:3], min(told[3])) for name, told in expected.items()}


def test_a_bridge_revises_and_a_killed_batch_adds_nothing(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = random_frames(np.random.default_rng(3), 10)
    tables = ClipWarehouse(spark, tmp_path / "w")
    tables.arrive(
        Clip(ordinal=0, content="beginning", hashes=made_of(frames[:6])),
        Clip(ordinal=1, content="end", hashes=made_of(frames[5:])),
    )
    assert duplicates_of(tables.verdicts()["video"]) == {}

    whole = Clip(ordinal=2, content="whole", hashes=made_of(frames))
    tables.put([whole])
    append = streams.Batch.append

    def killed(self: streams.Batch, frame: Any, table: str, **options: Any) -> None:
        if table == duplicates.TABLE:
            raise KeyboardInterrupt
        append(self, frame, table, **options)

    monkeypatch.setattr(streams.Batch, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        tables.search([whole])
    monkeypatch.undo()
    stood = versions(tables)
    tables.search([whole])

    found = tables.verdicts()["video"]
    assert duplicates_of(found) == {"c00001": "c00000", "c00002": "c00000"}
    assert {name: row["revision"] for name, row in found.items()} == {
        "c00000": 0,
        "c00001": 1,
        "c00002": 0,
    }
    assert versions(tables) == stood | {duplicates.TABLE: stood[duplicates.TABLE] + 1}
    assert tables.warehouse.read(clip_runs.TABLE).count() == 3
    assert tables.warehouse.read(clip_index.TABLE).count() == 6 + 5 + 10
    assert tables.warehouse.read(duplicate_edges.TABLE).count() == 2


def test_the_stage_costs_nothing_where_there_is_no_clip(
    spark: SparkSession, tmp_path: Path
) -> None:
    warehouse = Warehouse(spark, str(tmp_path / "w"))
    stage = clips.stage(Dedup(), FPS)
    assert streams.run(warehouse, stage, run_id="run") == 0
    assert not (tmp_path / "w").exists()

    tables = ClipWarehouse(spark, tmp_path / "w")
    tables.put([Clip(ordinal=0, content="a", hashes=made_of(np.array([5])))])
    assert streams.run(warehouse, stage, run_id="run") == 1
    assert set(tables.verdicts()) == {"exact_clip", "video"}
    stood = versions(tables)
    assert streams.run(warehouse, stage, run_id="run") == 0
    assert versions(tables) == stood


def test_a_frame_that_very_many_clips_show_is_bounded(
    spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(4)
    ident = random_frames(rng, 1)
    history = [np.concatenate([ident, random_frames(rng, 3)]) for _ in range(30)]
    fresh = [re_encoded(rng, history[7], 3)] + [
        np.concatenate([re_encoded(rng, ident, 2), random_frames(rng, 3)]) for _ in range(20)
    ]
    rows = [
        [(int(value), first + n) for n, values in enumerate(part) for value in values]
        for first, part in ((0, history), (100, fresh))
    ]
    index, mine = (spark.createDataFrame(part, "phash long, node long") for part in rows)
    with caplog.at_level(logging.INFO, logger="sluice"):
        pairs = video.candidates(mine, Streamed.of(index), most=4).collect()

    found = {(row.a, row.b) for row in pairs}
    assert len(found) == len(pairs) <= 21 * 4
    assert (7, 100) in found
    assert all(a < b and b >= 100 for a, b in found)
    assert "look like those of more than 4 clips" in caplog.text
