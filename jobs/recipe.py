"""A recipe: a versioned policy over signals, read from YAML and compiled to one SQL column.

A recipe's text is data: names are checked against the lists below and values become literals,
so nothing that a file says is ever parsed as SQL.
"""

import hashlib
import importlib.resources
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from operator import or_
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.levels import Levels
from jobs.runtime import strict_yaml
from jobs.runtime.config import Dedup
from jobs.runtime.errors import ConfigError
from jobs.vocabulary import (
    CLIPS,
    CONFIDENCE,
    CONTAMINATED,
    LANGUAGE,
    PAIRS,
    SHARE,
    VOCABULARIES,
    Language,
    Number,
    Of,
    Vocabulary,
)
from schemas import coreset, decisions, gold_clips, semdedup

BELOW: Final = "below"
BOUNDS: Final = {"min": ">=", "above": ">", "max": "<=", "below": "<"}  # field -> what is kept
ONE_OF: Final = "one_of"
SURE: Final = "min_confidence"
_CLIPS: Final = gold_clips.PREFIX.removeprefix("gold.")
# Of commands, no recipe's.
_DRAWN: Final = tuple(of.PREFIX.removeprefix("gold.") for of in (coreset, semdedup))
CARD: Final = "card"  # in place of a number: the threshold on the card of the signal's model

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Bound = Literal["min", "above", "max", "below"]


class Rule(BaseModel):
    """What one signal of a pair must satisfy; a sample that does not carries the rule's reason.

    A number is kept inside its bounds (``min`` and ``max`` include them, ``above`` and ``below``
    do not), in place of which a text's language may have others (``of_language``); a language,
    unless the identifier is sure of one that is not listed; a duplicate never, or with ``below``
    only where its similarity to a better one is less: a stricter threshold than the search's own.
    A signal that is null or NaN is judged by ``missing`` alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    vocabulary: ClassVar[Vocabulary] = PAIRS

    name: Name
    reason: Name
    signal: str
    min: Number | None = None
    above: Number | None = None
    max: Number | None = None
    below: Number | None = None
    one_of: tuple[str, ...] = ()
    min_confidence: Annotated[Number, Field(ge=0, le=1)] | None = None
    of_language: dict[Language, dict[Bound, Number]] | None = None
    missing: Literal["reject", "pass"] = "reject"  # what was not measured is not known to be good
    source: str = Field(min_length=1)

    @property
    def limits(self) -> dict[str, float]:
        """The numeric bounds that are set, by field."""
        values = {bound: getattr(self, bound) for bound in BOUNDS}
        return {bound: limit for bound, limit in values.items() if limit is not None}

    @property
    def languages(self) -> tuple[str, ...]:
        """Those of which texts have bounds of their own."""
        return tuple(self.of_language or ())

    def limits_in(self, language: str) -> dict[str, float]:
        """The numeric bounds for texts of a language, by field."""
        return self.limits | dict((self.of_language or {}).get(language, {}))

    @property
    def threshold(self) -> str:
        """What the rule asks, for people.

        >>> Rule(name="a", reason="a", signal="aspect_ratio", max=3, source="-").threshold
        '<= 3'
        """
        if self.signal in self.vocabulary.numbers:
            others = [
                f"{language} {_asked(self.limits_in(language))}" for language in self.languages
            ]
            return "; ".join([_asked(self.limits), *others])
        if self.signal == LANGUAGE:
            return f"{', '.join(self.one_of)} or less than {self.min_confidence} sure"
        if self.below is not None:
            return f"no better one of similarity {self.below:.6g} or more"
        return "no better one"

    @model_validator(mode="after")
    def _asks_what_its_signal_answers(self) -> Self:
        known = self.vocabulary.signals
        if self.signal not in known:
            raise ValueError(strict_yaml.unknown("signal", self.signal, known))
        asked = {*self.limits}
        asked |= {ONE_OF} if self.one_of else set()
        asked |= {SURE} if self.min_confidence is not None else set()
        if self.signal in self.vocabulary.numbers:
            is_fit, allowed = asked and asked <= {*BOUNDS}, f"one or more of {', '.join(BOUNDS)}"
        elif self.signal == LANGUAGE:
            is_fit, allowed = asked == {ONE_OF, SURE}, f"{ONE_OF} and {SURE}"
        else:
            is_fit, allowed = asked <= {BELOW}, f"none, or {BELOW}: similarity to a better one"
        if not is_fit:
            got = ", ".join(sorted(asked)) or "none"
            raise ValueError(f"got bounds {got} on signal {self.signal}; allowed {allowed}")
        return self

    @model_validator(mode="after")
    def _languages_change_what_is_there(self) -> Self:
        if self.of_language is None:
            return self
        if not self.vocabulary.has_language:
            raise ValueError("got of_language; allowed for pairs, whose texts have a language")
        for language, bounds in self.of_language.items():
            if not bounds or not bounds.keys() <= self.limits.keys():
                raise ValueError(
                    f"got of_language.{language} with bounds {', '.join(bounds) or 'none'}; allowed"
                    f" one or more of the rule's own: {', '.join(self.limits) or 'it has none'}"
                )
        return self

    @model_validator(mode="after")
    def _limits_lie_on_the_scale(self) -> Self:
        of_languages = (self.limits_in(language).items() for language in self.languages)
        for bound, limit in chain(self.limits.items(), *of_languages):
            scale = self.vocabulary.numbers.get(self.signal, SHARE)
            if not scale.low <= limit <= scale.high:
                raise ValueError(
                    f"got {bound} {limit:g} on signal {self.signal};"
                    f" allowed {scale.low:g} to {scale.high:g}"
                )
        return self


class ClipRule(Rule):
    """What one signal of a clip must satisfy."""

    vocabulary: ClassVar[Vocabulary] = CLIPS


@dataclass(frozen=True)
class Recipe:
    """Rules in the order in which they name a rejected row.

    Attributes:
        name: names the gold table too.
        version: 12 hex digits of sha256 over the resolved rules, over what they judge if that is
            not pairs, and over the registry and the levels if there are any; sources do not count.
        rules: every rule, with overrides and card thresholds filled in.
        registry: digest of the registry of benchmarks by which `contaminated` counts; null:
            nothing is registered, or no rule asks.
        of: what it judges.
        levels: of alignment, that gold says of what is kept; they reject nothing.
    """

    name: str
    version: str
    rules: tuple[Rule, ...]
    registry: str | None = None
    of: Of = "pairs"
    levels: Levels | None = None


class _Written(BaseModel):
    """A recipe as its file has it: fields may still be overridden or left to a card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    of: Of = "pairs"
    levels: Levels | None = None
    rules: dict[str, dict[str, JsonValue]] = Field(min_length=1)


