"""What recipes judge: rows of a table, with all that can be asked of them, and their gold."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.levels import Levels
from jobs.runtime.models import Scoring
from jobs.runtime.quality import Verdict
from jobs.runtime.tables import Warehouse
from jobs.vocabulary import VOCABULARIES, Of, Vocabulary

# Rows of a table and a column -> of these, at least those that belong to what is judged.
Narrow = Callable[[DataFrame, str], DataFrame]


@dataclass(frozen=True)
class Judged(ABC):
    """Samples of one kind: what is particular to it when they are decided and published.

    Attributes:
        of: what a recipe calls them.
        suffix: by which the names of their stages differ from those of pairs.
        table: whose rows are judged, one a sample and signal set.
        columns: of them, what the stage that decides reads.
        validate: checks a table of gold as it would be: of `jobs.runtime.quality`.
        may_be_empty: a recipe that keeps nothing new is not looked at by the gate: of several tiers
            the narrowest may have to wait for its first.
        scoring: signal sets of images and texts.
    """

    of: ClassVar[Of]
    suffix: ClassVar[str]
    table: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    validate: ClassVar[Callable[..., Verdict]]
    may_be_empty: ClassVar[bool] = False

    scoring: Scoring

    @property
    def vocabulary(self) -> Vocabulary:
        """What recipes may ask of them."""
        return VOCABULARIES[self.of]

    @property
    @abstractmethod
    def signal_set(self) -> str:
        """Whose rows of the table are judged."""

    @abstractmethod
    def candidates(
        self, warehouse: Warehouse, rows: DataFrame, narrow: Narrow, registry: str | None
    ) -> DataFrame:
        """Everything that a recipe may ask but verdicts on duplicates, one row each.

        Args:
            warehouse: has the tables.
            rows: `columns` of rows of the table.
            narrow: leaves of other tables' rows those that belong to them.
            registry: digest of the benchmarks by which `contaminated` counts; null: it is null.
        """

    @abstractmethod
    def published(
        self, warehouse: Warehouse, kept: DataFrame, levels: Levels | None = None
    ) -> DataFrame:
        """Rows of gold, without the columns that say when and by which run.

        Args:
            warehouse: has the tables.
            kept: `sample_id`, `recipe_version`.
            levels: of that recipe.
        """

    def with_verdicts(self, found: DataFrame, verdicts: DataFrame) -> DataFrame:
        """The candidates with a column for each kind of duplicates; null: no verdict.

        Args:
            found: candidates.
            verdicts: rows of `silver.duplicates` that hold, of these or also of others.
        """
        verdict = F.struct("is_duplicate", "representative_id", "similarity")
        by_kind = verdicts.groupBy("sample_id").agg(
            *(
                F.any_value(F.when(F.col("kind") == kind, verdict), True).alias(name)
                for name, kind in self.vocabulary.duplicates.items()
            )
        )
        return found.join(by_kind, "sample_id", "left")

    def shaped(self, found: DataFrame) -> DataFrame:
        """The candidates with what follows from their width and height."""
        width_px, height_px = F.col("width_px"), F.col("height_px")
        shorter = F.least(width_px, height_px)
        return found.withColumns(
            {
                "shorter_side_px": shorter,
                "aspect_ratio": F.greatest(width_px, height_px) / shorter,
            }
        )
