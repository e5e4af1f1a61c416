"""Of each video a few key frames are chosen, by what it came with, by a query, or by coverage."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs import choose_frames, clips_cli, score_videos
from jobs.runtime import models
from jobs.runtime.config import Config, Dump
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.tables import Warehouse
from schemas import clips, image_signals, keyframes, samples, text_signals
from tests.dedup_warehouse import sha256
from tests.told_rows import append
from udfs.embedding import pack, unit

SHOTS: Final = 6
FRAMES: Final = 3  # of a shot, near-identical
DIMENSION: Final = 256  # the bundled CLIP's
TOPICS: Final = np.eye(SHOTS, DIMENSION, dtype=np.float32)
NAMED: Final = 4  # the shot that the caption of "told" names


class Videos:
    """Three videos of six shots: one says what it shows, one says nothing, one was not scored."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.warehouse = Warehouse(spark, str(folder / "warehouse"))
        self.config = Config(
            warehouse=self.warehouse.root, dumps=(Dump(name="films", path=str(folder)),)
        )
        self.scoring = models.scoring(self.config, spark)
        for table in (clips, keyframes, image_signals, samples, text_signals):
            self.warehouse.create(table.TABLE)
        for number, name in enumerate(("told", "silent", "unscored")):
            self._enter(name, number)
        for text, topic in (("what it shows", NAMED), ("what came later", 0)):
            self._tell(text, TOPICS[topic])

    def _enter(self, name: str, number: int) -> None:
        clip_set = score_videos.side(self.config).signal_set
        video = sha256(name)
        rows: dict[str, list[dict[str, Any]]] = {"clips": [], "frames": [], "images": []}
        rng = np.random.default_rng(number)
        for shot in range(SHOTS):
            clip = {"clip_id": f"{name}-{shot}", "signal_set": clip_set}
            span = {
                "start_ms": 1000 * shot,
                "end_ms": 1000 * (shot + 1),
                "end_frame": 1,
                "frames": 1,
            }
            rows["clips"].append({**clip, **span, "media_sha256": video, "is_static": shot == 5})
            for frame in range(FRAMES * shot, FRAMES * (shot + 1)):
                content = f"{name} {frame}".encode()
                key = sha256(content.decode())
                shown = {"frame": frame, "time_ms": 333 * frame, "media_sha256": key}
                size = {"size_bytes": len(content), "content": content}
                rows["frames"].append({**clip, **shown, **size, "video_sha256": video})
                vector = unit(TOPICS[[shot]] + 0.005 * rng.standard_normal((1, DIMENSION)))
                signals = {"clip_embedding": pack(vector.astype(np.float32))[0], "status": "ok"}
                image_set = self.scoring.images.signal_set
                rows["images"].append({"media_sha256": key, "signal_set": image_set, **signals})
        append(self.warehouse, clips.TABLE, *rows["clips"])
        append(self.warehouse, keyframes.TABLE, *rows["frames"])
        if name != "unscored":
            append(self.warehouse, image_signals.TABLE, *rows["images"])
        texts = ["what came later", "what it shows"] if name == "told" else [""]
        delivered = [
            {
                "sample_id": f"{name}{order}",
                "ingest_ordinal": 10 * number - order,  # the last is the first in order
                "media_sha256": video,
                "modality": samples.VIDEO_TEXT,
                "text_sha256": sha256(text),
            }
            for order, text in enumerate(texts)
        ]
        append(self.warehouse, samples.TABLE, *delivered)

    def _tell(self, text: str, topic: np.ndarray) -> None:
        row = {
            "text_sha256": sha256(text),
            "signal_set": self.scoring.texts.signal_set,
            "status": "ok",
            "clip_embedding": pack(topic[None])[0],
        }
        append(self.warehouse, text_signals.TABLE, row)


@pytest.fixture(scope="module")
def videos(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Videos:
    return Videos(spark, tmp_path_factory.mktemp("videos"))


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    rows = pq.read_table(folder).to_pylist()
    assert [(r["video_sha256"], r["frame"]) for r in rows] == sorted(
        (r["video_sha256"], r["frame"]) for r in rows
    )
    return {
        name: [row for row in rows if row["video_sha256"] == sha256(name)]
        for name in ("told", "silent", "unscored")
    }


def test_what_a_video_came_with_is_chosen_and_one_without_words_is_covered(
    videos: Videos, tmp_path: Path
) -> None:
    found = choose_frames.run(videos.warehouse, videos.config, str(tmp_path / "out"), most=SHOTS)

    chosen = read(tmp_path / "out")
    assert [row["frame"] // FRAMES for row in chosen["silent"]] == list(range(SHOTS))
    assert {row["reason"] for row in chosen["silent"]} == {"coverage"}
    assert {row["clip_score"] for row in chosen["silent"]} == {None}
    assert not chosen["unscored"]
    (named,) = (row for row in chosen["told"] if row["reason"] == "relevance")
    assert named["clip_id"] == f"told-{NAMED}"
    assert named["content"] == f"told {named['frame']}".encode()
    assert named["clip_score"] == pytest.approx(0.99, abs=0.01)
    assert (found.videos, found.frames) == (2, sum(map(len, chosen.values())))
    assert (found.keyframes, found.merged_fraction) == (36, pytest.approx(2 / 3))


def test_at_a_budget_of_one_the_named_shot_is_there_and_an_even_choice_misses_it(
    videos: Videos, tmp_path: Path
) -> None:
    found = choose_frames.run(
        videos.warehouse, videos.config, str(tmp_path / "out"), most=1, where="clip_id LIKE 'told%'"
    )

    (row,) = read(tmp_path / "out")["told"]
    assert row["clip_id"] == f"told-{NAMED}"
    assert found.clip_score == pytest.approx(row["clip_score"])
    assert found.uniform_clip_score is not None
    assert found.uniform_clip_score < 0.1


def test_a_query_is_read_by_the_configured_clip_and_conditions_hold(
    videos: Videos, tmp_path: Path
) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    clips_cli.add_to(
        app, lambda command: command, lambda *_: videos.config, lambda *_, **__: videos.warehouse
    )
    where = ["--where", "NOT is_static", "--query", "a red circle"]

    result = CliRunner().invoke(app, ["frames", str(tmp_path / "out"), *where])

    assert result.exit_code == 0, result.output
    chosen = read(tmp_path / "out")
    # Five shots are left, which are merged to a frame each; the budget would be eight.
    assert [row["frame"] // FRAMES for row in chosen["told"]] == list(range(SHOTS - 1))
    assert all(-1 <= row["clip_score"] <= 1 for rows in chosen.values() for row in rows)
    assert "10 frames of 2 videos" in result.output
    assert "best cosine" in result.output


def test_what_cannot_be_is_refused_before_anything_is_written(
    videos: Videos, tmp_path: Path
) -> None:
    def run(**asked: Any) -> None:
        choose_frames.run(videos.warehouse, videos.config, str(tmp_path / "out"), **asked)

    with pytest.raises(ConfigError, match="--most got 0; allowed from 1"):
        run(most=0)
    with pytest.raises(ConfigError, match="--query got ' '; allowed a text"):
        run(query=" ")
    with pytest.raises(ConfigError, match="--where got nonsense"):
        run(where="nonsense")
    with pytest.raises(NotFound, match="no key frame with an embedding"):
        run(where="clip_id LIKE 'unscored%'")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="holds files"):
        run()