class _OfPairs(BaseModel):
    rules: dict[str, Rule]


class _OfClips(BaseModel):
    rules: dict[str, ClipRule]


_RESOLVED: Final[dict[Of, type[_OfPairs | _OfClips]]] = {"pairs": _OfPairs, "clips": _OfClips}


def load(
    name_or_path: str,
    *,
    overrides: Mapping[str, Mapping[str, JsonValue]],
    thresholds: Mapping[str, float],
    levels: Mapping[str, JsonValue] | None = None,
    key: str = "recipe",
) -> Recipe:
    """Read a recipe, fill in overrides and thresholds, and check every rule.

    Args:
        name_or_path: a bundled recipe's name, or the path of a YAML file.
        overrides: rule -> field -> value to put in place of the file's.
        thresholds: signal -> threshold on its model's card, for bounds that say ``card``.
        levels: to put in place of the file's; null: the file's, if it has any.
        key: of the configuration that names it, for messages.

    Raises:
        ConfigError: one line per problem, each with what is allowed.
    """
    tree = strict_yaml.parse(_content(name_or_path, key), origin=f"recipe {name_or_path}")
    if levels is not None and isinstance(tree, dict):
        tree = {**tree, "levels": dict(levels)}
    written = strict_yaml.validated(_Written, tree)
    _require_own_table(written)
    if written.levels is not None and written.of != "pairs":
        raise ConfigError(f"levels got those of {written.of}; allowed for pairs: leave them out")
    for name in overrides:
        if name not in written.rules:
            raise ConfigError(strict_yaml.unknown(f"{key}.overrides", name, written.rules))
    vocabulary = VOCABULARIES[written.of]
    filled = {name: {**rule, **overrides.get(name, {})} for name, rule in written.rules.items()}
    resolved = {
        name: _resolved(name, fields, _on_cards(thresholds, vocabulary), key)
        for name, fields in filled.items()
    }
    rules = tuple(strict_yaml.validated(_RESOLVED[written.of], {"rules": resolved}).rules.values())
    version = _version(rules, of=written.of, levels=written.levels)
    return Recipe(written.name, version, rules, of=written.of, levels=written.levels)


