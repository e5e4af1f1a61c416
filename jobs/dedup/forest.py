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
        nodes: of every content in them `node`, `cluster`, `elder`, `similarity`, `is_duplicate`,
            and the last four by the links of before, null where it had none: `was_*`.
        edges: rows for `silver.duplicate_edges`: links that joined the forest, changed their
            cluster, or left it.
    """

    nodes: DataFrame
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
    hit = (
        known.select(F.explode(F.array("a", "b")).alias("node"), "cluster")
        .join(F.broadcast(ends(links)), "node", "left_semi")
        .select("cluster")
        .distinct()
    )
    # All links of a component carry its name in their newest rows, so none of it is missed.
    touched = newest(known.join(F.broadcast(hit), "cluster", "left_semi"), duplicate_edges.TABLE)
    touched = touched.where("is_forest").withColumnRenamed("cluster", "was")
    nodes, remembered = clusters(
        touched.select(*_LINK, "was", "revision").unionByName(
            links.select(*_LINK), allowMissingColumns=True
        )
    )
    changed = remembered.where("was IS NULL OR was <> cluster OR NOT is_forest")
    edges = changed.select(
        F.lit(kind).alias("kind"),
        *_LINK,
        "cluster",
        "is_forest",
        F.coalesce(F.col("revision") + 1, F.lit(0)).alias("revision"),
    )
    return Change(nodes=nodes, edges=edges)


def ends(links: DataFrame) -> DataFrame:
    """The nodes that links join: `node`, distinct."""
    return links.select(F.explode(F.array("a", "b")).alias("node")).distinct()
