"""Every distinct video becomes clips, once; a poisonous one costs a row."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import score_images, score_videos
from jobs.demo import films
from jobs.runtime import streams
from jobs.runtime.config import Config, Dump
from jobs.runtime.config import Video as Settings
from jobs.runtime.models import Side
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse, conform
from schemas import (
    batches,
    captions,
    clips,
    image_signals,
    keyframes,
    media,
    quarantine,
    samples,
    signal_sets,
    video_signals,
)
from tests import equality, subtitled_video
from udfs.examine import FACTS
from udfs.image_signals import image_signals_udf
from udfs.sharpness import Sharpness

SETTINGS = Settings(min_clip_s=1.0, max_clip_s=20.0)
SAID = subtitled_video.Track("mov_text", [(0, 900, "One"), (1000, 1900, "<i>Two</i>")], "eng")
KEPT = len(films.FILMS) + 1
POISON = {  # a row of `bronze.media`, altered -> the class that it gets
    "8k": ({"header_width_px": 7680, "header_height_px": 4320}, "too_many_pixels"),
    "ten hours": ({"duration_s": 36_000.0}, "video_too_long"),
    "gone": ({"path": "gone.mp4"}, "media_gone"),
    "other bytes": ({"offset_bytes": 1}, "media_gone"),
}


def config(folder: Path) -> Config:
    return Config(
        warehouse=str(folder / "warehouse"),
        dumps=(Dump(name="films", path=str(folder)),),
        video=SETTINGS,
    )


class Dumped:
    """Films as loose files, and rows that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}

    def add(self, name: str, content: bytes, *, before: bytes = b"", **altered: Any) -> None:
        (self.folder / name).write_bytes(before + content + b"behind")
        width, height = films.SIZE_PX
        self.rows[name] = {
            "media_sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
            "root": str(self.folder),
            "path": name,
            "offset_bytes": len(before),
            "header_width_px": width,
            "header_height_px": height,
            "duration_s": None,
        } | altered

    def key(self, name: str) -> str:
        key: str = self.rows[name]["media_sha256"]
        return key


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Dumped:
    found = Dumped(tmp_path_factory.mktemp("films"))
    rng = np.random.default_rng(5)
    for name, of in films.FILMS.items():
        found.add(name, films.film(of, rng)[1], before=b"in a tar")
    for name, (container, damaged) in films.DAMAGED.items():
        film = films.film(films.FILMS["one shot"], rng, container=container)[1]
        found.add(name, damaged(film))
    found.add("subtitled", subtitled_video.video(SAID, container="mp4", title="A title"))
    for name, (altered, _) in POISON.items():
        found.add(name, films.film(films.FILMS["one shot"], rng)[1], **altered)
    return found


def fill(warehouse: Warehouse, rows: list[dict[str, Any]]) -> None:
    """Append media and samples as ingest would."""
    spark = warehouse.spark
    schema = "media_sha256 string, size_bytes bigint, root string, path string,"
    schema += "offset_bytes bigint, header_width_px int, header_height_px int, duration_s double"
    frame = spark.createDataFrame(rows, schema)
    nothing = F.lit(None)
    video = F.struct(
        *(
            (F.col("duration_s") if f.name == "duration_s" else nothing.cast(f.dataType)).alias(
                f.name
            )
            for f in media.SCHEMA["video"].dataType
        )
    )
    stored = frame.withColumns(
        {
            "md5": F.lit(""),
            "sha1": F.lit(""),
            "mime": F.lit("video/mp4"),
            "content": nothing,
            "video": video,
            "batch": F.lit("b"),
            "run_id": F.lit("r"),
        }
    )
    conform(stored, media.TABLE).write.format("delta").mode("append").save(
        warehouse.path(media.TABLE)
    )
    texts = ("sample_key", "text_sha256", "caption", "url", "url_sha256", "batch", "run_id")
    delivered = frame.withColumns(
        {
            "sample_id": F.concat(F.lit("s-"), "media_sha256"),
            "ingest_ordinal": F.lit(0),
            "dump": F.lit("films"),
            "shard": F.col("path"),
            "occurrence": F.lit(0),
            "member": F.col("path"),
            "shard_offset_bytes": F.col("offset_bytes"),
            "modality": F.lit(samples.VIDEO_TEXT),
            "mime": F.lit("video/mp4"),
            "is_extension_mismatch": F.lit(False),
            "extra": nothing,
            "ingested_at": F.current_timestamp(),
            **{name: F.lit("") for name in texts},
        }
    )
    conform(delivered, samples.TABLE).write.format("delta").mode("append").save(
        warehouse.path(samples.TABLE)
    )


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, dumped: Dumped) -> Warehouse:
    made = Warehouse(spark, str(dumped.folder / "warehouse"))
    for table in (media, samples, image_signals, signal_sets, quarantine, batches):
        made.create(table.TABLE)
    fill(made, list(dumped.rows.values()))
    streams.run(made, score_videos.stage(score_videos.side(config(dumped.folder))), run_id="one")
    return made