def required_signals(recipe: Recipe) -> tuple[str, ...]:
    """Columns of the candidates that the recipe reads, each once, in the order of first use."""
    signals = [rule.signal for rule in recipe.rules]
    if LANGUAGE in signals:
        signals.append(CONFIDENCE)
    if any(rule.of_language for rule in recipe.rules):
        signals.append(LANGUAGE)
    return tuple(dict.fromkeys(signals))


def asks_for_benchmarks(recipe: Recipe) -> bool:
    """Whether a rule counts the benchmark items that a sample met."""
    return CONTAMINATED in required_signals(recipe)


def against(recipe: Recipe, registry: str | None) -> Recipe:
    """The recipe that counts by a registry of benchmarks: another registry, another version.

    Args:
        recipe: stays as it is where no rule asks for `contaminated`.
        registry: its digest; null: nothing is registered.
    """
    if not asks_for_benchmarks(recipe):
        return recipe
    version = _version(recipe.rules, of=recipe.of, levels=recipe.levels, registry=registry)
    return replace(recipe, version=version, registry=registry)


def duplicate_kinds(recipe: Recipe) -> tuple[str, ...]:
    """Kinds of duplicate search whose verdict the recipe asks for."""
    kinds = VOCABULARIES[recipe.of].duplicates
    return tuple(kinds[name] for name in required_signals(recipe) if name in kinds)


def require_searches(recipe: Recipe, searched: Dedup) -> None:
    """Refuse a recipe that asks what the search for duplicates cannot answer.

    Raises:
        ConfigError: a kind that is not searched for, or a similarity below the search's own bound:
            such links were never kept.
    """
    key = "clip_kinds" if recipe.of == "clips" else "kinds"
    kinds = getattr(searched, key)
    for rule in recipe.rules:
        kind = rule.vocabulary.duplicates.get(rule.signal)
        if kind is None:
            continue
        if kind not in kinds:
            raise ConfigError(
                f"rule {rule.name} got signal {rule.signal}; allowed those of dedup.{key}"
                f" ({', '.join(kinds)}); add {kind} there, or leave the rule out"
            )
        least = searched.least_similarity(kind)
        if rule.below is not None and rule.below < least:
            raise ConfigError(
                f"rule {rule.name} got {BELOW} {rule.below:g}; allowed {least:g} to 1: less similar"
                f" ones were not looked for; set dedup.{kind} looser, then"
                f" `sluice duplicates rebuild {kind}`"
            )


def reasons(recipe: Recipe) -> Column:
    """Every reason to reject a candidate, in the recipe's order; empty: kept.

    Returns:
        array of ``schemas.decisions.REASON``, never null, over the columns that
        `required_signals` names. ``value`` is null where the signal was missing.
    """
    return F.array_compact(F.array(*[_reason(rule) for rule in recipe.rules]))


def _require_own_table(written: _Written) -> None:
    """Refuse a name by which gold would have a table of another kind."""
    of_clips = written.name.startswith(_CLIPS)
    if written.of == "clips" and not of_clips:
        raise ConfigError(
            f"name got {written.name} of clips; allowed one that begins with {_CLIPS}, as their"
            " tables of gold do"
        )
    if written.of == "pairs" and (of_clips or written.name.startswith(_DRAWN)):
        raise ConfigError(
            f"name got {written.name} of pairs; allowed one that begins with none of"
            f" {', '.join((_CLIPS, *_DRAWN))}, as other tables of gold do"
        )


def _on_cards(thresholds: Mapping[str, float], vocabulary: Vocabulary) -> dict[str, float]:
    """Thresholds of cards by the signals of a vocabulary."""
    summed_up = vocabulary.of_models.items()
    return {**thresholds, **{s: thresholds[of] for s, of in summed_up if of in thresholds}}


def _content(name_or_path: str, key: str) -> bytes:
    bundled = importlib.resources.files("jobs") / "recipes"  # inside the zip, on a cluster
    names = sorted(file.name.removesuffix(".yaml") for file in bundled.iterdir())
    if name_or_path in names:
        return (bundled / f"{name_or_path}.yaml").read_bytes()
    if Path(name_or_path).is_file():
        return Path(name_or_path).read_bytes()
    raise ConfigError(strict_yaml.unknown(f"{key}.name", name_or_path, [*names, "a YAML file"]))


