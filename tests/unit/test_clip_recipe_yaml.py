"""What a recipe of clips may say, and how a configuration names some."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from jobs import cycle, recipe
from jobs.recipe import Recipe
from jobs.runtime import strict_yaml
from jobs.runtime.config import Config, Dedup
from jobs.runtime.errors import ConfigError
from jobs.runtime.models import Scoring
from jobs.vocabulary import CLIPS, PAIRS
from schemas import clip_pairs, clips, gold_clips, image_signals, text_signals

RULE = {"reason": "odd", "signal": "motion_score", "min": 0.1, "source": "a test"}
TIERS = ("clips_all", "clips_high_quality")


class Written:
    """Recipes as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, *, name: str = "clips_mine", of: str = "clips", **rules: Any) -> str:
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"name": name, "of": of, "rules": rules}, sort_keys=False))
        return str(file)

    def load(self, **written: Any) -> Recipe:
        thresholds = {"clip_score": 0.21, "aesthetic_score": 4.8}
        return recipe.load(self.path(**written), overrides={}, thresholds=thresholds)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def resolved(*recipes: object, **sections: Any) -> tuple[Recipe, ...]:
    """The recipes of a configuration's section `video`; without any, the default's."""
    video = {"recipes": list(recipes)} if recipes else {}
    tree = {"warehouse": "w", "dumps": [{"name": "d", "path": "p"}], "video": video, **sections}
    config = strict_yaml.validated(Config, tree)
    return cycle.resolve_clip_recipes(
        config, cast("Scoring", SimpleNamespace(thresholds={"clip_score": 0.2}))
    )


def test_two_tiers_are_the_default_and_need_no_model_of_ones_own() -> None:
    tiers = resolved()

    assert [(tier.name, tier.of) for tier in tiers] == [(name, "clips") for name in TIERS]
    assert [gold_clips.PREFIX in f"gold.{tier.name}" for tier in tiers] == [True, True]
    asked = [(r.reason, r.signal, r.threshold, r.missing) for r in tiers[0].rules]
    assert asked == [
        ("nsfw", "nsfw_score_max", "< 0.5", "reject"),
        ("length", "duration_s", ">= 2 and <= 60", "reject"),
        ("static", "static_fraction", "<= 0.9", "reject"),
        ("black", "black_fraction", "<= 0.5", "reject"),
        ("duplicate_exact", "duplicate_exact_clip", "no better one", "reject"),
    ]


def test_the_narrow_tier_asks_all_that_the_broad_one_does_and_more() -> None:
    broad, narrow = ({rule.signal: rule for rule in tier.rules} for tier in resolved())

    assert broad.keys() < narrow.keys()
    for signal, rule in broad.items():
        stricter = narrow[signal].limits
        assert all(stricter[bound] <= limit for bound, limit in rule.limits.items())
    passing = {signal for signal, rule in narrow.items() if rule.missing == "pass"}
    assert passing == {"aesthetic_score_mean", "watermark_score_max", "text_fraction_max"}


def test_versions_of_pairs_are_what_they_were_and_those_of_clips_others(written: Written) -> None:
    default = recipe.load("default", overrides={}, thresholds={"clip_score": 0.21})
    rule = {**RULE, "signal": "clip_score"}
    of_clips, of_pairs = written.load(a=rule), written.load(name="mine", of="pairs", a=rule)

    assert default.version == "6cfd33fcef4e"
    assert (of_clips.of, of_pairs.of) == ("clips", "pairs")
    assert of_clips.version != of_pairs.version


@pytest.mark.parametrize("signal", ["chars", "sharpness", "contaminated", "duplicate_phash"])
def test_what_is_of_samples_is_refused_with_what_is_of_clips(written: Written, signal: str) -> None:
    with pytest.raises(ConfigError) as refused:
        written.load(odd={**RULE, "signal": signal})

    said = str(refused.value)
    assert f"rules.odd signal got {signal};" in said
    assert f"allowed {', '.join(CLIPS.signals)}" in said


def test_what_is_of_clips_is_refused_with_what_is_of_pairs(written: Written) -> None:
    with pytest.raises(ConfigError) as refused:
        written.load(name="mine", of="pairs", odd=RULE)

    assert f"allowed {', '.join(PAIRS.signals)}" in str(refused.value)
    with pytest.raises(ConfigError, match="of got 'images'; allowed 'pairs' or 'clips'"):
        written.load(of="images", odd=RULE)


