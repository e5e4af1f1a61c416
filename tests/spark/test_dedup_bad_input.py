"""What no search was meant for, and what becomes of it."""

from pathlib import Path
from typing import Final

import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs.runtime.config import Dedup, MinHashSearch
from jobs.runtime.errors import ConfigError
from tests.dedup_warehouse import DedupWarehouse, Item, duplicates_of

TEXTS: Final = Dedup(kinds=("exact_text", "minhash"))
PICTURES: Final = Dedup(kinds=("exact_media", "phash"))
LONG_CHARACTERS: Final = 10_000_000


def test_blank_and_endless_texts_have_a_verdict_each(spark: SparkSession, tmp_path: Path) -> None:
    words = np.random.default_rng(2).integers(0, 10**6, LONG_CHARACTERS // 7)
    text = [f"{word:06d}" for word in words]
    edited = [*text[:-1], "other"]
    blank = ("", " \n\t ", "\u200b", "\x00")
    endless = (" ".join(text), " ".join(edited))
    items = [
        Item(ordinal=n, media=f"m{n}", caption=caption)
        for n, caption in enumerate((*blank, *endless, "a red car"))
    ]
    tables = DedupWarehouse(spark, tmp_path, TEXTS)
    tables.arrive(*items)

    for kind in TEXTS.kinds:
        assert set(tables.verdicts(kind)) == {item.sample_id for item in items}
    assert duplicates_of(tables.verdicts("exact_text")) == {}
    assert duplicates_of(tables.verdicts("minhash")) == {"s00005": "s00004"}

    # The index keeps what it was built by, whoever asks.
    other = Dedup(kinds=TEXTS.kinds, minhash=MinHashSearch(shingle=3))
    changed = DedupWarehouse(spark, tmp_path, other)
    with pytest.raises(ConfigError, match=r"silver\.minhash_index was built with .* set it back"):
        changed.search(items, label="changed")


def test_a_hash_that_a_third_of_all_share_is_one_cluster(
    spark: SparkSession, tmp_path: Path
) -> None:
    hashes = np.random.default_rng(5).integers(-(2**63), 2**63, 300)
    items = [
        Item(ordinal=n, media=f"m{n}", phash=0 if n % 3 == 1 else int(value))
        for n, value in enumerate(hashes)
    ]
    tables = DedupWarehouse(spark, tmp_path, PICTURES)
    tables.arrive(*items)

    assert set(tables.verdicts("phash")) == {item.sample_id for item in items}
    alike = [item.sample_id for item in items if item.phash == 0]
    assert duplicates_of(tables.verdicts("phash")) == dict.fromkeys(alike[1:], alike[0])
    assert duplicates_of(tables.verdicts("exact_media")) == {}
