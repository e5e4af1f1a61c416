"""Crops: links of segments; the arithmetic is in tests/unit/test_crop_match.py."""

from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.dedup import crop
from jobs.runtime.config import CropSearch, Dedup
from jobs.runtime.errors import ConfigError
from jobs.runtime.streams import Batch
from jobs.runtime.table_scan import Streamed
from schemas import crop_index, crop_segments
from tests.dedup_warehouse import DedupWarehouse, Item, elders
from udfs.crop_match import similarity, telling
from udfs.phash import hamming

SETTINGS: Final = Dedup(kinds=("exact_media", "crop"))
LOGO: Final = 0x5A3CA5C35A3CA5C3
ROWS: Final = 60
Pair = tuple[int, int]


def flipped(rng: np.random.Generator, value: int, most: int) -> int:
    for bit in rng.choice(64, int(rng.integers(0, most + 1)), replace=False).tolist():
        value ^= 1 << bit
    return (value + 2**63) % 2**64 - 2**63


def pictures(rng: np.random.Generator) -> list[Item]:
    """Crops of a few pictures; a third show one logo, some have too few segments or none."""
    originals = rng.integers(-(2**63), 2**63, (10, 5)).tolist()
    made: list[tuple[int, ...] | None] = []
    for row in range(ROWS):
        left = rng.choice(5, int(rng.integers(1, 5)), replace=False)
        segments = originals[row % 10]
        kept = [flipped(rng, segments[n], 10) if rng.random() < 0.7 else segments[n] for n in left]
        made.append((*kept, *([LOGO] if rng.random() < 1 / 3 else []), 0))
    made[7], made[8], made[9] = None, (), (0, -1)
    return [Item(ordinal=n, media=f"m{n}", crop_hash=hashes) for n, hashes in enumerate(made)]


def links(items: list[Item], radius: int) -> list[tuple[str, str, float]]:
    """All pairs that share two segments, by brute force."""
    hashes = {item.sample_id: telling(item.crop_hash or ()) for item in items}
    return [
        (a, b, alike)
        for a, b in combinations(hashes, 2)
        if (alike := similarity(hashes[a], hashes[b])) >= 1 - radius / 64
    ]


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_verdicts_equal_brute_force_whatever_the_batches_and_kills(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shuffled: bool
) -> None:
    rng = np.random.default_rng(4)
    items = pictures(rng)
    arriving = [items[n] for n in rng.permutation(ROWS)] if is_shuffled else items
    parts = [arriving[:25], arriving[25:]]
    tables = DedupWarehouse(spark, tmp_path, SETTINGS)
    tables.arrive(*parts[0])
    tables.put(parts[1])
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "append", killed_before(crop_index.TABLE))
        with pytest.raises(KeyboardInterrupt):
            tables.search(parts[1], label="test")
    tables.search(parts[1], label="test")

    names = [item.sample_id for item in items]
    truth = links(items, SETTINGS.crop.radius)
    shown = [
        name for name, item in zip(names, items, strict=True) if LOGO in (item.crop_hash or ())
    ]
    assert sum({a, b} <= {*shown} for a, b, _ in truth) < len(list(combinations(shown, 2))) / 3
    expected = elders(names, truth, {name: (0.0, n) for n, name in enumerate(names)})
    assert {
        name: (
            row["is_duplicate"],
            row["representative_id"],
            row["similarity"],
            row["cluster_id"],
        )
        for name, row in tables.verdicts("crop").items()
    } == {name: (*told[:3], min(told[3])) for name, told in expected.items()}
    assert 20 < sum(told[0] for told in expected.values()) < 50
    stored = tables.warehouse.read(crop_segments.TABLE).collect()
    assert {row.node: row.hashes for row in stored} == {
        item.ordinal: telling(item.crop_hash or ()).tolist() for item in items
    }
    if not is_shuffled:
        tables.settings = SETTINGS.model_copy(update={"crop": CropSearch(radius=4)})
        with pytest.raises(ConfigError, match=r"crop\.radius 4; silver\.crop_index was built with"):
            tables.search(items, label="other")


def killed_before(table: str) -> Any:
    append = Batch.append

    def killed(self: Batch, frame: DataFrame, name: str, **options: Any) -> None:
        if name == table:
            raise KeyboardInterrupt
        append(self, frame, name, **options)

    return killed


def candidates(rows: list[Pair], most: int) -> set[Pair]:
    """The rule by brute force: the nearest few of all images before one, of each of its hashes."""
    nodes, values = (np.array(column) for column in zip(*rows, strict=True))
    found = set()
    for node, value in rows:
        apart = hamming(np.array(value), values)
        near: dict[int, int] = {}
        for other in np.flatnonzero((apart <= 6) & (nodes < node)):
            before = int(nodes[other])
            near[before] = min(int(apart[other]), near.get(before, 64))
        nearest = sorted(near, key=lambda before: (near[before], before))
        found |= {(before, node) for before in nearest[:most]}
    return found


def test_a_logo_in_any_number_of_encodings_leads_to_few_in_one_batch_or_many(
    spark: SparkSession,
) -> None:
    rng = np.random.default_rng(6)
    rows = [(node, flipped(rng, LOGO, 3)) for node in range(100)]
    rows += [(node, int(value)) for node, value in enumerate(rng.integers(0, 2**63, 100))]
    rows += [(node, flipped(rng, dict(rows)[node - 1], 2)) for node in range(1, 100, 3)]
    rows = sorted({*rows})

    def found(fresh: list[Pair], index: list[Pair]) -> set[Pair]:
        mine, history = (
            spark.createDataFrame([(value, node) for node, value in part], "hash long, node long")
            for part in (fresh, index)
        )
        pairs = crop.candidates(mine, Streamed.of(history), radius=6, most=3)
        return {tuple(row) for row in pairs.collect()}

    truth = candidates(rows, most=3)
    assert len(truth) < 3 * len(rows) < len(candidates(rows, most=100))
    assert found(rows, []) == truth
    parts = [[row for row in rows if low <= row[0] < high] for low, high in ((0, 30), (30, 100))]
    assert found(parts[0], []) | found(parts[1], parts[0]) == truth
