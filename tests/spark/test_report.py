"""The report's numbers are those of the tables, and only of the recipe version asked for."""

import json
from datetime import UTC, datetime

import pytest

from jobs import recipe as recipes
from jobs import report
from jobs.report import measure as measures
from jobs.report.measure import KEPT, ask, measure, media, questions
from jobs.runtime.config import Config, Dump, Models
from jobs.runtime.errors import NotFound
from jobs.runtime.lineage import Run
from jobs.runtime.tables import Warehouse
from tests.told_rows import append, jpeg

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = Run("ab" * 16, is_tracked=False)
RECIPE = recipes.load("default", overrides={}, thresholds={"clip_score": 0.21})
SIGNAL_SET = "cafe"
# sample -> reasons, clip_score, nsfw_score; "e" is a sample that could not be scored.
SAMPLES = {
    "a": ([], 0.41, 0.1),
    "b": ([], 0.40, 1.0),
    "c": (["nsfw"], 0.3, 0.91),
    "d": (["text_length", "clip_score", "text_length"], -0.09, 0.1),
    "e": None,
}


def decision(sample, reasons, version):
    return {
        "recipe": RECIPE.name,
        "recipe_version": version,
        "sample_id": sample,
        "is_kept": not reasons,
        "first_reason": reasons[0] if reasons else None,
        "reasons": [
            {"reason": r, "rule": r, "signal": r, "value": "0", "threshold": "> 1"} for r in reasons
        ],
    }


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory):
    """2 kept, 4 rejected, 5 quarantined, 2 of them one video, another video, 1 waits.

    Beside them another recipe version and set.
    """
    for layer in ("bronze", "silver", "gold", "ops"):
        spark.sql(f"DROP DATABASE IF EXISTS {layer} CASCADE")  # what other tests registered
    filled = Warehouse(spark, str(tmp_path_factory.mktemp("warehouse")))
    scored = {name: facts for name, facts in SAMPLES.items() if facts}
    append(
        filled,
        "bronze.samples",
        *(
            {"sample_id": s, "media_sha256": f"m{s}", "text_sha256": f"t{s}", "caption": f"<b>{s}"}
            for s in SAMPLES
        ),
        *(
            {"sample_id": s, "media_sha256": m, "modality": "video_text"}
            for s, m in (("x", "refused"), ("y", "refused"), ("z", "cut"))
        ),
    )
    append(
        filled,
        "bronze.media",
        *(
            {"media_sha256": f"m{s}", "content": jpeg(40 * place), "batch": f"{place}.ingest"}
            for place, s in enumerate(SAMPLES)
        ),
    )
    append(
        filled,
        "silver.pairs",
        *(
            {"sample_id": s, "media_sha256": f"m{s}", "text_sha256": f"t{s}", "clip_score": clip}
            | {"signal_set": each, "image_signal_set": each, "text_signal_set": each}
            for each in (SIGNAL_SET, "old")
            for s, (_, clip, _) in scored.items()
        ),
    )
    append(
        filled,
        "silver.image_signals",
        *(
            {"media_sha256": f"m{s}", "signal_set": each, "nsfw_score": nsfw, "sharpness": 100.0}
            | {"width_px": 300, "height_px": 200}
            for each in (SIGNAL_SET, "old")
            for s, (_, _, nsfw) in scored.items()
        ),
    )
    append(
        filled,
        "silver.text_signals",
        *(
            {"text_sha256": f"t{s}", "signal_set": SIGNAL_SET, "language": "en"}
            | {"language_score": 0.9}
            for s in scored
        ),
    )
    append(
        filled,
        "ops.decisions",
        *(decision(s, reasons, RECIPE.version) for s, (reasons, _, _) in scored.items()),
        *(decision(s, ["image_size"], "older") for s in scored),
    )
    append(
        filled,
        "ops.quarantine",
        {"quarantine_id": "1", "stage": "ingest", "error_class": "empty_media"},
        {"quarantine_id": "2", "stage": "pair", "error_class": "corrupt_image", "sample_id": "e"},
        {"quarantine_id": "3", "stage": "fetch", "error_class": "http_gone", "sample_id": "u"},
        {"quarantine_id": "4", "stage": "ingest", "error_class": "truncated_shard"},
        {"quarantine_id": "5", "stage": "score_videos", "error_class": "no_frames"}
        | {"media_sha256": "refused", "sample_id": "x"},
    )
    append(filled, "ops.retries", {"quarantine_id": "4"})
    append(filled, "bronze.urls", *({"sample_id": s} for s in ("u", "v", "w")))
    append(
        filled,
        "ops.rejects",
        {"input_id": "5", "stage": "fetch", "reason": "opted_out", "sample_id": "v"},
        {"input_id": "6", "stage": "ingest", "reason": "too_few_bytes"},
        {"input_id": "7", "stage": "ingest", "reason": "already_present"},
    )
    # Of what was taken down, one had been kept, one quarantined, one turned away.
    append(filled, "ops.decisions", decision("gone", ["taken_down"], RECIPE.version))
    append(
        filled,
        "ops.quarantine",
        {"quarantine_id": "6", "stage": "pair", "error_class": "corrupt_image", "sample_id": "g2"},
    )
    append(filled, "ops.rejects", {"input_id": "8", "stage": "fetch", "sample_id": "g3"})
    append(
        filled, "ops.tombstones", *({"kind": "sample_id", "key": s} for s in ("gone", "g2", "g3"))
    )
    label = f"{RECIPE.name}-{RECIPE.version}-{SIGNAL_SET}"
    ledger = {"rows_in": 4, "rows_kept": 2, "rows_rejected": 2, "duration_s": 2.0}
    append(
        filled,
        "ops.batches",
        {"stage": "curate", "checkpoint": label, "run_id": RUN.run_id, **ledger}
        | {"output_versions": {"ops.decisions": 1}},
        {"stage": "curate", "checkpoint": f"{RECIPE.name}-older-old", "run_id": "r", **ledger}
        | {"output_versions": {"ops.decisions": 0}},
    )
    append(filled, "gold.default", {"sample_id": "a"}, {"sample_id": "b"})
    filled.register()
    return filled


