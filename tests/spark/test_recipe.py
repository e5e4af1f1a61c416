"""A compiled recipe gives every reason, in order, and lets nothing unmeasured pass."""

import math

import numpy as np
import pytest
import yaml

from jobs import calibrate, recipe
from jobs.levels import Levels, level
from jobs.runtime.errors import ConfigError, NotFound
from schemas import decisions

VERDICT = "struct<is_duplicate: boolean, representative_id: string, similarity: float>"
CANDIDATES = (
    "sample_id string, chars int, words int, language string, language_score float,"
    " shorter_side_px int, aspect_ratio double, nsfw_score float, clip_score float,"
    f" sharpness float, duplicate_exact_pair {VERDICT}, duplicate_exact_media {VERDICT},"
    f" duplicate_phash {VERDICT}"
)
UNIQUE = (False, "self", 1.0)
GOOD = {
    "chars": 40,
    "words": 7,
    "language": "en",
    "language_score": 0.97,
    "shorter_side_px": 512,
    "aspect_ratio": 1.5,
    "nsfw_score": 0.01,
    "clip_score": 0.33,
    "sharpness": 120.0,
    "duplicate_exact_pair": UNIQUE,
    "duplicate_exact_media": UNIQUE,
    "duplicate_phash": UNIQUE,
}
DEFAULT = recipe.load("default", overrides={}, thresholds={"clip_score": 0.21})
SIGNAL_OF = {rule.name: rule.signal for rule in DEFAULT.rules}

# changes to a good candidate -> the rules that reject it
CASES = [
    ({}, []),
    ({"chars": 4}, ["caption_chars"]),
    ({"chars": 5}, []),
    ({"chars": 1000}, []),
    ({"chars": 1001}, ["caption_chars"]),
    ({"words": 2}, ["caption_words"]),
    ({"words": 3}, []),
    ({"language": "de", "language_score": 0.95}, ["language"]),
    ({"language": "de", "language_score": 0.8}, ["language"]),
    ({"language": "de", "language_score": 0.79}, []),
    ({"language": "en", "language_score": 0.2}, []),
    ({"shorter_side_px": 199}, ["shorter_side"]),
    ({"shorter_side_px": 200}, []),
    ({"aspect_ratio": 3.0}, []),
    ({"aspect_ratio": 3.01}, ["aspect"]),
    ({"clip_score": 0.2}, ["alignment"]),
    ({"clip_score": 0.22}, []),
    ({"clip_score": -1.0}, ["alignment"]),
    ({"nsfw_score": 0.499}, []),
    ({"nsfw_score": 0.5}, ["nsfw"]),
    ({"duplicate_exact_pair": (True, "first", 1.0)}, ["exact"]),
    ({"duplicate_exact_media": (True, "first", 1.0)}, ["media"]),
    ({"duplicate_phash": (True, "first", 0.97)}, ["perceptual"]),
    *[({signal: None}, [name]) for name, signal in SIGNAL_OF.items()],
    ({"language_score": None}, ["language"]),
    ({"language_score": math.nan}, ["language"]),
    ({"aspect_ratio": math.nan}, ["aspect"]),
    ({"clip_score": math.nan}, ["alignment"]),
    ({"nsfw_score": math.nan}, ["nsfw"]),
    ({"duplicate_phash": (None, None, None)}, ["perceptual"]),
    (dict.fromkeys(GOOD), list(SIGNAL_OF)),
    ({"nsfw_score": 0.9, "chars": 2, "words": 1}, ["caption_chars", "caption_words", "nsfw"]),
]


def candidates(spark, changes):
    rows = [
        tuple({"sample_id": f"{number}", **GOOD, **change}.values())
        for number, change in enumerate(changes)
    ]
    return spark.createDataFrame(rows, CANDIDATES).coalesce(1)


def reasons(spark, policy, changes):
    """What the policy says of a good candidate with each of the changes."""
    judged = candidates(spark, changes).select("sample_id", recipe.reasons(policy).alias("reasons"))
    by_id = {row.sample_id: row.reasons for row in judged.collect()}
    return [by_id[f"{number}"] for number in range(len(changes))]


