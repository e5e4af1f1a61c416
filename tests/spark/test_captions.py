"""Captions made elsewhere stand once beside their clips, whatever the file repeats or misses."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from jobs import captions, captions_cli, score_videos
from jobs.caption_file import CaptionFile
from jobs.captions import Added
from jobs.runtime.config import Config, Dump, Video
from jobs.runtime.errors import ConfigError
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse
from schemas import batches, clips
from schemas import captions as table
from tests.told_rows import append

ROWS = [
    {"clip_id": "a", "text": " a dog ", "language": "en"},
    {"clip_id": "a", "text": "a dog"},
    {"clip_id": "a", "text": "a cat"},
    {"clip_id": "b", "text": "a tree"},
    {"clip_id": "b", "text": "\n"},
    {"clip_id": "other set", "text": "a car"},
    {"clip_id": "nobody", "text": "a bus"},
    {"clip_id": 3, "text": "a bus"},
]


class Captioned:
    """Two clips of a signal set, and one of another."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.folder = folder
        self.warehouse = Warehouse(spark, str(folder / "warehouse"))
        self.config = Config(
            warehouse=self.warehouse.root,
            dumps=(Dump(name="films", path=str(folder)),),
            video=Video(hears_speech=False),
        )
        self.signal_set = score_videos.side(self.config).signal_set
        for of in (clips, batches):
            self.warehouse.create(of.TABLE)
        sets = {"a": self.signal_set, "b": self.signal_set, "other set": "another"}
        rows = [
            {
                "clip_id": clip_id,
                "media_sha256": f"media of {clip_id}",
                "signal_set": signal_set,
                "start_frame": 0,
                "end_frame": 9,
                "frames": 9,
                "start_ms": 100,
                "end_ms": 900,
            }
            for clip_id, signal_set in sets.items()
        ]
        append(self.warehouse, clips.TABLE, *rows)

    def add(self, rows: list[dict[str, Any]], annotator: str, run_id: str = "r") -> Added:
        path = self.folder / f"{annotator}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return captions.add(
            self.warehouse,
            CaptionFile(path),
            annotator=annotator,
            signal_set=self.signal_set,
            run_id=run_id,
        )

    def rows(self, annotator: str) -> list[Any]:
        found = self.warehouse.read(table.TABLE).where(F.col("annotator") == annotator)
        return found.orderBy("clip_id").collect()

    def ledger(self, annotator: str) -> list[Any]:
        found = self.warehouse.read(batches.TABLE).where(F.col("checkpoint") == annotator)
        return [
            (row.batch_id, row.rows_in, row.rows_kept)
            for row in found.orderBy("batch_id").collect()
        ]


@pytest.fixture(scope="module")
def captioned(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Captioned:
    return Captioned(spark, tmp_path_factory.mktemp("captioned"))


def test_each_row_of_a_file_has_one_outcome(captioned: Captioned) -> None:
    added = captioned.add(ROWS, "model-1")
    first, second = captioned.rows("model-1")

    assert added == Added(
        added=2,
        known=1,
        unknown=2,
        second=1,
        empty=1,
        unreadable=1,
        named={
            "unknown": ["other set", "nobody"],
            "second": ["a"],
            "empty": ["b"],
            "unreadable": ["row 8: no clip_id"],
        },
    )
    assert (first.text, first.language, first.media_sha256) == ("a dog", "en", "media of a")
    assert (first.start_ms, first.end_ms, first.signal_set) == (100, 900, captioned.signal_set)
    assert first.provenance.startswith("model-1.jsonl sha256:")
    assert (second.clip_id, second.text, second.language) == ("b", "a tree", None)
    assert captioned.ledger("model-1") == [(0, 2, 2)]


def test_what_comes_again_adds_nothing_and_no_version(captioned: Captioned) -> None:
    captioned.add(ROWS, "model-2")
    before = [captioned.warehouse.version(of.TABLE) for of in (table, batches)]
    again = captioned.add([*ROWS[::-1], {"clip_id": "b", "text": "another"}], "model-2")

    assert (again.added, again.known, again.second, again.unknown) == (0, 3, 2, 2)
    assert [captioned.warehouse.version(of.TABLE) for of in (table, batches)] == before
    assert [row.text for row in captioned.rows("model-2")] == ["a dog", "a tree"]


def test_a_kill_before_the_ledger_is_mended(
    captioned: Captioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Batch.append

    def append_but(batch: Batch, frame: DataFrame, name: str, **named: Any) -> None:
        if name == batches.TABLE:
            raise RuntimeError("the power fails")
        real(batch, frame, name, **named)

    monkeypatch.setattr(Batch, "append", append_but)
    with pytest.raises(RuntimeError, match="the power fails"):
        captioned.add(ROWS[:1], "model-3")
    monkeypatch.undo()
    added = captioned.add(ROWS[:4], "model-3")

    assert (added.added, added.known) == (1, 2)
    assert [row.text for row in captioned.rows("model-3")] == ["a dog", "a tree"]
    assert captioned.ledger("model-3") == [(0, 1, 1), (1, 1, 1)]


@pytest.mark.parametrize("name", ["title", "sample", "subtitle:1", "", "Ä", "a" * 65])
def test_names_of_annotators_are_plain(captioned: Captioned, name: str) -> None:
    with pytest.raises(ConfigError, match="allowed a-z"):
        captions.add(
            captioned.warehouse,
            None,
            annotator=name,
            signal_set="",
            run_id="",  # type: ignore[arg-type]
        )


def test_the_command_tells_all_outcomes(captioned: Captioned) -> None:
    path = captioned.folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    app = typer.Typer()
    captions_cli.add_to(
        app, lambda f: f, lambda *_: captioned.config, lambda *_, **__: captioned.warehouse
    )
    answered = CliRunner().invoke(app, [str(path), "--annotator", "mine"])

    assert answered.exit_code == 0, answered.output
    assert "2 added" in answered.output
    assert "2 are of no clip of this signal set: other set, nobody" in answered.output
    assert [row.text for row in captioned.rows("mine")] == ["a dog", "a tree"]