@pytest.fixture(scope="module")
def answers(warehouse):
    return {name: list(a.rows) for name, a in measure(warehouse, RECIPE, RUN.run_id).items()}


@pytest.fixture
def config(warehouse, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "model.yaml").write_text(
        "name: tiny\ntask: clip\nis_demonstration: true\nfiles:\n"
        f"  image: {{path: image.onnx, sha256: {'ab' * 32}}}\n"
    )
    return Config(
        warehouse=warehouse.root,
        dumps=(Dump(name="d", path="x"),),
        models=Models(clip=str(folder)),
    )


def test_the_funnel_counts_each_input_once(answers):
    counted = {"met": 13, "quarantined": 5, "rejected": 4, "videos": 1, "kept": 2, "gold": 2}
    assert answers["funnel"] == [counted]  # one url waits to be fetched


def test_a_sample_counts_under_its_first_reason(answers):
    assert answers["first_reasons"] == [
        {"reason": "nsfw", "samples": 1},
        {"reason": "opted_out", "samples": 1},
        {"reason": "text_length", "samples": 1},
        {"reason": "too_few_bytes", "samples": 1},
    ]


def test_a_reason_that_two_rules_gave_overlaps_once(answers):
    matrix = {(row["reason"], row["other"]): row["samples"] for row in answers["overlap"]}
    assert matrix == {
        ("nsfw", "nsfw"): 1,
        ("clip_score", "clip_score"): 1,
        ("clip_score", "text_length"): 1,
        ("text_length", "clip_score"): 1,
        ("text_length", "text_length"): 1,
    }


