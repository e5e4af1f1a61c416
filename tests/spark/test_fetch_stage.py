"""From a list of URLs to samples: each accounted for, each URL asked for once."""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import ingest, retry, why
from jobs.fetch import stage as fetch
from jobs.fetch.silence import is_silent
from jobs.retry import Chosen
from jobs.runtime import dumps, streams
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.tables import CONTRACTS, Warehouse
from schemas import tombstones
from schemas.tombstones import MEDIA
from tests import hostile_web
from tests.hostile_web import Web, picture, response
from tests.told_rows import append

BUSY = response(status="503 Busy")


@dataclass
class World:
    """A warehouse, a web, and a folder of lists of URLs."""

    warehouse: Warehouse
    web: Web
    folder: Path
    settings: dict[str, Any]

    @property
    def config(self) -> Config:
        return Config.model_validate(self.settings)

    def write(self, name: str, *rows: tuple[str, str, str | None]) -> None:
        with (self.folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("url", "caption", "sha256"), *rows])

    def run(self) -> None:
        dumps.discover(self.warehouse, self.config, run_id="r")
        streams.run(self.warehouse, ingest.stage(self.config), run_id="r")
        streams.run(self.warehouse, fetch.stage(self.config), run_id="r")

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        return sorted(tuple(row) for row in self.warehouse.read(table).select(*columns).collect())

    def retry(self, error_class: str) -> dict[str, int]:
        chosen = Chosen(error_class=error_class)
        return retry.retry(self.warehouse, self.config, chosen, run_id="r")

    def versions(self) -> dict[str, int]:
        return {name: self.warehouse.version(name) for name in self.warehouse.tables()}

    def ledger(self, stage: str) -> dict[str, int]:
        (row,) = (
            self.warehouse.read("ops.batches")
            .where(F.col("stage") == stage)
            .agg(*(F.sum(f"rows_{n}").alias(n) for n in ("in", "kept", "rejected", "quarantined")))
            .collect()
        )
        return row.asDict()


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> Iterator[World]:
    warehouse = Warehouse(spark, str(tmp_path / "warehouse"))
    for table in CONTRACTS:
        if not table.startswith("silver") or table == "silver.documents":
            warehouse.create(table)
    (tmp_path / "dump").mkdir()
    with hostile_web.running() as web:
        settings = {
            "warehouse": warehouse.root,
            "dumps": [{"name": "lists", "path": str(tmp_path / "dump"), "format": "table"}],
            "ingest": {"shards_per_batch": 1},
            "fetch": {
                "contact": "mailto:crawl@example.org",
                "host_rate": 1000.0,
                "first_byte_s": 2.0,
                "retries": 0,
                "allow_networks": ["127.0.0.1/32"],
                "allow_ports": [web.port],
            },
        }
        yield World(warehouse, web, tmp_path / "dump", settings)


def test_every_url_has_an_outcome_and_is_asked_for_once(world: World, tmp_path: Path) -> None:
    web = world.web
    a, b = web.page("/a", response(picture(1))), web.page("/b", response(picture(1)))
    gone = web.page("/gone", response(status="404 Not Found"))
    no = web.page("/no", response(picture(2), "X-Robots-Tag: noai"))
    busy = web.page("/busy", BUSY, response(picture(3)))
    listed = web.page("/listed", response(picture(4)))
    down = web.page("/down", response(picture(5)))
    stone = {"kind": MEDIA, "key": hashlib.sha256(picture(5)).hexdigest()}
    append(world.warehouse, tombstones.TABLE, stone)
    same = a.replace("http://127.0.0.1", "HTTP://127.0.0.1") + "#part"
    digest = hashlib.md5(picture(4)).hexdigest()
    (tmp_path / "list.md5").write_text(f"# partner\n{digest.upper()}\n")
    lists = [{"name": "partner", "path": str(tmp_path / "list.md5"), "kind": "md5"}]
    world.settings["guard"] = {"blocklists": lists}
    world.write(
        "1.csv",
        (a, "one", None),
        (b, "two", hashlib.sha256(picture(1)).hexdigest()),
        (b, "poisoned", "0" * 64),
        (gone, "three", None),
        (no, "four", None),
        ("file:///etc/passwd", "five", None),
        (busy, "six", None),
        (listed, "seven", None),
        (down, "eight", None),
    )
    world.write("2.csv", (same, "again", None), (gone, "gone again", None))
    world.write("3.csv", (a, "a third time", None))

    world.run()

    assert world.rows("bronze.samples", "caption") == [
        ("a third time",),
        ("again",),
        ("one",),
        ("two",),
    ]
    assert world.rows("ops.quarantine", "stage", "error_class") == [
        ("fetch", "hash_mismatch"),
        ("fetch", "http_gone"),
        ("fetch", "http_gone"),
        ("fetch", "http_unavailable"),
        ("ingest", "invalid_url"),
    ]
    assert world.rows("ops.rejects", "reason", "detail", "matched") == [
        ("blocklisted", "on blocklist partner", digest),
        ("opted_out", "noai", None),
        ("tombstoned", None, None),
    ]
    assert world.rows("bronze.media", "size_bytes") == [(len(picture(1)),)]  # two urls, one content
    (answer,) = world.warehouse.read("bronze.fetches").where("outcome = 'blocklisted'").collect()
    assert (answer.url, answer.host, answer.media_sha256) == (None, None, None)
    assert {web.asked["127.0.0.1", f"/{name}"] for name in ("a", "b", "gone", "no", "busy")} == {1}
    assert world.ledger("ingest") == {"in": 12, "kept": 11, "rejected": 0, "quarantined": 1}
    assert world.ledger("fetch") == {"in": 11, "kept": 4, "rejected": 3, "quarantined": 4}
    (row,) = world.warehouse.read("bronze.samples").where("caption = 'one'").collect()
    assert (row.url, row.mime, row.header_width_px, row.member) == (a, "image/png", 24, None)
    (story,) = [s for s in why.explain(world.warehouse, no) if s.subject.startswith("sample")]
    assert story.fate == "rejected before bronze: opted_out (fetch)"
    versions = world.versions()
    world.run()
    assert world.versions() == versions