def told(warehouse: Warehouse) -> dict[str, Any]:
    return {row.media_sha256: row for row in warehouse.read(video_signals.TABLE).collect()}


def of(warehouse: Warehouse, key: str) -> list[Any]:
    found = warehouse.read(clips.TABLE).where(F.col("media_sha256") == key)
    return found.orderBy("clip_index").collect()


def test_films_are_cut_where_their_shots_begin_into_clips_that_tile_them(
    warehouse: Warehouse, dumped: Dumped
) -> None:
    videos = told(warehouse)
    for name, film in films.FILMS.items():
        row, found = videos[dumped.key(name)], of(warehouse, dumped.key(name))
        assert row.clips == len(found) == len(film.shots)
        assert [clip.begins_by for clip in found] == ["start"] + ["shot"] * (len(found) - 1)
        assert {clip.start_frame for clip in found} >= set(film.cuts)
        assert [clip.start_ms for clip in found] == [0, *(clip.end_ms for clip in found[:-1])]
        assert found[-1].end_ms == row.duration_ms == film.frames * 1000 // films.FPS
        assert sum(clip.frames for clip in found) == row.frames == film.frames
        assert len({clip.clip_id for clip in found}) == len(found)


def test_clips_have_the_signals_of_their_own_frames_and_sound(
    warehouse: Warehouse, dumped: Dumped
) -> None:
    heard = of(warehouse, dumped.key("cuts"))
    silent = of(warehouse, dumped.key("one shot"))

    assert [clip.has_audio for clip in (*heard, *silent)] == [True] * len(heard) + [False]
    assert heard[0].silence_fraction < 0.05 < 0.9 < heard[-1].silence_fraction
    assert heard[0].loudness_lufs > -20 > heard[-1].loudness_lufs
    assert [clip.is_static for clip in heard] == [False, True, False]
    assert heard[0].motion_score > 0.01 > heard[1].motion_score
    assert silent[0].loudness_lufs is silent[0].speech_fraction is None
    assert all(clip.speech_fraction < 0.05 for clip in heard)  # a tone is none


def test_subtitles_and_titles_are_texts_of_their_clips(
    warehouse: Warehouse, dumped: Dumped
) -> None:
    (clip,) = of(warehouse, dumped.key("subtitled"))
    rows = warehouse.read(captions.TABLE).orderBy("annotator").collect()

    assert {(row.media_sha256, row.clip_id) for row in rows} == {(clip.media_sha256, clip.clip_id)}
    assert {row.signal_set for row in rows} == {clip.signal_set}
    assert [(row.annotator, row.language, row.text, row.provenance) for row in rows] == [
        ("subtitle:1", "eng", "One\nTwo", "mov_text"),
        ("title", None, "A title", "container"),
    ]
    assert told(warehouse)[clip.media_sha256].damaged_subtitles == 0


def test_clips_have_key_frames_that_are_scored_as_images(
    warehouse: Warehouse, dumped: Dumped
) -> None:
    shown = warehouse.read(keyframes.TABLE).collect()
    side = image_side()
    streams.run(warehouse, score_images.keyframes_stage(side), run_id="shown")
    scored = {row.media_sha256: row for row in warehouse.read(image_signals.TABLE).collect()}
    (entry,) = warehouse.read(batches.TABLE).where("run_id = 'shown'").collect()
    found = of(warehouse, dumped.key("cuts"))

    assert {one.clip_id for one in shown} >= {clip.clip_id for clip in found}
    for one in shown:
        assert hashlib.sha256(one.content).hexdigest() == one.media_sha256
        row = scored[one.media_sha256]
        assert (row.status, row.width_px, row.height_px) == ("ok", one.width_px, one.height_px)
        assert row.sharpness > 0
    assert entry.rows_in == entry.rows_kept == len(scored) == len({s.media_sha256 for s in shown})


