"""Levels of alignment: how well image and text fit, as an ordinal that a recipe names.

AlignGPT (arXiv:2405.14129) tells a model, of each pair that it learns from, which of eight levels
of as many pairs each its cosine reaches; a curriculum or a sampler asks for the same.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.runtime import strict_yaml
from jobs.vocabulary import LANGUAGE, PAIRS, Language, Number

ALIGNMENTS: Final = ("clip_score",)  # signals that say how well image and text fit
Edges = Annotated[tuple[Number, ...], Field(min_length=1)]


class Levels(BaseModel):
    """Where levels of a signal begin: a row is of the level as many as it reaches, from 0.

    Attributes:
        signal: one of ALIGNMENTS.
        edges: strictly rising, on the signal's scale.
        of_language: in place of them for texts of a language; as many, so that a level is the same
            rank in each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    signal: str
    edges: Edges
    of_language: dict[Language, Edges] | None = None

    @property
    def asked(self) -> str:
        """Where levels begin, for people.

        >>> Levels(signal="clip_score", edges=(0.2, 0.3), of_language={"fr": (0.1, 0.2)}).asked
        'clip_score 0.2, 0.3; fr 0.1, 0.2'
        """
        others = [
            f"{language} {_listed(edges)}" for language, edges in (self.of_language or {}).items()
        ]
        return "; ".join([f"{self.signal} {_listed(self.edges)}", *others])

    @model_validator(mode="after")
    def _rise_on_the_scale(self) -> Self:
        if self.signal not in ALIGNMENTS:
            raise ValueError(strict_yaml.unknown("signal", self.signal, ALIGNMENTS))
        scale = PAIRS.numbers[self.signal]
        for key, edges in {"edges": self.edges, **self._by_key()}.items():
            if any(higher <= lower for lower, higher in pairwise(edges)):
                raise ValueError(
                    f"got {key} {_listed(edges)}; allowed rising ones, each greater than the one"
                    " before: `sluice recipe calibrate` finds some"
                )
            outside = [edge for edge in edges if not scale.low <= edge <= scale.high]
            if outside:
                raise ValueError(
                    f"got {key} {_listed(outside)} on signal {self.signal};"
                    f" allowed {scale.low:g} to {scale.high:g}"
                )
            if len(edges) != len(self.edges):
                raise ValueError(
                    f"got {key} of {len(edges)} edges; allowed {len(self.edges)}, as many as edges"
                    " has: a level is the same rank in each language"
                )
        return self

    def _by_key(self) -> Mapping[str, tuple[float, ...]]:
        return {f"of_language.{name}": edges for name, edges in (self.of_language or {}).items()}


def level(levels: Levels | None) -> Column:
    """How many edges a row's signal reaches.

    Args:
        levels: null: the recipe names none.

    Returns:
        int, 0 to as many as there are edges, over the signal and `language`; null where there are
        no levels, or the signal is null or NaN.
    """
    if levels is None:
        return F.lit(None).cast("int")
    number = F.col(levels.signal).cast("double")  # as rules compare
    edges = _literal(levels.edges)
    for language, others in (levels.of_language or {}).items():
        edges = F.when(F.col(LANGUAGE) == language, _literal(others)).otherwise(edges)
    reached = F.size(F.filter(edges, lambda edge: edge <= number))
    # Spark holds NaN greater than any number, and a filter by null leaves nothing.
    return F.when(number.isNotNull() & ~F.isnan(number), reached)


def _literal(edges: tuple[float, ...]) -> Column:
    return F.array(*[F.lit(edge) for edge in edges])


def _listed(edges: tuple[float, ...] | list[float]) -> str:
    return ", ".join(f"{edge:.6g}" for edge in edges)
