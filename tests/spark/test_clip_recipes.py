"""Recipes decide on clips, each fills its table of gold, and everything says so."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from pyspark.sql import SparkSession

from jobs import cycle, recipe_diff, score_videos, status, why
from jobs.cycle import CURATE_CLIPS, PUBLISH_CLIPS, Plan
from jobs.recipe import Recipe, load
from jobs.runtime.config import Config, Dump, Quality
from jobs.runtime.errors import GateFailed, NotFound, SluiceError
from jobs.runtime.models import Scoring
from jobs.runtime.tables import Warehouse, create_all
from schemas import batches, clip_pairs, clips, decisions, duplicates, gold_clips, samples
from tests.told_rows import append

SCORING: Final = cast(
    "Scoring",
    SimpleNamespace(
        images=SimpleNamespace(signal_set="images"), texts=SimpleNamespace(signal_set="texts")
    ),
)
MEASURED: Final = {
    "start_ms": 1000,
    "end_ms": 6000,
    "start_frame": 25,
    "end_frame": 150,
    "frames": 125,
    "fps": 25.0,
    "width_px": 1280,
    "height_px": 720,
    "motion_score": 0.05,
    "static_fraction": 0.1,
    "frozen_fraction": 0.0,
    "black_fraction": 0.0,
    "sharpness_mean": 40.0,
    "letterbox_fraction": 0.0,
    "pillarbox_fraction": 0.0,
    "has_audio": True,
}
GOOD: Final = {"nsfw_score_max": 0.1, "clip_score": 0.3, "faces_max": 2}
# A clip as delivered -> what it is otherwise, and why the two tiers reject it.
DELIVERED: Final[Mapping[str, tuple[dict[str, Any], list[str], list[str]]]] = {
    "good": ({}, [], []),
    "later": ({}, [], []),
    "still": (
        {"static_fraction": 1.0, "motion_score": 0.0},
        ["static"],
        ["static", "slow"],
    ),
    "half still": ({"static_fraction": 0.6}, [], ["static"]),
    "unscored": ({"nsfw_score_max": None}, ["nsfw"], ["nsfw"]),
    "unsafe": ({"nsfw_score_max": 0.5}, ["nsfw"], ["nsfw"]),
    "dark": ({"black_fraction": 0.7}, ["black"], ["black"]),
    "short": ({"end_ms": 2999}, ["length"], ["length"]),
    "long": ({"end_ms": 61_001, "black_fraction": 0.7}, ["length", "black"], ["length", "black"]),
    "small": ({"width_px": 500, "height_px": 900}, [], ["frame_size"]),
    "hanging": ({"frozen_fraction": 0.3}, [], ["frozen"]),
    "wide": ({"letterbox_fraction": 0.4}, [], ["bars"]),
    "upright": ({"pillarbox_fraction": 0.4}, [], ["bars"]),
    "blurred": ({"sharpness_mean": 2.0}, [], ["blurred"]),
    "ugly": ({"aesthetic_score_mean": 4.0}, [], ["aesthetics"]),
    "stamped": ({"watermark_score_max": 0.9}, [], ["watermark"]),
    "credits": ({"text_fraction_max": 0.5}, [], ["text"]),
    "copy": ({}, ["duplicate_exact"], ["duplicate_exact", "duplicate_near"]),
    "near": ({}, [], ["duplicate_near"]),
    "unmeasured": (
        {name: None for name in MEASURED if clips.SCHEMA[name].nullable},
        ["static", "black"],
        ["static", "slow", "frozen", "black", "bars", "bars", "blurred"],
    ),
}
DUPLICATE: Final = {"exact_clip": {"copy"}, "video": {"copy", "near"}}
KEPT: Final = {
    tier: {name for name, told in DELIVERED.items() if not told[place]}
    for tier, place in (("clips_all", 1), ("clips_high_quality", 2))
}


def tiers(**overrides: Any) -> tuple[Recipe, ...]:
    return tuple(
        load(name, overrides=overrides if "quality" in name else {}, thresholds={}) for name in KEPT
    )


def sample_id(name: str) -> str:
    return f"s-{name}"


class Delivered:
    """A warehouse of clips made by hand."""

    def __init__(self, spark: SparkSession, root: Path) -> None:
        config = Config(warehouse=str(root), dumps=(Dump(name="d", path=str(root)),))
        default = load("default", overrides={}, thresholds={"clip_score": 0.2})
        warehouse = Warehouse(spark, str(root))
        self.plan = Plan(config, warehouse, SCORING, score_videos.side(config), default, tiers())
        self.warehouse = warehouse
        create_all(warehouse, default.name)
        warehouse.create(clips.TABLE)
        ours = self.plan.clips
        columns = {"clips": [], "pairs": [], "samples": []}  # type: dict[str, list[dict[str, Any]]]
        for number, (name, (changes, _, _)) in enumerate(DELIVERED.items()):
            # What is a copy is the same clip, brought by another sample.
            clip_id = "c-good" if name == "copy" else f"c-{name}"
            key = {"clip_id": clip_id, "media_sha256": f"m{clip_id}", "clip_index": 1}
            if name != "copy":
                for each in (ours.clip_signal_set, "older"):
                    row = {**MEASURED, **changes, **key, "signal_set": each}
                    columns["clips"].append(row)
            delivered = {
                **key,
                "sample_id": sample_id(name),
                "ingest_ordinal": clip_pairs.FIRST_ORDINAL + number,
                "video_sample_id": f"v-{name}",
                "captions": [],
                "clip_signal_set": ours.clip_signal_set,
            }
            for each in (ours.signal_set, "other"):
                # Of another signal set nobody asks.
                row = {**delivered, **(GOOD | changes if each != "other" else {})}
                columns["pairs"].append({**row, "signal_set": each})
            columns["samples"].append(
                {"sample_id": f"v-{name}", "caption": f"a {name} one", "modality": "video_text"}
                | {"ingest_ordinal": number, "media_sha256": key["media_sha256"]}
            )
        append(warehouse, clips.TABLE, *columns["clips"])
        append(warehouse, samples.TABLE, *columns["samples"])
        self._pairs = columns["pairs"]

    def pair(self) -> None:
        """Only now is there anything to be judged."""
        self.warehouse.create(clip_pairs.TABLE)
        append(self.warehouse, clip_pairs.TABLE, *self._pairs)

    def judge(self, kind: str, name: str, *, is_duplicate: bool, revision: int) -> None:
        """A verdict of the search for duplicates."""
        verdict = {"is_duplicate": is_duplicate, "similarity": 0.8 if is_duplicate else 1.0}
        verdict["representative_id"] = sample_id("good" if is_duplicate else name)
        ordinal = clip_pairs.FIRST_ORDINAL + list(DELIVERED).index(name)
        row = {"kind": kind, "sample_id": sample_id(name), "ingest_ordinal": ordinal}
        append(self.warehouse, duplicates.TABLE, {**row, **verdict, "revision": revision})

    def search(self) -> None:
        """The first verdicts, of both kinds."""
        rows = [
            {"kind": kind, "sample_id": sample_id(name)}
            | {"ingest_ordinal": clip_pairs.FIRST_ORDINAL + number}
            | {"is_duplicate": name in found, "similarity": 1.0, "revision": 0}
            | {"representative_id": sample_id("good" if name in found else name)}
            for kind, found in DUPLICATE.items()
            for number, name in enumerate(DELIVERED)
        ]
        append(self.warehouse, duplicates.TABLE, *rows)

    def run(self, *names: str, planned: Plan | None = None) -> None:
        for name in names:
            cycle.run_stage(planned or self.plan, name, run_id="run")

    def reasons(self) -> dict[str, dict[str, list[str]]]:
        """Recipe -> sample -> reasons that hold."""
        found: dict[str, dict[str, list[str]]] = {}
        for row in self.warehouse.current(decisions.TABLE).collect():
            assert row.ingest_ordinal >= clip_pairs.FIRST_ORDINAL
            assert row.first_reason == (row.reasons[0].reason if row.reasons else None)
            of_recipe = found.setdefault(row.recipe, {})
            of_recipe[row.sample_id] = [reason.reason for reason in row.reasons]
        return found

    def gold(self, recipe: str) -> dict[str, Any]:
        rows = self.warehouse.read(f"gold.{recipe}").collect()
        assert len({row.sample_id for row in rows}) == len(rows)
        return {row.sample_id: row for row in rows}

    def entries(self) -> list[Any]:
        return self.warehouse.read(batches.TABLE).orderBy("started_at").collect()

    def versions(self) -> dict[str, int]:
        return {name: self.warehouse.version(name) for name in self.warehouse.tables()}


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """Decided and published once; before that, what must not happen."""
    found = Delivered(spark, tmp_path_factory.mktemp("warehouse"))
    before = found.versions()
    found.run(CURATE_CLIPS, PUBLISH_CLIPS)
    assert found.versions() == before
    assert not (Path(found.warehouse.root) / "_checkpoints" / CURATE_CLIPS).exists()
    with pytest.raises(NotFound, match=r"table silver\.clip_pairs is not in"):
        recipe_diff.diff(found.warehouse, found.plan.clips, *found.plan.clip_recipes)
    found.pair()
    with pytest.raises(
        SluiceError, match=r"no verdict on duplicates yet.* run the stage dedup_clips"
    ):
        found.run(CURATE_CLIPS)
    assert found.entries() == []
    found.search()
    found.run(CURATE_CLIPS, PUBLISH_CLIPS)
    return found


def test_every_clip_has_all_its_reasons_by_each_recipe(delivered: Delivered) -> None:
    assert delivered.reasons() == {
        tier: {sample_id(name): told[place] for name, told in DELIVERED.items()}
        for tier, place in (("clips_all", 1), ("clips_high_quality", 2))
    }


@pytest.mark.parametrize(("tier", "place"), [(0, 1), (1, 2)], ids=KEPT)
def test_every_rule_rejects_something(tier: int, place: int) -> None:
    told = {reason for case in DELIVERED.values() for reason in case[place]}
    assert told == {rule.reason for rule in tiers()[tier].rules}


def test_what_came_in_is_kept_or_rejected(delivered: Delivered) -> None:
    first = {entry.stage: [] for entry in delivered.entries()}  # type: dict[str, list[Any]]
    for entry in delivered.entries():
        first[entry.stage].append(entry)
    for entry, kept in zip(first[CURATE_CLIPS][:2], KEPT.values(), strict=True):
        assert entry.rows_in == len(DELIVERED) == entry.rows_kept + entry.rows_rejected
        assert entry.rows_kept == len(kept)
    for entry, kept in zip(first[PUBLISH_CLIPS][:2], KEPT.values(), strict=True):
        assert entry.rows_in == entry.rows_kept == len(kept)


def test_gold_has_the_kept_clips_with_what_was_delivered(delivered: Delivered) -> None:
    for recipe, version in ((tier.name, tier.version) for tier in delivered.plan.clip_recipes):
        rows = delivered.gold(recipe)
        assert rows.keys() == {sample_id(name) for name in KEPT[recipe]}
        row = rows["s-good"]
        assert (row.caption, row.clip_id, row.start_ms, row.end_ms, row.has_audio) == (
            "a good one",
            "c-good",
            1000,
            6000,
            True,
        )
        assert (row.recipe_version, row.signal_set) == (version, delivered.plan.clips.signal_set)
        assert row.asDict().keys() == set(gold_clips.SCHEMA.names)


def test_a_second_run_writes_nothing(delivered: Delivered) -> None:
    before = delivered.versions()
    delivered.run(CURATE_CLIPS, PUBLISH_CLIPS)
    assert delivered.versions() == before


def test_outcomes_are_counted_by_recipe_and_first_reason(delivered: Delivered) -> None:
    told = {(recipe, outcome): count for recipe, outcome, count in status._clips(delivered.plan)}

    assert told["clips_all", "kept"] == len(KEPT["clips_all"])
    assert told["clips_all", "nsfw"] == 2
    assert sum(count for (recipe, _), count in told.items() if recipe == "clips_all") == len(
        DELIVERED
    )


def test_why_tells_what_became_of_a_clip_and_of_a_video(delivered: Delivered) -> None:
    versions = [tier.version for tier in delivered.plan.clip_recipes]
    (story,) = why.explain(delivered.warehouse, "s-half still")
    assert story.subject == "clip c-half still of sample v-half still"
    assert story.fate == (
        f"clips_all {versions[0]}: kept; clips_high_quality {versions[1]}:"
        " rejected: static (static_fraction 0.600000, must be <= 0.5)"
    )
    assert {name for name, _ in story.steps} >= {
        samples.TABLE,
        clips.TABLE,
        clip_pairs.TABLE,
        duplicates.TABLE,
        decisions.TABLE,
        "gold.clips_all",
    }
    # One clip, brought by two samples.
    told = why.explain(delivered.warehouse, "c-good")
    assert {each.subject for each in told} == {
        "clip c-good of sample v-good",
        "clip c-good of sample v-copy",
    }
    (video,) = why.explain(delivered.warehouse, "v-half still")
    assert video.fate == "registered: waits for score_videos"
    lines = why._judged(delivered.warehouse, {"sample_id": "v-half still"})
    assert lines == [
        f"clips_all {versions[0]}: 1 kept",
        f"clips_high_quality {versions[1]}: 1 rejected for static",
    ]


def test_a_diff_names_the_clips_that_move(delivered: Delivered) -> None:
    before, after = tiers()[1], tiers(motion={"max": 0.7}, black={"max": 0.8})[1]
    moved = recipe_diff.diff(delivered.warehouse, delivered.plan.clips, before, after).collect()
    assert {(row.sample_id, row.movement) for row in moved} == {
        ("s-half still", "joins"),
        ("s-dark", "joins"),
    }


def test_a_refusal_of_one_recipe_does_not_hinder_another(delivered: Delivered) -> None:
    # Another version of both, so that there is something to publish.
    first, second = tiers(sharpness={"min": 6})
    changed = replace(second, name="clips_narrow"), replace(first, name="clips_broad")
    config = delivered.plan.config.model_copy(
        update={"quality": Quality(min_rows=len(KEPT["clips_all"]))}
    )
    planned = replace(delivered.plan, config=config, clip_recipes=changed)
    delivered.run(CURATE_CLIPS, planned=planned)
    assert {row.name for row in changed} <= {
        row.recipe for row in delivered.warehouse.read(decisions.TABLE).collect()
    }

    with pytest.raises(GateFailed, match="enough rows") as refused:
        delivered.run(PUBLISH_CLIPS, planned=planned)

    assert "gold.clips_narrow" in str(refused.value)
    assert "gold.clips_broad" not in str(refused.value)
    assert delivered.gold("clips_narrow") == {}
    assert delivered.gold("clips_broad").keys() == {sample_id(name) for name in KEPT["clips_all"]}


def test_another_verdict_decides_again_and_gold_follows(delivered: Delivered) -> None:
    # Last: it changes what the others look at.
    delivered.judge("video", "near", is_duplicate=False, revision=1)
    delivered.judge("exact_clip", "later", is_duplicate=True, revision=1)
    # Of samples nobody asks here.
    append(
        delivered.warehouse,
        duplicates.TABLE,
        {"kind": "phash", "sample_id": "s-good", "is_duplicate": True, "revision": 1},
    )

    delivered.run(CURATE_CLIPS, PUBLISH_CLIPS)

    found = delivered.reasons()
    assert found["clips_high_quality"]["s-near"] == []
    assert found["clips_all"]["s-later"] == ["duplicate_exact"]
    assert found["clips_all"]["s-good"] == []
    assert delivered.gold("clips_all").keys() == {
        sample_id(name) for name in KEPT["clips_all"] - {"later"}
    }
    assert delivered.gold("clips_high_quality").keys() == {
        sample_id(name) for name in KEPT["clips_high_quality"] - {"later"} | {"near"}
    }
    for entry in delivered.entries():
        assert entry.rows_in == entry.rows_kept + entry.rows_rejected
