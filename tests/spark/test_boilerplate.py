"""Images that stand on more pages than a bound, whatever the batches that bring them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.dedup import rebuild
from jobs.runtime.config import BoilerplateSearch, Dedup
from jobs.runtime.errors import ConfigError
from jobs.runtime.streams import Batch
from schemas import duplicates, page_index
from tests.dedup_warehouse import DedupWarehouse, Item, duplicates_of

# (image, page); some pages in several spellings.
STOOD = [
    ("logo", "https://a.example/1"),
    ("logo", None),
    ("photo", "https://a.example/1"),
    ("logo", "HTTPS://A.example:443/1#top"),
    ("hub", "https://a.example/0"),
    ("bare", None),
    *(("hub", f"https://hub.example/{n}") for n in range(5)),
    ("photo", "https://a.example/2"),
    ("late", "https://b.example/1"),
    ("logo", "https://a.example/2"),
    ("late", None),
    ("bare", None),
    ("photo", "no page"),
    ("photo", "https://a.example/2?utm_source=x"),
    ("late", "https://b.example/2"),
    ("hub", "https://hub.example/9"),
    ("logo", "https://b.example/3"),
    ("late", "https://b.example/3"),
    ("logo", None),
    ("bare", "https://b.example/3"),
]
ITEMS = [Item(ordinal=n, media=media, page=page) for n, (media, page) in enumerate(STOOD)]
PAGES = {"logo": 3, "photo": 2, "hub": 7, "late": 3, "bare": 1}


def settings(max_pages: int) -> Dedup:
    kinds = ("exact_media", "boilerplate")
    return Dedup(kinds=kinds, boilerplate=BoilerplateSearch(max_pages=max_pages))


def expected(batches: Iterable[Sequence[Item]], max_pages: int) -> dict[str, str]:
    """The samples of boilerplate, and the first sample of the image of each."""
    first: dict[str, str] = {}
    for batch in batches:
        for item in sorted(batch, key=lambda item: item.ordinal):
            first.setdefault(item.media, item.sample_id)
    return {i.sample_id: first[i.media] for i in ITEMS if PAGES[i.media] > max_pages}


def stored(tables: DedupWarehouse) -> dict[str, int]:
    """Pages that the index has of each image."""
    named = {item.ordinal: item.media for item in ITEMS}
    found: dict[str, int] = defaultdict(int)
    for row in tables.warehouse.read(page_index.TABLE).collect():
        found[named[row.node]] += 1
    return dict(found)


@pytest.mark.parametrize("parts", [[ITEMS], [ITEMS[cut : cut + 6] for cut in (12, 6, 18, 0)]])
def test_an_image_on_many_pages_is_boilerplate_whatever_the_batches(
    parts: list[list[Item]], spark: SparkSession, tmp_path: Path
) -> None:
    tables = DedupWarehouse(spark, tmp_path / "w", settings(2))
    for part in parts:
        tables.arrive(*part)

    found = tables.verdicts("boilerplate")
    assert duplicates_of(found) == expected(parts, 2)
    assert len(found) == len(ITEMS)
    for row in found.values():
        assert (row["cluster_id"], row["similarity"]) == (f"s{row['node']:05d}", 1.0)
        assert row["is_duplicate"] or row["representative_id"] == row["sample_id"]
    # Of those that stand on many, one more than the bound.
    assert stored(tables) == {media: min(pages, 3) for media, pages in PAGES.items()}


def test_a_page_that_comes_late_changes_what_was_said_once(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = ITEMS[:17], ITEMS[17:]
    tables = DedupWarehouse(spark, tmp_path / "w", settings(2))
    tables.arrive(*before)
    assert duplicates_of(tables.verdicts("boilerplate")) == {
        f"s{n:05d}": "s00004" for n in (4, 6, 7, 8, 9, 10)
    }
    append = Batch.append

    def killed(batch: Batch, frame: DataFrame, table: str, **how: Any) -> None:
        if table == duplicates.TABLE:
            raise KeyboardInterrupt
        append(batch, frame, table, **how)

    tables.put(after)
    with monkeypatch.context() as patched:
        patched.setattr(Batch, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            tables.search(after, label="test")
    tables.search(after, label="test")

    found = tables.verdicts("boilerplate")
    assert duplicates_of(found) == expected([before, after], 2)
    late = {item.sample_id for item in before if item.media in ("logo", "late")}
    assert {name for name, row in found.items() if row["revision"]} == late
    rows = tables.warehouse.read(duplicates.TABLE).where("kind = 'boilerplate'").count()
    assert rows == len(ITEMS) + len(late)
    assert stored(tables) == {media: min(pages, 3) for media, pages in PAGES.items()}

    tables.settings = settings(6)
    with pytest.raises(ConfigError, match=r"boilerplate\.max_pages 6; .* built with 2"):
        tables.search(before, label="looser")
    emptied = rebuild.begin(tables.warehouse, rebuild.chosen(["boilerplate"]), run_id="r")
    assert {one.table: one.rows for one in emptied}[page_index.TABLE] == 12
    for part in (before, after):
        tables.search(part, label="anew")
    assert duplicates_of(tables.verdicts("boilerplate")) == expected([before, after], 6)
    assert stored(tables) == PAGES
