import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import functions as F
from typer.testing import CliRunner

from jobs import choose_frames, cycle, recipe_diff, why
from jobs.__main__ import app
from jobs.demo import films, footage, truth
from jobs.runtime.errors import GateFailed
from tests.e2e.conftest import Demo, versions

CUT = len(films.FILMS) + 2  # and real footage, and its copy;
REFUSED = len(films.DAMAGED) + 1  # a broken one too
AGAIN = ("demo-00000.tar", "demo-videos.tar")  # shards that come under two names
Copy = Callable[..., Demo]
Entry = tuple[str, str | None, int]


def entry(row: Any) -> Entry:
    return row["shard"], row["sample_key"], row["occurrence"]


@pytest.fixture(scope="module")
def fates(demo: Demo) -> dict[Entry, list[dict[str, Any]]]:
    """What the tables say of every entry: quarantine rows, and decisions of samples."""
    read = demo.plan.warehouse.read
    decided = (
        read("ops.decisions")
        .join(read("bronze.samples"), "sample_id")
        .selectExpr(
            "shard",
            "sample_key",
            "occurrence",
            "is_kept",
            "first_reason",
            "sample_id",
            "transform(reasons, r -> r.reason) AS reasons",
            "media_sha256",
            "is_extension_mismatch",
        )
    )
    found: dict[Entry, list[dict[str, Any]]] = {}
    for row in decided.collect():
        found.setdefault(entry(row), []).append(row.asDict())
    samples = {row.sample_id: row for row in read("bronze.samples").collect()}
    cut = read("silver.video_signals").where("status = 'ok'").select("media_sha256", "clips")
    for row in read("bronze.samples").join(cut, "media_sha256").collect():
        found.setdefault(entry(row), []).append(row.asDict())
    for row in read("ops.quarantine").collect():
        refused = row.asDict()
        known = samples.get(row.sample_id)
        refused["occurrence"] = known.occurrence if known else _occurrence(row)
        found.setdefault(entry(refused), []).append(refused)
    return found


def _occurrence(row: Any) -> int:
    # Only a duplicate key comes again; its detail says which time it was.
    if row.error_class != "duplicate_key":
        return 0
    return int(row.detail.split()[1]) - 1


@pytest.fixture(scope="module")
def planted(demo: Demo) -> list[dict[str, Any]]:
    return truth.expected(demo.dump)