def image_side() -> Side:
    return Side(
        table=image_signals.TABLE,
        key="media_sha256",
        signals={"sharpness": Sharpness()},
        build=partial(image_signals_udf, max_pixels=10**6, isolation=None),
        facts=("provider", *FACTS),
        models={"clip_model": None, "nsfw_model": None},
    )


def test_a_poisonous_video_costs_one_row_with_its_class(
    warehouse: Warehouse, dumped: Dumped
) -> None:
    expected = {dumped.key(name): name for name in films.DAMAGED}
    expected |= {dumped.key(name): error_class for name, (_, error_class) in POISON.items()}
    entries = warehouse.read(quarantine.TABLE).collect()
    refused = {key: row.status for key, row in told(warehouse).items() if row.status != "ok"}
    cut = {row.media_sha256 for row in warehouse.read(clips.TABLE).collect()}
    place = {row["media_sha256"]: name for name, row in dumped.rows.items()}

    assert refused == expected
    assert {entry.media_sha256: entry.error_class for entry in entries} == expected
    assert len(entries) == len(expected)
    assert not cut & set(expected)
    for entry in entries:
        assert (entry.stage, entry.sample_id) == ("score_videos", f"s-{entry.media_sha256}")
        assert entry.shard == dumped.rows[place[entry.media_sha256]]["path"]


def test_the_ledger_adds_up(warehouse: Warehouse, dumped: Dumped) -> None:
    (entry,) = warehouse.read(batches.TABLE).where("run_id = 'one'").collect()

    assert entry.rows_in == len(dumped.rows)
    assert entry.rows_kept == KEPT
    assert entry.rows_quarantined == len(films.DAMAGED) + len(POISON)
    assert entry.output_versions[clips.TABLE] == 1


def test_a_run_with_nothing_new_makes_no_version(warehouse: Warehouse, dumped: Dumped) -> None:
    before = equality.versions(warehouse)
    stage = score_videos.stage(score_videos.side(config(dumped.folder)))
    streams.run(warehouse, stage, run_id="again")

    assert equality.versions(warehouse) == before


def test_what_breaks_off_between_two_tables_is_not_decoded_again(
    warehouse: Warehouse, dumped: Dumped, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(dumped.folder).model_copy(
        update={"video": SETTINGS.model_copy(update={"sample_fps": 1.0})}
    )
    other = score_videos.side(settings)
    real = Batch.append

    def append(batch: Batch, frame: DataFrame, table: str, **named: Any) -> None:
        if table == video_signals.TABLE:
            raise RuntimeError("the power fails")
        real(batch, frame, table, **named)

    monkeypatch.setattr(Batch, "append", append)
    with pytest.raises(RuntimeError, match="the power fails"):
        streams.run(warehouse, score_videos.stage(other), run_id="broken")
    monkeypatch.undo()
    refusals = warehouse.read(quarantine.TABLE).count()
    never = replace(other, operator=None)  # type: ignore[arg-type]
    streams.run(warehouse, score_videos.stage(never), run_id="mended")

    (entry,) = warehouse.read(batches.TABLE).where("run_id = 'mended'").collect()
    sets = warehouse.read(clips.TABLE).groupBy("signal_set").count().collect()
    said = warehouse.read(captions.TABLE).groupBy("signal_set").count().collect()
    assert (entry.rows_in, entry.rows_kept) == (len(dumped.rows), KEPT)
    assert len({row["count"] for row in sets}) == 1 < len(sets)
    assert [row["count"] for row in said] == [2, 2]
    # Refused by both sets, each video stands in quarantine once.
    assert refusals == warehouse.read(quarantine.TABLE).count() == entry.rows_quarantined


def test_the_same_bytes_elsewhere_are_not_decoded_again(
    warehouse: Warehouse, dumped: Dumped
) -> None:
    """After a takedown and another delivery, say: the set knows the content."""
    key = dumped.key("cuts")
    fill(warehouse, [dumped.rows["cuts"] | {"path": "gone.mp4"}])
    before = [warehouse.version(table) for table in (clips.TABLE, video_signals.TABLE)]
    stage = score_videos.stage(score_videos.side(config(dumped.folder)))
    streams.run(warehouse, stage, run_id="reused")
    (entry,) = warehouse.read(batches.TABLE).where("run_id = 'reused'").collect()

    assert (entry.rows_in, entry.rows_kept, entry.rows_reused) == (1, 1, 1)
    assert [warehouse.version(table) for table in (clips.TABLE, video_signals.TABLE)] == before
    assert told(warehouse)[key].status == "ok"
