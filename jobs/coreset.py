"""Choose a coreset: gold or other pairs -> `gold.coreset_<name>`, exactly as many as asked for."""

import json
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs import themes
from jobs.refilled import refill
from jobs.runtime.errors import ConfigError
from jobs.runtime.tables import Warehouse
from schemas import coreset
from udfs.coreset import QUOTAS, Quota, quotas
from udfs.review_clusters import clusters_for

NAME: Final = "coreset"
Rule = Literal["middle", "near", "far", "score"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)
# Shares of the rows of a cluster by falling score. The highest scores are mostly pictures of their
# own text, the lowest do not match: seeds.md C17, from what trained best of a dump of 2 * 10**9.
BAND: Final = (0.15, 0.55)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a coreset is made with.

    Attributes:
        budget: rows of the coreset, >= 1.
        signal_set: of the pairs.
        where: SQL condition on `silver.pairs`; null: all.
        quota: how a cluster's share grows with its size.
        rule: which rows of a cluster come first. `middle`: those at the median distance to its
            centroid; `near` and `far`: the ends; `score`: the highest.
        band: shares of a cluster by falling score whose rows come before all others; null: none.
        clusters: of k-means; null: by the number of rows, not more than the budget.
    """

    budget: int
    signal_set: str
    where: str | None = None
    quota: Quota = "sqrt"
    rule: Rule = "middle"
    band: tuple[float, float] | None = None
    clusters: int | None = None

    @property
    def text(self) -> str:
        """As the table keeps them."""
        return json.dumps(asdict(self), sort_keys=True)

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: which option, and what is allowed.
        """
        if self.budget < 1:
            raise ConfigError(f"--budget got {self.budget}; allowed 1 or more rows")
        if self.clusters is not None and self.clusters < 1:
            raise ConfigError(f"--clusters got {self.clusters}; allowed 1 or more")
        for option, value, allowed in (
            ("--quota", self.quota, QUOTAS),
            ("--rule", self.rule, RULES),
        ):
            if value not in allowed:
                raise ConfigError(f"{option} got {value}; allowed {', '.join(allowed)}")
        if self.band is not None and not 0 <= self.band[0] < self.band[1] <= 1:
            low, high = self.band
            raise ConfigError(
                f"--band got {100 * low:g}-{100 * high:g}; allowed two rising percentages from 0"
                " to 100; e.g. 15-55"
            )


def run(
    warehouse: Warehouse, name: str, rows: DataFrame, settings: Settings, *, run_id: str
) -> bool:
    """Bring `gold.coreset_<name>` to what the settings choose, in one commit.

    Args:
        warehouse: where the table is.
        name: of the coreset.
        rows: columns of `jobs.themes.COLUMNS`.
        settings: which rows and how.
        run_id: of this run.

    Returns:
        Whether anything changed.

    Raises:
        ConfigError: there are fewer usable rows than the budget.
    """
    settings.check()
    return refill(
        warehouse,
        coreset.table(name),
        lambda: choose(rows, settings),
        stage=NAME,
        name=name,
        run_id=run_id,
    )


def choose(rows: DataFrame, settings: Settings) -> DataFrame:
    """Rows of `gold.coreset_<name>`, but for when and by which run they were published.

    Args:
        rows: columns of `jobs.themes.COLUMNS`.
        settings: how to choose.

    Raises:
        ConfigError: there are fewer usable rows than the budget.
    """
    shape = themes.measured(rows)
    clusters = settings.clusters or min(clusters_for(shape.rows), settings.budget)
    learnt = themes.learn_centroids(rows, shape, clusters=clusters)
    if not len(learnt.vectors):
        _refuse(settings.budget, 0, shape.rows)
    placed = (
        themes.placed(rows, learnt, shape)
        .where(F.col("nearest").isNotNull())
        .select(
            "sample_id",
            F.col("nearest").alias("cluster"),
            (1 - F.col("cosine")).alias("distance"),
            F.col("clip_score").alias("score"),
        )
        .localCheckpoint()
    )
    sizes = np.zeros(len(learnt.vectors), np.int64)
    for row in placed.groupBy("cluster").count().collect():
        sizes[row["cluster"]] = row["count"]
    if settings.budget > sizes.sum():
        _refuse(settings.budget, int(sizes.sum()), shape.rows)
    given = quotas(sizes, budget=settings.budget, quota=settings.quota)
    return best(ranked(placed, rule=settings.rule, band=settings.band), given).withColumns(
        {"rule": F.lit(settings.rule), "settings": F.lit(settings.text)}
    )


def _refuse(budget: int, usable: int, rows: int) -> None:
    raise ConfigError(
        f"--budget got {budget:,}; allowed up to {usable:,}, the pairs with usable embeddings of"
        f" {rows:,}; lower it, or widen --where"
    )


def ranked(
    placed: DataFrame, *, rule: Rule = "middle", band: tuple[float, float] | None = None
) -> DataFrame:
    """The rows with their `rank` in their cluster, from 1; equals by their id.

    Args:
        placed: `sample_id`, `cluster`, `distance`, `score`.
        rule: what is ranked by.
        band: shares of the cluster by falling score; its rows come first, then those nearest to it.
            It changes ranks alone, never how many rows a cluster gives.
    """
    # Sorts of narrow rows, which Spark spills: a cluster may be larger than memory.
    cluster = Window.partitionBy("cluster")
    size = F.count("*").over(cluster)
    by_distance = F.row_number().over(cluster.orderBy("distance", "sample_id"))
    # Rows without a score come last.
    by_score = F.row_number().over(cluster.orderBy(F.desc_nulls_last("score"), "sample_id"))
    told = placed.withColumns({"by_distance": by_distance, "by_score": by_score, "size": size})
    keys = {
        "middle": F.abs(2 * F.col("by_distance") - F.col("size") - 1),
        "near": F.col("by_distance"),
        "far": -F.col("by_distance"),
        "score": F.col("by_score"),
    }
    outside = F.lit(0.0)
    if band is not None:
        # The middle of the row's share of the cluster: one row alone lies at a half.
        share = (F.col("by_score") - 0.5) / F.col("size")
        outside = F.greatest(F.lit(0.0), band[0] - share, share - band[1])
    order = cluster.orderBy(outside, keys[rule], "sample_id")
    return told.withColumn("rank", F.row_number().over(order)).drop(
        "by_distance", "by_score", "size"
    )


def best(rows: DataFrame, given: np.ndarray) -> DataFrame:
    """Of each cluster as many as it gives, the first by `rank`.

    Args:
        rows: `cluster`, `rank` and more.
        given: (k,) int, rows of each cluster.
    """
    quota = rows.sparkSession.createDataFrame(
        [(cluster, int(count)) for cluster, count in enumerate(given)], "cluster int, quota long"
    )
    return (
        rows.join(F.broadcast(quota), "cluster")
        .where(F.col("rank") <= F.col("quota"))
        .drop("quota")
    )