@pytest.fixture
def written(tmp_path):
    """A policy of the rules given, each with the fields that are not in all of them."""

    def written(**rules):
        all_of_them = {"reason": "odd", "source": "a test"}
        tree = {"name": "mine", "rules": {name: all_of_them | rules[name] for name in rules}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        return recipe.load(str(tmp_path / "mine.yaml"), overrides={}, thresholds={})

    return written


def test_each_rule_rejects_from_its_limit_on_and_where_its_signal_is_missing(spark):
    judged = reasons(spark, DEFAULT, [changes for changes, _ in CASES])

    got = [
        (case[0], [reason.rule for reason in row]) for case, row in zip(CASES, judged, strict=True)
    ]
    assert got == CASES


def test_a_reason_shows_value_and_threshold(spark):
    changes = [
        {"chars": 5000},
        {"clip_score": 0.123456789},
        {"language": "de", "language_score": 0.95},
        {"duplicate_phash": (True, "first", 0.97)},
        {"nsfw_score": math.nan},
    ]

    shown = [row[0].asDict() for row in reasons(spark, DEFAULT, changes)]

    assert [(s["reason"], s["signal"], s["value"], s["threshold"]) for s in shown] == [
        ("text_length", "chars", "5000", ">= 5 and <= 1000"),
        ("clip_score", "clip_score", "0.123457", ">= 0.21"),
        ("text_language", "language", "de 0.950000", "en, nolang or less than 0.8 sure"),
        ("duplicate_perceptual", "duplicate_phash", "first", "no better one"),
        ("nsfw", "nsfw_score", None, "< 0.5"),
    ]


def test_the_column_has_the_type_that_decisions_store(spark):
    column = candidates(spark, [{}]).select(recipe.reasons(DEFAULT).alias("reasons")).schema[0]

    assert not column.nullable
    assert not column.dataType.containsNull
    assert column.dataType.elementType.simpleString() == decisions.REASON.simpleString()


@pytest.mark.parametrize("name", SIGNAL_OF)
def test_every_rule_of_the_default_recipe_rejects_something_that_no_other_does(name):
    assert any(rejecting == [name] for _, rejecting in CASES)


def test_each_bound_keeps_what_it_says(spark, written):
    policy = written(
        at_least={"signal": "sharpness", "min": 10},
        more={"signal": "sharpness", "above": 10},
        at_most={"signal": "sharpness", "max": 10},
        less={"signal": "sharpness", "below": 10},
        between={"signal": "sharpness", "above": 9, "below": 11},
    )

    judged = reasons(spark, policy, [{"sharpness": value} for value in (9.0, 10.0, 11.0)])

    assert [[reason.rule for reason in row] for row in judged] == [
        ["at_least", "more", "between"],
        ["more", "less"],
        ["at_most", "less", "between"],
    ]


def test_bounds_may_differ_by_language(spark, written):
    # LAION-5B's: 0.28 for English, 0.26 for others.
    policy = written(
        alignment={
            "signal": "clip_score",
            "min": 0.26,
            "max": 0.9,
            "of_language": {"en": {"min": 0.28}, "nolang": {"min": 0.3, "max": 0.8}},
        }
    )
    spoken = [("en", 0.27), ("en", 0.28), ("fr", 0.27), ("fr", 0.25), ("nolang", 0.85), (None, 0.2)]
    changes = [{"language": language, "clip_score": score} for language, score in spoken]

    judged = reasons(spark, policy, [*changes, {"language": None, "clip_score": 0.27}])

    assert [[reason.threshold for reason in row] for row in judged] == [
        [">= 0.28 and <= 0.9"],
        [],
        [],
        [">= 0.26 and <= 0.9"],
        [">= 0.3 and <= 0.8"],
        [">= 0.26 and <= 0.9"],
        [],
    ]


def test_each_language_keeps_its_share(spark):
    rng = np.random.default_rng()
    drawn = {"en": rng.random(3000), "fr": rng.random(2000) - 0.5, "sw": rng.random(7), None: [0.5]}
    rows = [(of, float(score)) for of, scores in drawn.items() for score in scores]
    rows += [("en", None), ("fr", math.nan)]
    table = spark.createDataFrame(rows, "language string, score double")

    groups = calibrate.bounds(table, "score", keep=0.1, least_rows=1000)

    assert [(g.language, g.rows) for g in groups] == [("en", 3000), ("fr", 2000), (None, 8)]
    for group in groups[:2]:
        kept = sum(score >= group.least for score in drawn[group.language])
        assert 0 <= kept - 0.1 * group.rows <= 1
    found = calibrate.edges(table, "score", levels=8, languages=["en", "fr"])
    assert found.keys() == {None, "en", "fr"}
    for language, edges in found.items():
        scores = drawn[language] if language else [score for _, score in rows[:-2]]
        counted = np.bincount([sum(score >= edge for edge in edges) for score in scores])
        assert list(edges) == sorted(edges)
        assert len(counted) == 8
        assert counted.max() - counted.min() <= 2
    assert calibrate.merged(found) == ()
    # Printed, pasted and read again, they are the same to the bit.
    asked = yaml.safe_load(yaml.safe_dump(calibrate.levels("clip_score", found)))
    named = Levels(**asked)
    assert {None: named.edges, **named.of_language} == found

    with pytest.raises(ConfigError, match="--keep got 0; allowed above 0 to 1"):
        calibrate.bounds(table, "score", keep=0)
    with pytest.raises(ConfigError, match="--levels got 1; allowed 2 or more"):
        calibrate.edges(table, "score", levels=1)
    with pytest.raises(NotFound, match="no row has a score"):
        calibrate.bounds(table.where("score IS NULL"), "score")


def test_what_is_calibrated_is_what_a_recipe_asks():
    groups = [calibrate.Group("en", 9000, 0.28), calibrate.Group("fr", 2000, 0.25)]
    asked = calibrate.overrides("alignment", groups)
    found = recipe.load("default", overrides=asked, thresholds={"clip_score": 0.21})
    (rule,) = (rule for rule in found.rules if rule.name == "alignment")
    assert rule.threshold == ">= 0.28; en >= 0.28; fr >= 0.25"


def test_a_level_is_how_many_edges_the_score_of_its_language_reaches(spark):
    # A float32's own value as an edge is reached by it; a rounded one might not be.
    stored = float(np.float32(0.3))
    levels = Levels(
        signal="clip_score", edges=(0.25, stored), of_language={"fr": (0.1, 0.2), "sw": (-1, 0.5)}
    )
    told = [
        *((("en", score), at) for score, at in [(0.24, 0), (0.25, 1), (0.29, 1), (0.3, 2)]),
        *((("fr", score), at) for score, at in [(0.09, 0), (0.15, 1), (0.25, 2)]),
        *((("sw", score), at) for score, at in [(-1.0, 1), (0.6, 2)]),
        *(((None, 0.26), 1), ((None, None), None), (("en", None), None), (("fr", math.nan), None)),
    ]
    rows = spark.createDataFrame([row for row, _ in told], "language string, clip_score float")

    found = rows.coalesce(1).select(level(levels).alias("level"), level(None).alias("none"))

    assert found.dtypes == [("level", "int"), ("none", "int")]
    assert [(row.level, row.none) for row in found.collect()] == [(at, None) for _, at in told]


def test_a_missing_value_passes_only_where_the_recipe_says_so(spark, written):
    policy = written(only={"signal": "sharpness", "min": 10, "missing": "pass"})

    judged = reasons(spark, policy, [{"sharpness": v} for v in (None, math.nan, 9.0)])

    assert [len(row) for row in judged] == [0, 0, 1]


def test_text_of_a_recipe_is_a_literal_and_never_sql(spark, written):
    injected = "en') OR true --"
    policy = written(
        only={"signal": "language", "one_of": [injected], "min_confidence": 0.5, "reason": "odd"}
    )

    [[reason]] = reasons(spark, policy, [{}])

    assert reason.threshold == f"{injected} or less than 0.5 sure"