def test_what_failed_or_changed_is_tried_again_when_it_is_asked_for(world: World) -> None:
    web = world.web
    sound = web.page("/sound", response(picture(1)))
    busy = web.page("/busy", BUSY, response(picture(2)))
    gone = web.page("/gone", response(status="404 Not Found"))
    world.write("1.csv", (sound, "sound", None), (busy, "busy", None), (gone, "gone", None))
    world.run()
    with pytest.raises(NotFound, match="nothing of the kind"):
        world.retry("dns_failed")
    with pytest.raises(ConfigError, match="--class got dns; allowed"):
        world.retry("dns")
    rows = [(sound, "sound", None), (busy, "busy", None), (gone, "gone", None)]
    world.write("1.csv", *rows, (sound, "new", None))

    assert world.retry("http_unavailable") == {"fetch": 1}
    assert world.retry("http_gone") == {"fetch": 1}
    world.run()

    assert world.rows("bronze.samples", "caption") == [("busy",), ("sound",)]
    assert [web.asked["127.0.0.1", f"/{name}"] for name in ("sound", "busy", "gone")] == [1, 2, 2]
    standing = world.warehouse.standing().orderBy("error_class").collect()
    assert [(row.error_class, row.attempt) for row in standing] == [
        ("http_gone", 1),
        ("shard_changed", 1),
    ]
    (row,) = retry.backlog(world.warehouse, Chosen(host="127.0.0.1")).collect()
    assert (row.error_class, row.inputs) == ("http_gone", 1)

    assert world.retry("shard_changed") == {"ingest": 1}
    world.run()

    assert world.rows("bronze.samples", "caption") == [("busy",), ("new",), ("sound",)]
    assert world.rows("ops.rejects", "reason") == [("already_present",)] * 3
    (standing,) = world.warehouse.standing().collect()
    assert standing.error_class == "http_gone"
    assert web.asked["127.0.0.1", "/sound"] == 1


def test_a_host_that_was_silent_is_left_alone_by_later_batches(world: World) -> None:
    web = world.web
    web.page("/a", response(picture(1)))
    web.pages["/hang1"] = web.pages["/hang2"] = hostile_web.silent
    named = {"nameservers": [f"127.0.0.1:{web.names_port}"], "first_byte_s": 0.5}
    world.settings["fetch"] |= named
    world.write("1.csv", (web.url("/hang1", "hangs.test"), "one", None))
    world.write(
        "2.csv",
        (web.url("/hang2", "hangs.test"), "two", None),
        (web.url("/a", "quick.test"), "quick", None),
    )

    world.run()

    classes = [("deadline_passed",), ("host_unresponsive",)]
    assert world.rows("ops.quarantine", "error_class") == classes
    assert world.rows("bronze.samples", "caption") == [("quick",)]
    assert web.asked["hangs.test", "/hang2"] == 0
    web.page("/hang2", response(picture(2)))
    assert world.retry("host_unresponsive") == {"fetch": 1}
    world.run()  # knows of no silence
    assert world.rows("bronze.samples", "caption") == [("quick",), ("two",)]


def test_hosts_are_dealt_out_evenly_and_each_to_one_task(spark: SparkSession) -> None:
    urls = {"a": 50, "b": 30, "c": 30, "d": 10, "e": 8, "f": 2}
    listed = spark.createDataFrame(
        [(host,) for host, n in urls.items() for _ in range(n)], ["host"]
    )
    dealt = fetch.dealt(listed, 2).withColumn("task", F.spark_partition_id())
    found = {
        (row.task, row.host): row["count"]
        for row in dealt.groupBy("task", "host").count().collect()
    }
    assert {host: count for (_, host), count in found.items()} == urls
    assert [sum(n for (task, _), n in found.items() if task == at) for at in (0, 1)] == [68, 62]


def test_a_host_is_silent_that_let_all_run_into_deadlines(spark: SparkSession) -> None:
    asked, not_asked = "deadline_passed", "host_unresponsive"
    outcomes = {
        "silent": [asked, not_asked],
        "answered": [asked, "http_gone", asked],
        "left alone": [not_asked, not_asked],
    }
    rows = [(host, outcome) for host, met in outcomes.items() for outcome in met]
    told = spark.createDataFrame(rows, ["host", "outcome"]).groupBy("host")
    found = told.agg(is_silent(F.col("outcome")).alias("is_silent")).where("is_silent").collect()
    assert [row.host for row in found] == ["silent"]