def test_quarantine_is_counted_by_class_and_stage(answers):
    assert answers["quarantine"] == [
        {"error_class": "no_frames", "stage": "score_videos", "inputs": 2},  # one video, twice
        {"error_class": "corrupt_image", "stage": "pair", "inputs": 1},
        {"error_class": "empty_media", "stage": "ingest", "inputs": 1},
        {"error_class": "http_gone", "stage": "fetch", "inputs": 1},
    ]


@pytest.mark.parametrize(
    ("name", "bins"),
    [
        ("clip_score", [(-0.1, False), (0.3, False), (0.4, True)]),
        ("nsfw_score", [(0.1, False), (0.1, True), (0.9, False), (0.98, True)]),
        ("sharpness", [(2.0, False), (2.0, True)]),
    ],
)
def test_a_histogram_has_the_scored_samples_of_this_signal_set(answers, name, bins):
    assert sum(row["samples"] for row in answers[name]) == 4
    assert [(pytest.approx(float(row["bin"])), row["is_kept"]) for row in answers[name]] == bins


def test_languages_and_sizes_tell_kept_from_all(answers):
    (language,) = answers["languages"]
    assert (language["language"], language["samples"], language["kept"]) == ("en", 4, 2)
    assert float(language["mean_confidence"]) == 0.9
    sizes = {(row["bin"], row["is_kept"]): row["samples"] for row in answers["shorter_side_px"]}
    assert sizes == {(128, False): 2, (128, True): 2}


def test_each_outcome_has_a_sheet(answers):
    shown = {(row["sheet"], row["sample_id"]) for row in answers["sheets"]}
    assert shown == {(KEPT, "a"), (KEPT, "b"), ("nsfw", "c"), ("text_length", "d")}


def test_a_sheet_is_cut_to_the_least_ids(warehouse, monkeypatch):
    monkeypatch.setattr(measures, "THUMBNAILS", 1)
    sql = questions(RECIPE, RUN.run_id, SIGNAL_SET)["sheets"]
    assert [row["sample_id"] for row in ask(warehouse, sql).rows] == ["a", "c", "d"]


def test_the_ledger_and_this_run_are_summed(answers):
    (curate,) = answers["ledger"]
    assert (curate["batches"], curate["rows_in"], curate["adds_up"]) == (2, 8, True)
    assert answers["this_run"] == [{"batches": 1, "rows_in": 4}]
    assert answers["versions"] == [{"table": "ops.decisions", "version": 1}]


def test_a_version_that_decided_nothing_yet_has_a_funnel(warehouse):
    stricter = recipes.load("default", overrides={}, thresholds={"clip_score": 0.9})
    (counted,) = ask(warehouse, questions(stricter, RUN.run_id, "")["funnel"]).rows
    told = {"met": 13, "quarantined": 5, "rejected": 2, "videos": 1, "kept": 0, "gold": 2}
    assert counted == told


def test_only_the_media_asked_for_are_fetched(warehouse):
    assert media(warehouse, ["ma", "md", "ma", "unknown"]) == {"ma": jpeg(0), "md": jpeg(120)}
    assert media(warehouse, []) == {}
    assert media(warehouse, ["unknown"]) == {}


def test_the_page_is_written_with_its_figures_and_numbers(warehouse, config, tmp_path):
    index = report.write(warehouse, config, RECIPE, RUN, folder=tmp_path / "report")
    page = index.read_text()
    assert "<b>13</b> met = <b>5</b> quarantined" in page
    assert "&lt;b&gt;a" in page
    assert "demonstration model" in page
    assert page.count('alt="Blurred image"') == 2
    names = {path.name for path in index.parent.iterdir()}
    assert {"funnel.svg", "contact_kept.jpg", "contact_nsfw.jpg", "report.json"} <= names
    stored = json.loads((index.parent / "report.json").read_text())
    assert stored["funnel"]["undecided"] == 1


def test_a_warehouse_without_tables_has_no_report(spark, config, tmp_path):
    empty = Warehouse(spark, str(tmp_path / "empty"))
    with pytest.raises(NotFound, match=r"table gold\.default is not in"):
        report.write(empty, config, RECIPE, RUN, folder=tmp_path / "report")
