"""Chosen clips become shards and a manifest that names each of them once."""

import hashlib
import io
import json
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
import webdataset
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs import clips_cli, export_clips, score_videos
from jobs.runtime.config import Config, Dump
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.tables import Warehouse
from schemas import captions, clips, media, samples
from tests import rendered_scenes
from tests.told_rows import append
from udfs.video_frames import Frame, decoded

CUTS = {"film": [0, 25, 60], "cut": [0, 30], "gone": [0]}  # first frames of the clips of a video


def frames_of(content: bytes) -> tuple[list[Frame], int]:
    with decoded(io.BytesIO(content), size_bytes=len(content)) as passing:
        frames = [part for part in passing if isinstance(part, Frame)]
        return frames, passing.end_ms


class Films:
    """Three videos in a warehouse: one whole, one cut off since its clips were found, one gone."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.warehouse = Warehouse(spark, str(folder / "warehouse"))
        self.config = Config(
            warehouse=self.warehouse.root, dumps=(Dump(name="films", path=str(folder)),)
        )
        self.content: dict[str, bytes] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        for table in (clips.TABLE, media.TABLE, samples.TABLE):
            self.warehouse.create(table)
        for number, name in enumerate(CUTS):
            scenes = rendered_scenes.scenes("cuts", seed=number)
            content = rendered_scenes.encoded(scenes.frames[:90])
            self.content[name] = content
            if name != "gone":
                (folder / f"{name}.mp4").write_bytes(b"before" + content + b"behind")
            self._enter(name, content, number, folder)

    def _enter(self, name: str, content: bytes, number: int, folder: Path) -> None:
        key = hashlib.sha256(content).hexdigest()
        frames, end_ms = frames_of(content)
        edges = [*CUTS[name], len(frames)]
        times = [*(frame.time_ms for frame in frames), end_ms]
        self.rows[name] = [
            {
                "clip_id": f"{name}-{index}",
                "media_sha256": key,
                "clip_index": index,
                "start_frame": first,
                "end_frame": end,
                "frames": end - first,
                "start_ms": times[first],
                "end_ms": times[end],
                "is_static": index == 1,
                "signal_set": score_videos.side(self.config).signal_set,
            }
            for index, (first, end) in enumerate(pairwise(edges))
        ]
        append(self.warehouse, clips.TABLE, *self.rows[name])
        place = {"root": str(folder), "path": f"{name}.mp4", "offset_bytes": len(b"before")}
        size = {"size_bytes": len(content), "mime": "video/mp4"}
        append(self.warehouse, media.TABLE, {"media_sha256": key, **place, **size})
        delivered = [
            {"sample_id": f"{name}{n}", "ingest_ordinal": 10 * number - n, "caption": f"a {name}"}
            for n in (0, 1)  # the second is the first in order
        ]
        append(self.warehouse, samples.TABLE, *({"media_sha256": key, **row} for row in delivered))


@pytest.fixture(scope="module")
def films(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Films:
    folder = tmp_path_factory.mktemp("films")
    found = Films(spark, folder)
    # What follows the clips were found: the file holds other bytes now.
    (folder / "cut.mp4").write_bytes(b"before" + found.content["cut"][:-500] + bytes(500))
    return found


def read(folder: Path) -> dict[str, dict[str, Any]]:
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    return {
        sample["__key__"]: sample for sample in webdataset.WebDataset(shards, shardshuffle=False)
    }


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(folder / "manifest").to_pylist()
    assert len({row["clip_id"] for row in rows}) == len(rows)
    return {row["clip_id"]: row for row in rows}


def test_each_chosen_clip_is_in_a_shard_and_in_the_manifest(films: Films, tmp_path: Path) -> None:
    folder = tmp_path / "out"

    found = export_clips.run(films.warehouse, films.config, str(folder), shard_clips=2)

    told, held = manifest(folder), read(folder)
    assert set(told) == {row["clip_id"] for rows in films.rows.values() for row in rows}
    assert {row["key"] for row in told.values()} == set(held)
    assert (found.clips, found.failed) == (len(told), 3)
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{n:05d}.tar" for n in range(found.shards)),
        "manifest",
    ]
    for name, index in (("film", 0), ("film", 1), ("film", 2)):
        row, clip = told[f"{name}-{index}"], films.rows[name][index]
        sample = held[f"film1_{index:05d}"]
        assert row["status"] == "success"
        assert len(sample["mp4"]) == row["size_bytes"]
        assert sample["txt"] == b"a film"
        assert json.loads(sample["json"])["clips"] == [
            [clip["start_ms"] / 1000, clip["end_ms"] / 1000]
        ]
        with tarfile.open(folder / row["shard"]) as tar:
            assert f"film1_{index:05d}.mp4" in tar.getnames()
        again, end_ms = frames_of(sample["mp4"])
        assert (len(again), end_ms) == (clip["frames"], clip["end_ms"] - clip["start_ms"])
        source = frames_of(films.content["film"])[0][clip["start_frame"]]
        assert np.abs(again[0].small.astype(int) - source.small).mean() < 6
        assert sample["jpg"].startswith(b"\xff\xd8")
    for clip_id in ("cut-0", "cut-1", "gone-0"):
        assert (told[clip_id]["status"], told[clip_id]["error_class"]) == (
            "failed_to_subsample",
            "media_gone",
        )
        sample = held[told[clip_id]["key"]]
        assert {name for name in sample if not name.startswith("__")} == {"json"}


def test_clips_are_chosen_by_sql_and_copied(films: Films, tmp_path: Path) -> None:
    group = typer.Typer()
    group.callback()(lambda: None)

    clips_cli.add_to(
        group, lambda function: function, lambda *_: films.config, lambda *_, **__: films.warehouse
    )
    folder = tmp_path / "out"
    asked = ["export", str(folder), "--where", "is_static AND clip_id LIKE 'film%'"]

    told = CliRunner().invoke(group, [*asked, "--how", "copied"])

    assert told.exit_code == 0, told.output
    assert told.output.startswith("1 clips in 1 shards: ")
    (row,) = manifest(folder).values()
    clip = films.rows["film"][1]
    assert row["clip_id"] == "film-1"
    # From the last key frame before it, to its end.
    assert row["start_ms"] <= clip["start_ms"]
    assert row["frames"] >= clip["frames"]
    again, _ = frames_of(read(folder)[row["key"]]["mp4"])
    assert len(again) == row["frames"]


def test_the_clips_of_a_recipe_are_exactly_those_in_its_gold(films: Films, tmp_path: Path) -> None:
    table, folder = "gold.clips_mine", tmp_path / "out"
    films.warehouse.create(table)
    heard = {"annotator": "subtitle:2", "language": "eng", "text": "Run!", "text_sha256": "t"}
    text = {**heard, "clip_score": 0.2, "clip_score_max": 0.3}
    kept = [
        # Of two samples: the first of those that the recipe keeps says what the caption is.
        {"clip_id": "film-0", "caption": "another film", "ingest_ordinal": 2**62 + 7},
        {"clip_id": "film-0", "caption": "the film", "ingest_ordinal": 2**62, "captions": [text]},
        {"clip_id": "film-2", "caption": "", "ingest_ordinal": 2**62 + 2},
    ]
    spans = {"end_ms": 1, "end_frame": 1}
    signal_set = {"clip_signal_set": films.rows["film"][0]["signal_set"]}
    append(films.warehouse, table, *({**spans, **signal_set, **row} for row in kept))
    # Added since; what was there at the pairing stands with its score.
    films.warehouse.create(captions.TABLE)
    told_since = {"annotator": "me", "language": None, "text": "A film.", "text_sha256": "u"}
    of_set = {"signal_set": films.rows["film"][0]["signal_set"], "clip_id": "film-0"}
    append(films.warehouse, captions.TABLE, *({**of_set, **one} for one in (heard, told_since)))
    later = {**told_since, "clip_score": None, "clip_score_max": None}
    # Another configuration of clips does not matter: gold says whose they are.
    video = films.config.video.model_copy(update={"sample_fps": 1.0})
    config = films.config.model_copy(update={"video": video})

    found = export_clips.run(films.warehouse, config, str(folder), recipe="clips_mine")

    told, held = manifest(folder), read(folder)
    assert (
        found.clips == len(told) == films.warehouse.read(table).select("clip_id").distinct().count()
    )
    assert {row["status"] for row in told.values()} == {"success"}
    first, last = (json.loads(held[told[f"film-{n}"]["key"]]["json"]) for n in (0, 2))
    assert (first["caption"], first["captions"]) == ("the film", [text, later])
    assert (last["caption"], last["captions"]) == ("", [])
    with pytest.raises(NotFound, match=r"--recipe got clips_yours; .*: clips_mine"):
        export_clips.run(films.warehouse, config, str(tmp_path / "no"), recipe="clips_yours")
    with pytest.raises(NotFound, match="no clip is chosen"):
        export_clips.run(
            films.warehouse,
            config,
            str(tmp_path / "no"),
            recipe="clips_mine",
            where="clip_index = 1",
        )


def test_what_cannot_be_exported_is_said(films: Films, tmp_path: Path) -> None:
    def run(folder: Path = tmp_path / "out", **asked: Any) -> None:
        export_clips.run(films.warehouse, films.config, str(folder), **asked)

    with pytest.raises(NotFound, match="no clip is chosen"):
        run(where="clip_index > 9")
    with pytest.raises(ConfigError, match="--where got length"):
        run(where="length > 9")
    with pytest.raises(ConfigError, match="--shard-clips got 0; allowed from 1"):
        run(shard_clips=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match="holds files; allowed a new one"):
        run(tmp_path / "full")
    assert not (tmp_path / "out").exists()
    empty = Warehouse(films.warehouse.spark, str(tmp_path / "empty"))
    with pytest.raises(NotFound, match="no clips in"):
        export_clips.run(empty, films.config, str(tmp_path / "out"))
