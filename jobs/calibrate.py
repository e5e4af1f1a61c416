"""What a bound on a signal would have to be, for each language, to keep a share; and its levels.

A cosine means something for one CLIP only, and for the languages that it was taught: of two models,
or two languages, the same share is a fairer cut than the same number.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.errors import ConfigError, NotFound
from jobs.vocabulary import LANGUAGE

KEEP: Final = 0.1  # LAION-5B kept about a tenth of what had been crawled (arXiv:2210.08402)
LEVELS: Final = 8  # AlignGPT's (arXiv:2405.14129)
LEAST_ROWS: Final = 1_000  # chosen: a share of a tenth of them has a standard error of a hundredth
_RANKS: Final = 100_000  # chosen: of percentile_approx, off by no more than one row in so many


class Group(NamedTuple):
    """Texts that have a bound of their own.

    Attributes:
        language: null: of all that are too few, or have none.
        rows: with a value of the signal.
        least: value from which the share is kept.
    """

    language: str | None
    rows: int
    least: float


def bounds(
    candidates: DataFrame, signal: str, keep: float = KEEP, least_rows: int = LEAST_ROWS
) -> tuple[Group, ...]:
    """From which value on each language keeps a share of its rows, or little more.

    Args:
        candidates: `language`, and the signal; without a value (null, NaN) a row does not count.
        signal: numeric.
        keep: the share, in (0, 1].
        least_rows: of a language that has a bound of its own.

    Returns:
        the most frequent language first, what they leave over last, if there is any.

    Raises:
        ConfigError: a share that is none.
        NotFound: no row has a value.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"--keep got {keep:g}; allowed above 0 to 1, e.g. 0.1")
    measured = _measured(candidates, signal)
    # As many rows as there are languages.
    counts = measured.groupBy(LANGUAGE).count().where(F.col("count") >= least_rows).collect()
    large = [row[LANGUAGE] for row in counts if row[LANGUAGE] is not None]
    group = F.when(F.col(LANGUAGE).isin(large), F.col(LANGUAGE))
    found = (
        measured.groupBy(group.alias(LANGUAGE))
        .agg(
            F.count("*").alias("rows"),
            F.percentile_approx(signal, 1 - keep, _RANKS).alias("least"),
        )
        .orderBy(F.col(LANGUAGE).isNull(), F.desc("rows"), LANGUAGE)
        .collect()
    )
    if not found:
        raise NotFound(f"no row has a {signal}; `sluice run` with a signal that gives it first")
    return tuple(Group(*row) for row in found)


def edges(
    candidates: DataFrame, signal: str, levels: int = LEVELS, languages: Sequence[str] = ()
) -> dict[str | None, tuple[float, ...]]:
    """Where levels of about as many rows each begin.

    Args:
        candidates: as for `bounds`.
        signal: numeric.
        levels: how many.
        languages: that have edges of their own.

    Returns:
        of all rows, whatever their language, under null, and of each language; rising, one fewer
        than there are levels: a row is of the level as many as it reaches. Equal ones where many
        rows have the same value.

    Raises:
        ConfigError: fewer than two levels.
    """
    if levels < 2:
        raise ConfigError(f"--levels got {levels}; allowed 2 or more")
    shares = [level / levels for level in range(1, levels)]
    every = F.lit(None).cast("string")
    of_its_own = F.when(F.col(LANGUAGE).isin(*languages), F.array(every, F.col(LANGUAGE)))
    found = (
        _measured(candidates, signal)
        .select(F.explode(F.coalesce(of_its_own, F.array(every))).alias("of"), signal)
        .groupBy("of")
        .agg(F.percentile_approx(signal, shares, _RANKS).alias("edges"))
        .collect()
    )
    by_language = {row.of: tuple(row.edges) for row in found}
    return {language: by_language.get(language, ()) for language in (None, *languages)}


def merged(found: Mapping[str | None, Sequence[float]]) -> tuple[str, ...]:
    """Languages, or ``all``, of which levels that a recipe may name cannot be told apart.

    >>> merged({None: [0.2, 0.3], "fr": [0.2, 0.2]})
    ('fr',)
    """
    return tuple(
        language or "all"
        for language, edges in found.items()
        if not edges or any(higher <= lower for lower, higher in pairwise(edges))
    )


def levels(signal: str, found: Mapping[str | None, Sequence[float]]) -> dict[str, object]:
    """What makes gold say the level, as a recipe says it.

    >>> levels("clip_score", {None: (0.2, 0.3), "fr": (0.1, 0.2)})
    {'signal': 'clip_score', 'edges': [0.2, 0.3], 'of_language': {'fr': [0.1, 0.2]}}
    """
    of_language = {language: list(edges) for language, edges in found.items() if language}
    asked: dict[str, object] = {"signal": signal, "edges": list(found[None])}
    return asked | ({"of_language": of_language} if of_language else {})


def overrides(rule: str, groups: Sequence[Group]) -> dict[str, object]:
    """What makes a rule keep from these bounds on, as a configuration says it.

    >>> overrides("alignment", [Group("en", 9000, 0.28), Group(None, 40, 0.26)])
    {'alignment': {'min': 0.26, 'of_language': {'en': {'min': 0.28}}}}
    """
    named = {group.language: {"min": group.least} for group in groups if group.language}
    others = [group.least for group in groups if group.language is None]
    # Of languages that are yet to come as much is asked as of the strictest.
    least = others[0] if others else max(group.least for group in groups)
    return {rule: {"min": least, "of_language": named}}


def _measured(candidates: DataFrame, signal: str) -> DataFrame:
    value = F.col(signal).cast("double")
    measured = candidates.select(LANGUAGE, value.alias(signal))
    return measured.where(F.col(signal).isNotNull() & ~F.isnan(signal))