def test_every_member_of_every_tar_is_decided_cut_or_quarantined_exactly_once(
    demo: Demo, fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    listed = {(e.shard, e.sample_key, e.occurrence) for e in truth.listing(demo.dump)}

    assert listed == set(fates)
    assert {len(rows) for rows in fates.values()} == {1}


def test_every_planted_quarantine_has_its_class(
    planted: list[dict[str, Any]], fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    expected = {entry(p): p["error_class"] for p in planted if p["fate"] == "quarantined"}
    found = {key: rows[0]["error_class"] for key, rows in fates.items() if "error_class" in rows[0]}

    assert found == expected


def test_every_planted_rejection_has_its_reason(
    planted: list[dict[str, Any]], fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    expected = [p for p in planted if p["fate"] == "rejected" and p["reason"] != "clip_score"]
    missed = [p for p in expected if p["reason"] not in fates[entry(p)][0]["reasons"]]

    assert missed == []
    assert {p["reason"] for p in expected} >= {
        "duplicate_exact",
        "duplicate_media",
        "duplicate_perceptual",
        "text_length",
        "text_language",
        "image_size",
        "image_aspect",
    }


@pytest.mark.parametrize(
    "reason",
    [
        "duplicate_exact",
        "duplicate_perceptual",
        "text_length",
        "text_language",
        "image_size",
        "image_aspect",
    ],
)
def test_no_other_entry_is_rejected_for_a_planted_reason(
    reason: str, planted: list[dict[str, Any]], fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    found = {key for key, rows in fates.items() if reason in rows[0].get("reasons", ())}
    expected = {entry(p) for p in planted if p["reason"] == reason}
    # Chinese has no spaces, so too few words; a text that is all but empty has no sure language.
    excused = {"text_length": {"text_zh"}, "text_language": {"text_empty", "text_one_word"}}
    may_be = {entry(p) for p in planted if p["group"] in excused.get(reason, ())}

    assert expected <= found <= expected | may_be


def test_copies_share_their_bytes_and_leave_one_survivor(
    demo: Demo, planted: list[dict[str, Any]], fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    read = demo.plan.warehouse.read
    media = read("bronze.media")
    signals = read("silver.image_signals")

    assert media.count() == media.select("media_sha256").distinct().count()
    assert media.count() == read("bronze.samples").select("media_sha256").distinct().count()
    shown = read("silver.keyframes").select("media_sha256").distinct().count()
    assert signals.count() == media.where("mime LIKE 'image/%'").count() + shown
    copies = [p for p in planted if p["group"] in ("exact_copy", "media_copy")]
    assert Counter(p["group"] for p in copies) == {"exact_copy": 30, "media_copy": 30}
    by_key = {p["sample_key"]: fates[entry(p)][0] for p in planted if p["sample_key"]}
    for copied in copies:
        original = by_key[copied["original"]]
        assert original["media_sha256"] == by_key[copied["sample_key"]]["media_sha256"]
        assert not {"duplicate_exact", "duplicate_media"} & set(original["reasons"])


def test_swapped_captions_are_rejected_and_fitting_ones_are_not(
    planted: list[dict[str, Any]], fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    def share_rejected(group: str) -> float:
        rows = [fates[entry(p)][0] for p in planted if p["group"] == group]
        return sum("clip_score" in row["reasons"] for row in rows) / len(rows)

    assert share_rejected("swapped_caption") >= 0.95
    assert share_rejected("scene") <= 0.05


def test_odd_formats_are_scored_with_their_flags(
    demo: Demo, planted: list[dict[str, Any]], fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    signals = {
        row.media_sha256: row.asDict()
        for row in demo.plan.warehouse.read("silver.image_signals").collect()
    }
    flagged = [p for p in planted if p["flags"] and p["fate"] != "quarantined"]
    assert len(flagged) > 1000
    for p in flagged:
        row = fates[entry(p)][0]
        found = signals[row["media_sha256"]] | {
            "is_extension_mismatch": row["is_extension_mismatch"]
        }
        assert {flag: found[flag] for flag in p["flags"]} == p["flags"], p


def test_films_become_clips_that_begin_at_their_cuts(
    demo: Demo, planted: list[dict[str, Any]], fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    expected = [p for p in planted if p["fate"] == "cut"]
    assert len(expected) == CUT
    for p in expected:
        (row,) = fates[entry(p)]
        of_video = F.col("media_sha256") == row["media_sha256"]
        found = demo.plan.warehouse.read("silver.clips").where(of_video).collect()
        assert len(found) == row["clips"]
        assert {clip.start_frame for clip in found} >= {0, *p["cuts"]}
    (story,) = why.explain(demo.plan.warehouse, row["sample_id"])
    assert story.fate.startswith(f"cut into {row['clips']} clips; clips_all ")
    assert [table for table, _ in story.steps].count("silver.clips") == row["clips"]
    broken = next(p for p in planted if p["error_class"] == "no_frames")
    (story,) = why.explain(demo.plan.warehouse, fates[entry(broken)][0]["sample_id"])
    assert story.fate == "quarantined: no_frames (score_videos)"


def test_a_copied_shot_stands_behind_the_one_it_was_copied_from(demo: Demo) -> None:
    read = demo.plan.warehouse.read
    names = read("bronze.samples").selectExpr("sample_id AS video_sample_id", "sample_key")
    spans = read("silver.clips").select("clip_id", "start_frame")
    told = read("silver.clip_pairs").join(names, "video_sample_id").join(spans, "clip_id")
    clips = {row.sample_id: row for row in told.collect()}
    copied = [row for row in clips.values() if row.sample_key == "footage_copy"]
    verdicts = {
        row.sample_id: row
        for row in read("silver.duplicates").where("kind = 'video' AND is_duplicate").collect()
    }

    (copy,) = copied
    original = clips[verdicts[copy.sample_id].representative_id]
    assert (original.sample_key, original.start_frame) == ("footage", footage.CUTS[-1])
    # The broad tier keeps it, the narrow one knows what it is.
    reasons = {
        row.recipe: {reason.reason for reason in row.reasons}
        for row in read("ops.decisions").where(F.col("sample_id") == copy.sample_id).collect()
    }
    assert reasons["clips_all"] == set()
    assert "duplicate_near" in reasons["clips_high_quality"]


def test_gold_of_clips_is_what_its_recipe_keeps(demo: Demo) -> None:
    read = demo.plan.warehouse.read
    for recipe in ("clips_all", "clips_high_quality"):
        kept = read("ops.decisions").where((F.col("recipe") == recipe) & F.col("is_kept"))
        published = read(f"gold.{recipe}")
        assert {row.sample_id for row in published.select("sample_id").collect()} == {
            row.sample_id for row in kept.select("sample_id").collect()
        }
        assert published.where("nsfw_score_max IS NULL").isEmpty()
    assert 0 < read("gold.clips_high_quality").count() < read("gold.clips_all").count()


def test_few_frames_of_kept_clips_are_chosen_by_what_their_video_came_with(
    demo: Demo, tmp_path: Path
) -> None:
    found = choose_frames.run(
        demo.plan.warehouse, demo.plan.config, str(tmp_path), most=2, recipe="clips_all"
    )

    rows = pq.read_table(tmp_path).to_pylist()
    gold = demo.plan.warehouse.read("gold.clips_all")
    kept = {(row.media_sha256, row.clip_id) for row in gold.collect()}
    assert {(row["video_sha256"], row["clip_id"]) for row in rows} <= kept
    of_video = Counter(row["video_sha256"] for row in rows)
    assert set(of_video) == {video for video, _ in kept}
    assert max(of_video.values()) == 2
    for row in rows:
        assert hashlib.sha256(row["content"]).hexdigest() == row["media_sha256"]
        assert row["clip_score"] is not None
    assert (found.frames, found.videos) == (len(rows), len(of_video))


def test_every_batch_adds_up_and_so_does_the_whole(demo: Demo) -> None:
    rows = demo.plan.warehouse.read("ops.batches").collect()
    for row in rows:
        assert row.rows_in == row.rows_kept + row.rows_rejected + row.rows_quarantined
    by_stage = {row.stage: row for row in rows}
    videos = by_stage["score_videos"]
    assert by_stage["ingest"].rows_kept == by_stage["pair"].rows_in + videos.rows_in
    assert (videos.rows_kept, videos.rows_quarantined) == (CUT, REFUSED)
    assert by_stage["pair"].rows_kept == by_stage["dedup"].rows_in == by_stage["curate"].rows_in
    assert by_stage["curate"].rows_kept == by_stage["publish"].rows_kept


def test_commits_and_rows_carry_the_run(demo: Demo) -> None:
    assert demo.run is not None
    spark, warehouse = demo.plan.warehouse.spark, demo.plan.warehouse
    history = spark.sql(f"DESCRIBE HISTORY delta.`{warehouse.path('gold.default')}`")
    said = [json.loads(row.userMetadata) for row in history.collect() if row.userMetadata]

    assert {each["run_id"] for each in said} == {demo.run.run_id}
    assert [
        r.run_id for r in warehouse.read("gold.default").select("run_id").distinct().collect()
    ] == [demo.run.run_id]


def test_a_second_run_makes_no_version_and_shows_the_funnel(copy: Copy) -> None:
    again = copy()
    before = versions(again.plan)
    for layer in ("bronze", "silver", "ops", "gold"):  # as in a process that has just started
        again.plan.warehouse.spark.sql(f"DROP DATABASE IF EXISTS {layer} CASCADE")

    told = CliRunner().invoke(app, ["run", str(again.config_path)])

    assert told.exit_code == 0, told.output
    assert "in gold.default" in told.output
    assert versions(again.plan) == before


def test_the_same_shards_under_another_name_run_no_model(
    demo: Demo, copy: Copy, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    again.mkdir()
    for shard in AGAIN:
        (again / shard).hardlink_to(demo.dump / shard)
    twice = copy(more_dumps=({"name": "again", "path": str(again)},))
    before = versions(twice.plan)
    read = twice.plan.warehouse.read
    told = read("bronze.samples").where(F.col("shard").isin(*AGAIN)).select("sample_id")
    counts = {
        "bronze.samples": told.count(),
        "ops.quarantine": read("ops.quarantine").where(F.col("shard").isin(*AGAIN)).count(),
        "silver.pairs": read("silver.pairs").join(told, "sample_id").count(),
    }
    assert all(counts.values())
    expected = {table: read(table).count() + more for table, more in counts.items()}
    expected["ops.quarantine"] -= REFUSED  # a video is refused once, as it is decoded

    cycle.run_alone(twice.plan, *cycle.STAGE_NAMES)

    after = versions(twice.plan)
    for table in ("bronze.media", "silver.image_signals", "silver.clips", "silver.video_signals"):
        assert after[table] == before[table], table
    assert after["silver.text_signals"] == before["silver.text_signals"]
    assert {table: read(table).count() for table in counts} == expected
    second = read("ops.decisions").join(
        read("bronze.samples").where("dump = 'again'").select("sample_id"), "sample_id"
    )
    # Its every sample is an exact copy of an earlier one.
    assert second.count() == counts["silver.pairs"]
    assert (
        second.where("array_contains(transform(reasons, r -> r.reason), 'duplicate_exact')").count()
        == second.count()
    )


def test_a_threshold_moves_exactly_the_rows_that_the_diff_names_and_runs_no_model(
    copy: Copy, demo: Demo
) -> None:
    asked = ["recipe", "calibrate", "--levels", "4", "--config", str(demo.config_path)]
    told = CliRunner().invoke(app, asked).stdout
    printed = yaml.safe_load(told[told.index("\nrecipe:") :])["recipe"]
    levels = printed["levels"]
    assert printed["overrides"].keys() == {"alignment"}
    stricter = copy("recipe.overrides.alignment.min=0.55", f"recipe.levels={json.dumps(levels)}")
    warehouse = stricter.plan.warehouse
    before = cycle.plan(
        stricter.plan.config.model_copy(
            update={
                "recipe": stricter.plan.config.recipe.model_copy(
                    update={"overrides": {"shorter_side": {"min": 64}}}
                )
            }
        ),
        warehouse.spark,
    ).recipe
    moved = recipe_diff.diff(warehouse, stricter.plan.pairs, before, stricter.plan.recipe)
    named = {row.sample_id for row in moved.collect()}
    assert {row["movement"] for row in recipe_diff.summary(moved)} == {"leaves"}
    was = {row.sample_id for row in warehouse.read("gold.default").collect()}
    signals = [warehouse.version(f"silver.{side}_signals") for side in ("image", "text")]

    cycle.run_alone(stricter.plan, *cycle.STAGE_NAMES)

    gold = warehouse.read("gold.default").collect()
    now = {row.sample_id for row in gold}
    edges_of = levels.get("of_language", {})
    for row in gold:
        edges = edges_of.get(row.language, levels["edges"])
        assert row.align_level == sum(row.clip_score >= edge for edge in edges)
    assert named
    assert was - now == named
    assert now <= was
    assert [warehouse.version(f"silver.{side}_signals") for side in ("image", "text")] == signals


def test_an_image_above_the_nsfw_threshold_is_rejected_for_it(copy: Copy, demo: Demo) -> None:
    read = demo.plan.warehouse.read
    scores = [
        r.nsfw_score for r in read("gold.default").orderBy(F.desc("nsfw_score")).limit(2).collect()
    ]
    threshold = sum(scores) / 2
    stricter = copy(f"recipe.overrides.nsfw.below={threshold}")

    cycle.run_alone(stricter.plan, *cycle.STAGE_NAMES)

    decided = stricter.plan.warehouse.read("ops.decisions").where(
        F.col("recipe_version") == stricter.plan.recipe.version
    )
    # Copies of the image are rejected for it too; of what was kept, it is the one that leaves.
    was_kept = read("gold.default").select("sample_id")
    rejected = decided.where("first_reason = 'nsfw'").join(was_kept, "sample_id").collect()
    assert len(rejected) == 1
    reason = rejected[0].reasons[0]
    assert float(reason.value) == pytest.approx(scores[0], rel=1e-5)
    assert reason.threshold == f"< {threshold:.6g}"


def test_a_failed_gate_publishes_nothing_and_leaves_gold_as_it_was(copy: Copy) -> None:
    strict = copy("quality.min_rows=1000000", "recipe.overrides.alignment.min=0.55")
    warehouse = strict.plan.warehouse
    before = warehouse.version("gold.default")

    with pytest.raises(GateFailed, match="enough rows") as refusal:
        cycle.run(strict.plan, command="gate")

    assert refusal.value.exit_code == 3
    assert warehouse.version("gold.default") == before
    page = (strict.plan.report_folder / "index.html").read_text()
    assert "enough rows" in page


def test_why_tells_kept_rejected_and_quarantined(
    demo: Demo, fates: dict[Entry, list[dict[str, Any]]]
) -> None:
    rows = [r[0] for r in fates.values()]
    kept = next(r for r in rows if r.get("is_kept"))
    rejected = next(r for r in rows if r.get("first_reason") == "duplicate_perceptual")
    refused = next(r for r in rows if r.get("error_class") == "empty_media")
    scored = next(r for r in rows if r.get("error_class") == "truncated_image")

    def story(key: str) -> why.Story:
        (told,) = why.explain(demo.plan.warehouse, key)
        return told

    assert story(kept["sample_id"]).fate.endswith("kept")
    assert "duplicate_perceptual" in story(rejected["sample_id"]).fate
    assert story(refused["quarantine_id"]).fate == "quarantined: empty_media (ingest)"
    assert story(scored["sample_id"]).fate == "quarantined: truncated_image (pair)"
    tables = [table for table, _ in story(kept["sample_id"]).steps]
    assert tables == [
        "bronze.shards",
        "bronze.samples",
        "silver.image_signals",
        "silver.text_signals",
        "silver.pairs",
        *["silver.duplicates"] * 5,
        "ops.decisions",
        "gold.default",
    ]
    bronze = dict(story(kept["sample_id"]).steps)["bronze.samples"]
    shard = (demo.dump / bronze["shard"]).read_bytes()
    import hashlib

    start = bronze["shard_offset_bytes"]
    content = shard[start : start + bronze["size_bytes"]]
    assert hashlib.sha256(content).hexdigest() == bronze["media_sha256"]
    assert bronze["table_version"] >= 1


def test_the_report_adds_up(demo: Demo) -> None:
    numbers = json.loads((demo.plan.report_folder / "report.json").read_text())
    funnel = numbers["funnel"]

    assert funnel["met"] == len(truth.listing(demo.dump))
    outcomes = (funnel[name] for name in ("quarantined", "rejected", "videos", "kept"))
    assert funnel["met"] == sum(outcomes)
    assert funnel["videos"] == CUT
    assert funnel["gold"] == funnel["kept"]


def test_nothing_was_written_outside_by_a_member_that_climbs(demo: Demo) -> None:
    assert not list(demo.folder.parent.glob("x.*"))
    assert not list(demo.folder.parent.parent.glob("x.*"))
