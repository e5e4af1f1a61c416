"""What a recipe's file may say, and what becomes of it."""

import math
from dataclasses import replace

import pytest
import yaml

from jobs import recipe
from jobs.levels import Levels
from jobs.runtime.errors import ConfigError

CARDS = {"clip_score": 0.21}
LEVELS = {"signal": "clip_score", "edges": [0.2, 0.3]}
RULE = {"reason": "too_dark", "signal": "sharpness", "min": 10.0, "source": "a test"}


def default(**overrides):
    return recipe.load("default", overrides=overrides, thresholds=CARDS)


def rules(loaded):
    return {rule.name: rule for rule in loaded.rules}


@pytest.fixture
def load(tmp_path):
    def load(*, name="mine", **written):
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump({"name": name, "rules": written}, sort_keys=False))
        return recipe.load(str(file), overrides={}, thresholds=CARDS)

    return load


def test_the_default_recipe_is_the_published_policy():
    asked = [(rule.reason, rule.name, rule.signal, rule.threshold) for rule in default().rules]

    assert asked == [
        ("text_length", "caption_chars", "chars", ">= 5 and <= 1000"),
        ("text_length", "caption_words", "words", ">= 3"),
        ("text_language", "language", "language", "en, nolang or less than 0.8 sure"),
        ("image_size", "shorter_side", "shorter_side_px", ">= 200"),
        ("image_aspect", "aspect", "aspect_ratio", "<= 3"),
        ("clip_score", "alignment", "clip_score", ">= 0.21"),
        ("nsfw", "nsfw", "nsfw_score", "< 0.5"),
        ("duplicate_exact", "exact", "duplicate_exact_pair", "no better one"),
        ("duplicate_media", "media", "duplicate_exact_media", "no better one"),
        ("duplicate_perceptual", "perceptual", "duplicate_phash", "no better one"),
    ]


def test_bounds_of_languages_are_part_of_the_policy(load):
    plain, other = load(dark=RULE), load(dark=RULE | {"of_language": {"fr": {"min": 5.0}}})

    assert plain.version != other.version
    assert rules(other)["dark"].threshold == ">= 10; fr >= 5"
    assert recipe.required_signals(plain) == ("sharpness",)
    assert recipe.required_signals(other) == ("sharpness", "language")
    assert default(alignment={"of_language": None}).version == default().version


def test_levels_are_part_of_the_policy_only_where_they_are_named():
    plain = default()
    levelled, others, by_language = (
        recipe.load("default", overrides={}, thresholds=CARDS, levels=LEVELS | changes)
        for changes in ({}, {"edges": [0.2, 0.31]}, {"of_language": {"fr": [0.1, 0.2]}})
    )

    # As before there were levels: what is decided by such a version stays.
    assert plain.version == "6cfd33fcef4e"
    assert len({r.version for r in (plain, levelled, others, by_language)}) == 4
    assert [r.levels and r.levels.edges for r in (plain, levelled)] == [None, (0.2, 0.3)]
    assert levelled.rules == plain.rules
    assert recipe.required_signals(by_language) == recipe.required_signals(plain)


def test_levels_of_a_file_hold_unless_the_configuration_has_others(load, tmp_path):
    load(dark=RULE)
    file = tmp_path / "mine.yaml"
    file.write_text(file.read_text() + yaml.safe_dump({"levels": LEVELS}))

    def edges(levels):
        found = recipe.load(str(file), overrides={}, thresholds={}, levels=levels)
        return found.levels.edges, recipe.against(found, "registry").version == found.version

    assert edges(None) == ((0.2, 0.3), True)
    assert edges({"signal": "clip_score", "edges": [0]}) == ((0.0,), True)


