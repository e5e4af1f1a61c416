"""The page is valid, complete and safe, whatever the captions say."""

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from jobs import recipe as recipes
from jobs.report import page as pages
from jobs.report.measure import BINS, Answer, clip_outcomes, questions
from jobs.report.page import Page, Thumbnail, is_unsafe, number, render, thresholds
from jobs.runtime.cards import Card, CardFile
from jobs.runtime.errors import NotFound
from jobs.runtime.lineage import Run
from schemas.error_classes import ERROR_CLASSES

RECIPE = recipes.load("default", overrides={}, thresholds={"clip_score": 0.21})
RUN_ID = "ab" * 16
ROWS = {
    "signal_set": [{"signal_set": "cafe"}],
    "funnel": [
        {
            "met": 1345,
            "quarantined": 45,
            "rejected": 300,
            "videos": 0,
            "kept": 1000,
            "gold": 990,
        }
    ],
    "first_reasons": [
        {"reason": "nsfw", "samples": 200},
        {"reason": "text_length", "samples": 100},
    ],
    "overlap": [
        {"reason": "nsfw", "other": "nsfw", "samples": 210},
        {"reason": "nsfw", "other": "text_length", "samples": 17},
        {"reason": "text_length", "other": "nsfw", "samples": 17},
        {"reason": "text_length", "other": "text_length", "samples": 107},
    ],
    "quarantine": [{"error_class": "empty_media", "stage": "ingest", "inputs": 45}],
    "clip_score": [{"bin": 0.2, "is_kept": True, "samples": 1000}],
    "nsfw_score": [{"bin": 0.2, "is_kept": True, "samples": 1000}],
    "sharpness": [{"bin": 2.1, "is_kept": True, "samples": 1000}],
    "languages": [{"language": "en", "samples": 1300, "kept": 1000, "mean_confidence": 0.91}],
    "shorter_side_px": [
        {"bin": 64.0, "is_kept": True, "samples": 100},
        {"bin": 128.0, "is_kept": False, "samples": 300},
        {"bin": 128.0, "is_kept": True, "samples": 900},
    ],
    "sheets": [],
    "ledger": [],
    "this_run": [{"batches": 7, "rows_in": 1345}],
    "versions": [{"table": "gold.default", "version": 0}],
    "models": [],
}
HOSTILE = '</figcaption><script>alert(1)</script><img src=x onerror="alert(2)">'


def thumbnail(**changes):
    fields = {
        "sample_id": "0f" * 16,
        "caption": "a red circle",
        "reasons": (),
        "clip_score": 0.3,
        "nsfw_score": 0.1,
        "is_blurred": False,
        "image": b"\xff\xd8\xff",
    }
    return Thumbnail(**{**fields, **changes})


def verdict(*, is_met):
    result = {
        "expectation": "sample_id is unique",
        "severity": "critical",
        "is_met": is_met,
        "observed": 0.0 if is_met else 3.0,
        "bound": "= 0",
    }
    return {"suite": "gold.default", "is_passed": is_met, "results": [result]}


@pytest.fixture(scope="module")
def page():
    sql = {"signal_set": "SELECT 1", **questions(RECIPE, RUN_ID, "cafe")}
    sql |= dict.fromkeys(BINS, sql.pop("distributions"))
    answers = {name: Answer(sql[name], tuple(rows)) for name, rows in ROWS.items()}
    card = Card(
        name="demo-clip",
        task="clip",
        is_demonstration=True,
        files={"image": CardFile(path="image.onnx", sha256="12" * 32)},
    )
    return Page(
        recipe=RECIPE,
        run=Run(RUN_ID, is_tracked=True),
        run_link=None,
        tracking_uri="sqlite:///w/mlflow.db",
        docs_link="../_quality/index.html",
        answers=answers,
        figures=pages.figures(answers, RECIPE),
        sheets={"kept": [thumbnail()], "nsfw": [thumbnail(is_blurred=True, reasons=("nsfw",))]},
        verdicts=[verdict(is_met=True)],
        cards=[card],
    )