def _resolved(
    name: str, fields: Mapping[str, JsonValue], thresholds: Mapping[str, float], key: str
) -> dict[str, JsonValue]:
    if "name" in fields:
        raise ConfigError(f"rules.{name} got a field name; allowed the key {name} alone")
    signal = fields.get("signal")
    asks_card = [bound for bound in BOUNDS if fields.get(bound) == CARD]
    if asks_card and signal not in thresholds:
        raise ConfigError(
            f"rules.{name}.{asks_card[0]} got {CARD}, and no model card gives a threshold for"
            f" {signal}; allowed a number: set {key}.overrides.{name}.{asks_card[0]}"
        )
    return {**fields, "name": name} | {bound: thresholds[str(signal)] for bound in asks_card}


def _version(
    rules: tuple[Rule, ...], *, of: Of, levels: Levels | None, registry: str | None = None
) -> str:
    asked = [rule.model_dump(mode="json", exclude={"source"}, exclude_none=True) for rule in rules]
    if of != "pairs":
        asked.append({"of": of})
    if levels is not None:
        asked.append({"levels": levels.model_dump(mode="json", exclude_none=True)})
    if registry is not None:
        asked.append({"registry": registry})
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _reason(rule: Rule) -> Column:
    """The rule's reason, or null where the rule is content."""
    signal = _signal(rule)
    fields = {
        "reason": F.lit(rule.reason),
        "rule": F.lit(rule.name),
        "signal": F.lit(rule.signal),
        "value": F.when(~signal.is_missing, signal.text),
        "threshold": signal.threshold,
    }
    reason = F.struct(*[fields[name].alias(name) for name in decisions.REASON.names])
    is_rejected = F.when(signal.is_missing, F.lit(rule.missing == "reject")).otherwise(
        signal.is_outside
    )
    return F.when(is_rejected, reason)


class _Signal(NamedTuple):
    """What a rule needs to know of its signal."""

    is_missing: Column  # never null
    is_outside: Column  # what the rule refuses, where the signal is not missing
    text: Column  # the value as a reason shows it
    threshold: Column  # what the rule asked of the row, likewise


def _signal(rule: Rule) -> _Signal:
    if rule.signal in rule.vocabulary.numbers:
        return _number(rule)
    return _language(rule) if rule.signal == LANGUAGE else _duplicate(rule)


def _number(rule: Rule) -> _Signal:
    number = F.col(rule.signal).cast("double")
    refused = {
        "min": number.__lt__,
        "above": number.__le__,
        "max": number.__gt__,
        "below": number.__ge__,
    }

    def is_outside(limits: Mapping[str, float]) -> Column:
        return reduce(or_, [refused[bound](limit) for bound, limit in limits.items()])

    pattern = "%.0f" if rule.vocabulary.numbers[rule.signal].is_whole else "%.6g"
    return _Signal(
        is_missing=_is_null_or_nan(number),
        is_outside=_of_its_language(rule, is_outside),
        text=F.format_string(pattern, number),
        threshold=_of_its_language(rule, lambda limits: F.lit(_asked(limits))),
    )


def _of_its_language(rule: Rule, of: Callable[[Mapping[str, float]], Column]) -> Column:
    """What follows from the bounds for a row's language; without such, from the rule's own."""
    found = of(rule.limits)
    for language in rule.languages:
        found = F.when(F.col(LANGUAGE) == language, of(rule.limits_in(language))).otherwise(found)
    return found


def _asked(limits: Mapping[str, float]) -> str:
    return " and ".join(f"{BOUNDS[bound]} {limits[bound]:.6g}" for bound in limits)


def _language(rule: Rule) -> _Signal:
    language, confidence = F.col(LANGUAGE), F.col(CONFIDENCE).cast("double")
    return _Signal(
        is_missing=language.isNull() | _is_null_or_nan(confidence),
        is_outside=(confidence >= F.lit(rule.min_confidence)) & ~language.isin(*rule.one_of),
        text=F.format_string("%s %.6g", language, confidence),
        threshold=F.lit(rule.threshold),
    )


def _duplicate(rule: Rule) -> _Signal:
    verdict = F.col(rule.signal)
    is_outside = verdict["is_duplicate"]
    if rule.below is not None:
        # As the table stores it: 0.9 as a double lies above 0.9 as a float.
        is_outside = is_outside & (verdict["similarity"] >= F.lit(rule.below).cast("float"))
    return _Signal(
        is_missing=verdict["is_duplicate"].isNull(),
        is_outside=is_outside,
        text=verdict["representative_id"],
        threshold=F.lit(rule.threshold),
    )


def _is_null_or_nan(number: Column) -> Column:
    return number.isNull() | F.isnan(number)  # Spark holds NaN greater than any number