def test_levels_stay_in_the_version_by_benchmarks(load):
    asking = load(benchmarks={**RULE, "signal": "contaminated", "min": None, "max": 0})
    levelled = replace(asking, levels=Levels(**LEVELS))

    assert recipe.against(levelled, "1").version != recipe.against(asking, "1").version
    assert recipe.against(levelled, "1").levels == levelled.levels


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edges": [0.3, 0.2]}, "levels got edges 0.3, 0.2; allowed rising ones, .* calibrate"),
        ({"edges": [0.3, 0.3]}, "got edges 0.3, 0.3; allowed rising ones"),
        ({"edges": []}, r"levels\.edges got \[\]; allowed at least 1 item"),
        ({"edges": [math.nan]}, r"levels\.edges\.0 got nan; allowed a finite number"),
        ({"edges": ["0.2"]}, r"levels\.edges\.0 got '0.2'; allowed a valid number"),
        ({"edges": [0.2, 1.5]}, "got edges 1.5 on signal clip_score; allowed -1 to 1"),
        ({"signal": "clip_scor"}, "got clip_scor; did you mean clip_score\\?"),
        ({"signal": "sharpness"}, "signal got sharpness; allowed clip_score"),
        ({"edge": [0.2]}, "levels got edge; did you mean edges?"),
        ({"of_language": {"fr": [0.2]}}, "got of_language.fr of 1 edges; allowed 2, as many"),
        ({"of_language": {"fr": [0.2, 0.1]}}, "got of_language.fr 0.2, 0.1; allowed rising"),
        ({"of_language": {"fr": [-2, 0.1]}}, "got of_language.fr -2 on signal clip_score"),
        ({"of_language": {"French": [0.1, 0.2]}}, "of_language.French"),
    ],
)
def test_levels_that_mean_none_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        recipe.load("default", overrides={}, thresholds=CARDS, levels=LEVELS | changes)


def test_levels_are_of_pairs():
    with pytest.raises(ConfigError, match="levels got those of clips; allowed for pairs"):
        recipe.load("clips_all", overrides={}, thresholds={}, levels=LEVELS)


@pytest.mark.parametrize(
    ("of_language", "said"),
    [
        ({"fr": {"max": 5.0}}, "of_language.fr with bounds max; allowed one or more .* own: min"),
        ({"fr": {}}, "of_language.fr with bounds none"),
        ({"fr": {"min": -1.0}}, "got min -1 on signal sharpness; allowed 0 to inf"),
        ({"French": {"min": 5.0}}, "of_language.French"),
        ({"fr": {"least": 5.0}}, "of_language.fr.least"),
        ({"fr": {"min": "card"}}, "of_language.fr.min"),
    ],
)
def test_bounds_of_languages_replace_the_rules_own(load, of_language, said):
    with pytest.raises(ConfigError, match=said):
        load(dark=RULE | {"of_language": of_language})


def test_clips_have_no_language():
    rule = {"motion": {"of_language": {"fr": {"max": 0.5}}}}
    with pytest.raises(ConfigError, match="allowed for pairs, whose texts have a language"):
        recipe.load("clips_all", overrides=rule, thresholds={})


def test_a_missing_signal_rejects_in_every_default_rule():
    assert {rule.missing for rule in default().rules} == {"reject"}


def test_the_columns_a_recipe_reads_are_known():
    assert set(recipe.required_signals(default())) == {
        "chars",
        "words",
        "language",
        "language_score",
        "shorter_side_px",
        "aspect_ratio",
        "clip_score",
        "nsfw_score",
        "duplicate_exact_pair",
        "duplicate_exact_media",
        "duplicate_phash",
    }
    assert recipe.duplicate_kinds(default()) == ("exact_pair", "exact_media", "phash")


def test_a_recipe_without_duplicate_rules_asks_for_no_search(load):
    loaded = load(dark=RULE)

    assert recipe.duplicate_kinds(loaded) == ()
    assert recipe.required_signals(loaded) == ("sharpness",)


def test_an_override_replaces_a_field_and_keeps_the_rest():
    changed = rules(default(alignment={"min": 0.3}, language={"one_of": ["en", "de"]}))

    assert changed["alignment"].threshold == ">= 0.3"
    assert changed["language"].threshold == "en, de or less than 0.8 sure"
    assert changed["language"].reason == "text_language"


def test_a_number_in_place_of_card_needs_no_card():
    loaded = recipe.load("default", overrides={"alignment": {"min": 0.3}}, thresholds={})

    assert rules(loaded)["alignment"].min == 0.3