def test_a_yes_or_no_and_a_sum_over_key_frames_are_numbers(written: Written) -> None:
    loaded = written.load(
        sound={**RULE, "signal": "has_audio", "min": 1},
        pretty={**RULE, "signal": "aesthetic_score_mean", "min": "card"},
    )

    assert [rule.threshold for rule in loaded.rules] == [">= 1", ">= 4.8"]
    with pytest.raises(ConfigError, match="min 2 on signal has_audio; allowed 0 to 1"):
        written.load(sound={**RULE, "signal": "has_audio", "min": 2})
    with pytest.raises(ConfigError, match="no model card gives a threshold for nsfw_score_max"):
        written.load(safe={**RULE, "signal": "nsfw_score_max", "below": "card", "min": None})


def test_every_signal_is_measured() -> None:
    derived = {"duration_s", "shorter_side_px", "aspect_ratio"}
    assert CLIPS.numbers.keys() - derived <= {*clips.SIGNALS.names, *clip_pairs.SCHEMA.names}
    of_pairs = {*image_signals.SIGNALS.names, *text_signals.SIGNALS.names}
    assert PAIRS.numbers.keys() - of_pairs == derived - {"duration_s"} | {
        "clip_score",
        "contaminated",
    }


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        ("mine", "clips", "name got mine of clips; allowed one that begins with clips_"),
        ("clips_x", "pairs", "name got clips_x of pairs; allowed one that begins with none of"),
        ("coreset_x", "pairs", "name got coreset_x of pairs; allowed one that begins with none"),
        ("semdedup_x", "pairs", "of pairs; allowed .* none of clips_, coreset_, semdedup_, as"),
    ],
)
def test_a_name_is_that_of_a_table_of_its_kind(
    written: Written, name: str, of: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        written.load(name=name, of=of, odd={**RULE, "signal": "clip_score"})


def test_a_configuration_names_recipes_or_replaces_their_fields(written: Written) -> None:
    mine = written.path(odd=RULE)

    first, second = resolved(
        mine, {"name": "clips_all", "overrides": {"length": {"min": 3, "max": None}}}
    )

    assert (first.name, second.name) == ("clips_mine", "clips_all")
    assert {rule.name: rule.threshold for rule in second.rules}["length"] == ">= 3"
    assert second.version != resolved("clips_all")[0].version


def test_what_a_configuration_cannot_mean_is_refused(written: Written) -> None:
    def refusal(*recipes: object, **sections: Any) -> str:
        with pytest.raises(ConfigError) as refused:
            resolved(*recipes, **sections)
        return str(refused.value)

    again = {"name": "clips_all", "overrides": {"length": {"min": 3}}}
    assert refusal("clips_all", again) == (
        "video.recipes.1 got name clips_all again; allowed each name once"
    )
    assert refusal("default") == (
        "video.recipes.0 got default, a recipe of pairs; allowed one of clips"
    )
    said = refusal("clips_al")
    assert said.startswith("video.recipes.0.name got clips_al; did you mean clips_all?")
    said = refusal({"name": "clips_all", "overrides": {"lenth": {"min": 3}}})
    assert said.startswith("video.recipes.0.overrides got lenth; did you mean length?")
    near = {**RULE, "signal": "duplicate_video", "below": 0.1, "min": None}
    assert "rule near got below 0.1; allowed" in refusal(written.path(near=near))


def test_a_recipe_of_clips_is_none_of_pairs() -> None:
    config = strict_yaml.validated(
        Config,
        {
            "warehouse": "w",
            "dumps": [{"name": "d", "path": "p"}],
            "recipe": {"name": "clips_all"},
        },
    )
    with pytest.raises(
        ConfigError, match="recipe got clips_all, a recipe of clips; allowed one of"
    ):
        cycle.resolve_recipe(config, cast("Scoring", SimpleNamespace(thresholds={})))


def test_verdicts_of_clips_are_asked_for() -> None:
    assert [recipe.duplicate_kinds(tier) for tier in resolved()] == [
        ("exact_clip",),
        ("exact_clip", "video"),
    ]
    only_exact = Dedup(clip_kinds=("exact_clip",))
    broad, narrow = resolved()
    recipe.require_searches(broad, only_exact)
    with pytest.raises(ConfigError, match="rule near got signal duplicate_video; allowed those of"):
        recipe.require_searches(narrow, only_exact)