class Checked(HTMLParser):
    """Collects elements, and refuses tags that do not nest."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def plain(html):
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_the_page_is_one_well_formed_file_that_asks_for_nothing(page):
    checked = Checked(render(page))
    assert checked.all("html") == [{"lang": "en"}]
    assert checked.all("script") == []
    images = checked.all("img")
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in images)
    assert [link["href"] for link in checked.all("link")] == ["data:,"]


def test_the_funnel_is_written_as_a_sum_that_adds_up(page):
    said = plain(render(page))
    assert "1,345 met = 45 quarantined + 300 rejected + 1,000 kept" in said
    assert "not decided yet" not in said
    assert "does not add up" not in said


@pytest.mark.parametrize(
    ("kept", "said"), [(900, "+ 100 not decided yet"), (1001, "does not add up: 1 more outcomes")]
)
def test_a_funnel_with_a_gap_says_so(page, kept, said):
    funnel = Answer("SELECT 1", ({**ROWS["funnel"][0], "kept": kept},))
    assert said in plain(render(replace(page, answers={**page.answers, "funnel": funnel})))


def test_clips_are_shown_where_there_are_any(page):
    row = {"begins_by": "shot", "clips": 7, "seconds": 21.5, "static": 1, "with_sound": 2}
    row |= {"mean_motion": 0.05, "mean_sharpness": 11.0}
    shown = plain(render(replace(page, answers={**page.answers, "clips": Answer("Q", (row,))})))

    assert "Clips of videos" in shown
    assert "shot 7 21.5 1 2 0.05 11" in shown
    assert "Clips of videos" not in plain(render(page))


def test_what_became_of_clips_is_shown_with_the_recipes_that_say_so(page):
    recipe = recipes.load("clips_all", overrides={}, thresholds={})
    rows = [("kept", 5), ("static", 2)]
    rows = tuple({"recipe": recipe.name, "outcome": what, "clips": n} for what, n in rows)
    answers = {**page.answers, "clip_outcomes": Answer(clip_outcomes([recipe]), rows)}
    said = plain(render(replace(page, answers=answers, clip_recipes=[recipe])))

    assert "clips_all kept 5 clips_all static 2" in said
    assert "motion static static_fraction <= 0.9 reject NeMo Curator" in said
    assert f"(recipe, recipe_version) IN (('clips_all', '{recipe.version}'))" in said
    assert "What became of clips" not in plain(render(page))


def test_videos_are_a_term_of_the_sum(page):
    funnel = Answer("SELECT 1", ({**ROWS["funnel"][0], "met": 1348, "videos": 3},))
    said = plain(render(replace(page, answers={**page.answers, "funnel": funnel})))
    assert "300 rejected + 3 videos, judged by their clips + 1,000 kept" in said
    assert "not decided yet" not in said


def test_every_question_is_shown_with_its_sql(page):
    said = plain(render(page))
    for answer in page.answers.values():
        assert " ".join(answer.sql.split()) in said


def test_a_hostile_caption_stays_text(page):
    sheets = {"kept": [thumbnail(caption=HOSTILE)]}
    html = render(replace(page, sheets=sheets))
    checked = Checked(html)
    assert checked.all("script") == []
    assert not any("onerror" in attributes for _, attributes in checked.elements)
    assert "&lt;script&gt;" in html


def test_the_overlap_of_two_reasons_is_in_the_matrix(page):
    assert "nsfw 210 17 text_length 17 107" in plain(render(page))


def test_sizes_are_told_with_those_that_are_kept_of_them(page):
    assert "64 100 100 128 1,200 900" in plain(render(page))


def test_a_quarantine_class_is_explained(page):
    assert f"empty_media {ERROR_CLASSES['empty_media']} ingest 45" in plain(render(page))


def test_a_demonstration_model_is_marked_and_a_real_one_is_not(page):
    assert "demonstration model" in render(page)
    real = [card.model_copy(update={"is_demonstration": False}) for card in page.cards]
    assert "demonstration model" not in render(replace(page, cards=real))


def test_a_refused_gate_says_why_and_that_gold_stays(page):
    said = plain(render(replace(page, verdicts=[verdict(is_met=False)])))
    assert "Nothing was published." in said
    assert "gold.default stays at its last good version, with 990 rows" in said
    assert "sample_id is unique: observed 3, must be = 0" in said


def test_a_passed_gate_and_a_gate_not_asked_are_told_apart(page):
    assert "Published." in render(page)
    unasked = render(replace(page, verdicts=[]))
    assert "The gate has not been asked yet" in unasked
    assert "Published." not in unasked


def test_the_run_is_linked_explained_or_said_to_be_untracked(page):
    assert "mlflow ui --backend-store-uri sqlite:///w/mlflow.db" in render(page)
    link = f"http://mlflow:5000/#/runs/{RUN_ID}"
    served = Checked(render(replace(page, run_link=link)))
    assert link in [a["href"] for a in served.all("a")]
    assert "not recorded in MLflow" in render(replace(page, tracking_uri=None))


def test_a_warehouse_in_which_nothing_was_decided_has_a_page(page):
    empty = {name: Answer(a.sql, ()) for name, a in page.answers.items()}
    none = {"met": 0, "quarantined": 0, "rejected": 0, "videos": 0, "kept": 0, "gold": 0}
    empty["funnel"] = Answer("SELECT 1", (none,))
    empty["this_run"] = Answer("SELECT 1", ({"batches": 0, "rows_in": 0},))
    shown = replace(page, answers=empty, figures=pages.figures(empty, RECIPE), sheets={})
    Checked(render(shown))


def test_what_is_saved_is_the_page_its_figures_its_sheets_and_its_numbers(page, tmp_path):
    (tmp_path / "contact_gone.jpg").write_bytes(b"of an earlier run")
    jpeg = pages.thumbnail(None, is_blurred=False, max_pixels=1)
    index = pages._save(replace(page, sheets={"kept": [thumbnail(image=jpeg)]}), tmp_path)
    assert index == tmp_path / "index.html"
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html",
        "report.json",
        "funnel.svg",
        "clip_score.svg",
        "nsfw_score.svg",
        "sharpness.svg",
        "contact_kept.jpg",
    }


def test_the_numbers_for_programs_are_those_of_the_page_without_captions(page, tmp_path):
    answers = {**page.answers, "sheets": Answer("SELECT 1", ({"caption": "private"},))}
    pages._save(replace(page, answers=answers, sheets={}), tmp_path)
    text = (tmp_path / "report.json").read_text()
    stored = json.loads(text)
    assert stored["funnel"] == {**ROWS["funnel"][0], "undecided": 0}
    assert stored["answers"]["languages"]["rows"] == ROWS["languages"]
    assert stored["answers"]["languages"]["sql"] == page.answers["languages"].sql
    assert "private" not in text


def test_the_numbers_are_had_again_of_the_same_recipe_version_alone(page, tmp_path):
    with pytest.raises(NotFound, match="no report of recipe default"):
        pages.stored(tmp_path, RECIPE)
    pages._save(replace(page, sheets={}), tmp_path)
    again = pages.stored(tmp_path, RECIPE)
    assert again == {name: a for name, a in page.answers.items() if name != "sheets"}
    stricter = recipes.load("default", overrides={}, thresholds={"clip_score": 0.22})
    with pytest.raises(NotFound, match=f"no report of recipe default {stricter.version}"):
        pages.stored(tmp_path, stricter)


def test_thresholds_are_the_recipes_own():
    assert thresholds(RECIPE, "clip_score") == {"kept: >= 0.21": 0.21}
    assert thresholds(RECIPE, "sharpness") == {}


@pytest.mark.parametrize(
    ("score", "expected"), [(None, True), (float("nan"), True), (0.5, True), (0.49, False)]
)
def test_an_image_is_blurred_from_the_threshold_and_without_a_score(score, expected):
    assert is_unsafe(score, RECIPE) is expected


def test_a_stricter_recipe_blurs_earlier_and_a_laxer_one_no_later():
    def with_limit(limit):
        return recipes.load(
            "default", overrides={"nsfw": {"below": limit}}, thresholds={"clip_score": 0.21}
        )

    assert is_unsafe(0.2, with_limit(0.1))
    assert is_unsafe(0.6, with_limit(0.9))


@pytest.mark.parametrize(
    ("value", "said"), [(3.0, "3"), (1234567, "1,234,567"), (0.25, "0.25"), ("x", "x")]
)
def test_numbers_are_written_for_people(value, said):
    assert number(value) == said