def test_the_version_follows_what_the_rules_ask():
    before = default().version

    assert len(before) == 12
    assert default().version == before
    assert default(nsfw={"source": "elsewhere"}).version == before
    assert default(nsfw={"below": 0.4}).version != before
    assert default(nsfw={"missing": "pass"}).version != before
    other_card = recipe.load("default", overrides={}, thresholds={"clip_score": 0.22})
    assert other_card.version != before


def test_the_benchmarks_are_part_of_the_version_only_where_a_rule_asks(load):
    asking = load(benchmarks={**RULE, "signal": "contaminated", "min": None, "max": 0})
    first, second = recipe.against(asking, "1"), recipe.against(asking, "2")

    assert len({asking.version, first.version, second.version}) == 3
    assert first.registry == "1"
    assert recipe.against(second, "1") == first
    assert recipe.against(first, None) == asking
    assert recipe.against(default(), "1") == default()


def test_the_order_of_the_rules_is_part_of_the_version(load):
    first, second = dict(RULE), {**RULE, "reason": "other"}

    assert load(a=first, b=second).version != load(b=second, a=first).version


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"alignmnt": {"min": 0.2}}, "recipe.overrides got alignmnt; did you mean alignment?"),
        ({"nsfw": {"belw": 0.2}}, "rules.nsfw got belw; did you mean below? allowed name, reason"),
        ({"nsfw": {"below": 50}}, "rules.nsfw got below 50 on signal nsfw_score; allowed 0 to 1"),
        ({"nsfw": {"below": "0.5"}}, "rules.nsfw.below got '0.5'; allowed a valid number"),
        ({"nsfw": {"below": float("nan")}}, "rules.nsfw.below got nan; allowed a finite number"),
        ({"nsfw": {"below": None}}, "got bounds none on signal nsfw_score; allowed one or more of"),
        ({"nsfw": {"below": "card"}}, "no model card gives a threshold for nsfw_score"),
        ({"nsfw": {"missing": "keep"}}, "got 'keep'; allowed 'reject' or 'pass'"),
        ({"nsfw": {"name": "safe"}}, "rules.nsfw got a field name; allowed the key nsfw alone"),
        ({"nsfw": {"source": ""}}, "rules.nsfw.source got ''; allowed at least 1 character"),
        (
            {"aspect": {"signal": "aspect_ration"}},
            "signal got aspect_ration; did you mean aspect_ratio? allowed",
        ),
        ({"exact": {"min": 1}}, "got bounds min on signal duplicate_exact_pair; allowed none"),
        ({"language": {"min": 1}}, "on signal language; allowed one_of and min_confidence"),
        ({"language": {"one_of": []}}, "on signal language; allowed one_of and min_confidence"),
        ({"language": {"one_of": [False]}}, "one_of.0 got False; allowed a valid string"),
        ({"language": {"min_confidence": 2}}, "min_confidence got 2; allowed less than or equal"),
        ({"caption_words": {"one_of": ["en"]}}, "on signal words; allowed one or more of"),
    ],
)
def test_what_no_rule_can_mean_is_refused_with_what_is_allowed(overrides, message):
    with pytest.raises(ConfigError) as caught:
        default(**overrides)

    assert message in str(caught.value)


def test_every_rule_names_its_source(load):
    with pytest.raises(ConfigError, match=r"rules\.dark\.source got nothing"):
        load(dark={key: value for key, value in RULE.items() if key != "source"})


@pytest.mark.parametrize("name", ["My Recipe", "a;DROP TABLE x", "`a`", ""])
def test_a_name_that_is_no_table_name_is_refused(load, name):
    with pytest.raises(ConfigError, match="name got"):
        load(name=name, dark=RULE)


def test_a_recipe_without_rules_is_refused(load):
    with pytest.raises(ConfigError, match="rules got"):
        load()


def test_a_rule_that_stands_twice_is_refused(tmp_path):
    file = tmp_path / "twice.yaml"
    file.write_text("name: twice\nrules:\n  nsfw: {below: 0.5}\n  nsfw: {below: 1}\n")

    with pytest.raises(ConfigError, match="got key nsfw twice"):
        recipe.load(str(file), overrides={}, thresholds={})


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match="got defalt; did you mean default"):
        recipe.load("defalt", overrides={}, thresholds={})
