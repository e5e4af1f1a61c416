"""What new links do to the clusters that they touch: the forest grows, verdicts change."""

from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.dedup.components import clusters
from jobs.runtime.tables import newest
from schemas import duplicate_edges

_LINK: Final = ("a", "b", "similarity", "a_score", "b_score")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What becomes of the clusters that new links touch.

    Attributes:
        nodes: `node`, `cluster`, `elder`, `similarity`, `is_duplicate` of every content in them.
        former: the same by the links of before.
        edges: rows for `silver.duplicate_edges`: links that joined the forest, changed their
            cluster, or left it.
    """

    nodes: DataFrame
    former: DataFrame
    edges: DataFrame


def grown(links: DataFrame, history: DataFrame, kind: str) -> Change:
    """Add links to the forest.

    A component that no new link touches is as it was, and is not read beyond its name.

    Args:
        links: `a`, `b`, `similarity`, `a_score`, `b_score`.
        history: rows of `silver.duplicate_edges` before the batch.
        kind: of the links.
    """
    known = history.where(F.col("kind") == kind)
    ends = links.select(F.col("a").alias("end")).union(links.select("b")).distinct()
    ends = F.broadcast(ends.localCheckpoint())
    hit = (
        known.join(ends, F.col("a") == F.col("end"), "left_semi")
        .select("cluster")
        .union(known.join(ends, F.col("b") == F.col("end"), "left_semi").select("cluster"))
        .distinct()
        .localCheckpoint()
    )
    # All links of a component carry its name in their newest rows, so none of it is missed.
    touched = newest(known.join(F.broadcast(hit), "cluster", "left_semi"), duplicate_edges.TABLE)
    touched = touched.where("is_forest").localCheckpoint()
    nodes, forest = clusters(touched.select(*_LINK).unionByName(links.select(*_LINK)))
    former = nodes.limit(0) if touched.isEmpty() else clusters(touched.select(*_LINK))[0]
    return Change(nodes=nodes, former=former, edges=_changed(touched, nodes, forest, kind))


def _changed(touched: DataFrame, nodes: DataFrame, forest: DataFrame, kind: str) -> DataFrame:
    of_node = nodes.select(F.col("node").alias("a"), F.col("cluster").alias("now"))
    before = touched.select(
        "a", "b", F.col("cluster").alias("was"), F.col("revision").alias("former")
    )
    standing = (
        forest.select(*_LINK)
        .join(of_node, "a")
        .join(before, ["a", "b"], "left")
        .where(F.col("was").isNull() | (F.col("was") != F.col("now")))
        .withColumn("is_forest", F.lit(True))
    )
    left = (
        touched.select(*_LINK, F.col("cluster").alias("was"), F.col("revision").alias("former"))
        .join(forest.select("a", "b"), ["a", "b"], "left_anti")
        .join(of_node, "a")
        .withColumn("is_forest", F.lit(False))
    )
    return standing.unionByName(left).select(
        F.lit(kind).alias("kind"),
        *_LINK,
        F.col("now").alias("cluster"),
        "is_forest",
        F.coalesce(F.col("former") + 1, F.lit(0)).alias("revision"),
    )
