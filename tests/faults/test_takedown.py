"""What is taken down is gone from all files, and neither a crawl nor a kill brings it back."""

import hashlib
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs import cycle, report, why
from jobs.__main__ import app
from jobs.runtime import lineage, streams
from jobs.runtime.config import load
from jobs.runtime.errors import CheckpointBusy, SluiceError
from jobs.runtime.tables import Warehouse
from jobs.takedown import stage as takedown
from jobs.takedown.keys import Key
from schemas import batches, decisions, media, rejects, samples, shards, tombstones
from schemas.tombstones import MEDIA, SAMPLE
from tests import equality, planted
from tests.faults import driver, takedown_driver
from tests.faults.test_kills import ORPHANS_LIVE_S, driving, family

SHA256 = hashlib.sha256(planted.marked()).hexdigest()
NEEDLES = (planted.MARK, planted.CAPTION.encode(), planted.CAPTION[:20].encode())
# What tells of the takedown, or of what was met.
HISTORY = {tombstones.TABLE, decisions.TABLE, batches.TABLE, shards.TABLE}
RESULTS = Path("warehouse")


@dataclass(frozen=True)
class Crawled:
    """A warehouse that has met the planted item, and what it held before."""

    folder: Path
    before: dict[str, Counter[str]]

    def copied(self, spark: SparkSession, folder: Path) -> Warehouse:
        """A copy of it."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Warehouse(spark, str(folder / RESULTS))


@pytest.fixture(scope="module", autouse=True)
def _unrecorded() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineage, "start", driver.untracked)
        patch.setattr(report, "write", driver.unwritten)
        yield


def crawl(spark: SparkSession, folder: Path) -> Warehouse:
    planned = cycle.plan(load(str(folder / "config.yaml")), spark)
    cycle.run(planned, command="test")
    return planned.warehouse


@pytest.fixture(scope="module")
def crawled(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Crawled:
    folder = tmp_path_factory.mktemp("takedown")
    first, other = planted.picture(0), planted.picture(1)
    planted.write(
        folder / "dump" / "a.tar",
        [
            (first, "a red circle on a blue square"),
            (other, "two green triangles and a star"),
            (first, "a circle, red, and a square"),
        ],
    )
    planted.config(folder, one=folder / "dump")
    warehouse = crawl(spark, folder)
    before = equality.contents(warehouse)
    planted.write(folder / "dump" / "b.tar", [(planted.marked(), planted.CAPTION)])
    crawl(spark, folder)
    assert planted.lying(folder / RESULTS, planted.MARK)
    return Crawled(folder, before)


def equal_but_for_history(warehouse: Warehouse, before: dict[str, Counter[str]]) -> None:
    after = equality.contents(warehouse)
    for table in before.keys() - HISTORY:
        assert after[table] == before[table], table
    assert not before[decisions.TABLE] - after[decisions.TABLE]


def test_the_bytes_are_gone_and_no_crawl_brings_them_back(
    crawled: Crawled, spark: SparkSession, tmp_path: Path
) -> None:
    warehouse = crawled.copied(spark, tmp_path)
    config = load(str(tmp_path / "config.yaml"))
    asked = ["takedown", str(tmp_path / "config.yaml"), SHA256, "--reason", "by request"]
    versions = equality.versions(warehouse)
    dry = CliRunner().invoke(app, [*asked, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "bronze.media: 1 rows would go" in dry.output
    assert equality.versions(warehouse) == versions

    done = CliRunner().invoke(app, asked)

    assert done.exit_code == 0, done.output
    assert not planted.lying(tmp_path / RESULTS, *NEEDLES)
    equal_but_for_history(warehouse, crawled.before)
    (entry,) = warehouse.read(batches.TABLE).where("stage = 'takedown'").collect()
    assert (entry.rows_in, entry.rows_rejected) == (2, 2)  # the media, and the sample that had them
    (stone,) = warehouse.read(tombstones.TABLE).where(f"kind = '{SAMPLE}'").collect()
    assert stone.asked == f"{MEDIA}:{SHA256}"
    (decided,) = warehouse.current(decisions.TABLE).where("first_reason = 'taken_down'").collect()
    assert (decided.sample_id, decided.is_kept, decided.revision) == (stone.key, False, 1)
    for key in (SHA256, stone.key):
        (story,) = why.explain(warehouse, key)
        assert f"by {MEDIA}:{SHA256}: by request" in story.fate

    versions = equality.versions(warehouse)
    takedown.run(warehouse, config, [Key(MEDIA, SHA256)], run_id="again")
    crawl(spark, tmp_path)
    again = equality.versions(warehouse)
    assert {table for table in again if again[table] != versions[table]} <= {batches.TABLE}

    planted.write(tmp_path / "other" / "c.tar", [(planted.marked(), "under other words")])
    planted.config(tmp_path, one=crawled.folder / "dump", two=tmp_path / "other")
    crawl(spark, tmp_path)
    (turned_away,) = warehouse.read(rejects.TABLE).collect()
    assert turned_away.reason == "tombstoned"
    met = warehouse.read(batches.TABLE).where("stage = 'ingest'").orderBy("batch_id").collect()
    assert (met[-1].rows_in, met[-1].rows_kept, met[-1].rows_rejected) == (1, 0, 1)
    assert not planted.lying(tmp_path / RESULTS, *NEEDLES)
    assert warehouse.read(samples.TABLE).count() == 3


@pytest.mark.faults  # what is judged again is compared by tests/spark/test_departed.py as well
def test_a_copy_takes_the_place_of_a_sample_and_keeps_its_bytes(
    crawled: Crawled, spark: SparkSession, tmp_path: Path
) -> None:
    warehouse = crawled.copied(spark, tmp_path)
    config = load(str(tmp_path / "config.yaml"))
    first, _, copy = (
        warehouse.read(samples.TABLE).where("shard = 'a.tar'").orderBy("ingest_ordinal").collect()
    )
    assert first.media_sha256 == copy.media_sha256
    in_gold = {row.sample_id for row in warehouse.read("gold.default").collect()}
    assert first.sample_id in in_gold
    assert copy.sample_id not in in_gold

    takedown.run(warehouse, config, [Key(SAMPLE, first.sample_id)], run_id="r")

    assert first.sample_id not in {r.sample_id for r in warehouse.read("gold.default").collect()}
    assert warehouse.read(media.TABLE).where(f"media_sha256 = '{first.media_sha256}'").count() == 1
    # What is another's to do goes on from here, and a second takedown need not wait for it.
    takedown.run(warehouse, config, [Key(MEDIA, SHA256)], run_id="r")
    crawl(spark, tmp_path)
    in_gold = {row.sample_id for row in warehouse.read("gold.default").collect()}
    assert copy.sample_id in in_gold
    assert first.sample_id not in in_gold


def test_what_a_stage_has_not_seen_and_a_live_driver_are_waited_for(
    crawled: Crawled, spark: SparkSession, tmp_path: Path
) -> None:
    warehouse = crawled.copied(spark, tmp_path)
    config = load(str(tmp_path / "config.yaml"))
    key = Key(MEDIA, SHA256)
    folder = tmp_path / RESULTS / "_checkpoints"
    with streams.exclusive(str(folder / "dedup" / "any")):
        refused = CliRunner().invoke(app, ["takedown", str(tmp_path / "config.yaml"), SHA256])
        assert refused.exit_code == CheckpointBusy.exit_code
    with streams.alone(warehouse.root, streams.TAKEDOWN), pytest.raises(CheckpointBusy):
        crawl(spark, tmp_path)
    (progress,) = (folder / "pair").glob("*/progress/seen")
    warehouse.write_text(str(progress), "0")
    with pytest.raises(SluiceError, match=r"checkpoint pair/.* nothing was done"):
        takedown.run(warehouse, config, [key], run_id="r")
    assert warehouse.read(tombstones.TABLE).count() == 0


@pytest.mark.faults
@pytest.mark.parametrize("point", takedown_driver.POINTS)
def test_a_kill_in_the_middle_is_made_good_by_the_same_command(
    crawled: Crawled, spark: SparkSession, tmp_path: Path, point: str
) -> None:
    warehouse = crawled.copied(spark, tmp_path)
    config = load(str(tmp_path / "config.yaml"))
    with driving(tmp_path, point, SHA256, driver=takedown_driver.__file__) as killed:
        assert killed.wait() == -signal.SIGKILL
        with pytest.raises(CheckpointBusy, match="cut short"):
            crawl(spark, tmp_path)
        takedown.run(warehouse, config, [Key(MEDIA, SHA256)], run_id="again")
        _, alive = psutil.wait_procs(family(killed.pid), timeout=ORPHANS_LIVE_S)
        assert not alive

    assert not planted.lying(tmp_path / RESULTS, *NEEDLES)
    equal_but_for_history(warehouse, crawled.before)
    (entry,) = warehouse.read(batches.TABLE).where("stage = 'takedown'").collect()
    assert (entry.rows_in, entry.rows_rejected) == (2, 2)
    current = warehouse.current(decisions.TABLE).where("first_reason = 'taken_down'")
    assert [row.revision for row in current.collect()] == [1]
