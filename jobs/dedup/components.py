"""Connected components and clusters of links, spread over tasks.

Nothing that grows with the links comes to the driver, only counts.
"""

import math
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.held import computed, held
from jobs.runtime.session import arrow_rows
from udfs import link_batches

# Links that a task holds. Spark gives an executor 384 MiB beside its heap if nothing else is said
# (`spark.executor.minMemoryOverhead`). A link takes about 190 bytes: two Arrow copies of 44, and
# 100 in the kernel (measured); so this many take 200 MB. Chance of hashing may give a task more
# than its share.
LIMIT: Final = 1 << 20

_STARS: Final = "node long, root long, place long"
_LINK: Final = (
    "a long, b long, similarity float, a_score double, b_score double, was long, revision int"
)
_LINK_NAMES: Final = ("a", "b", "similarity", "a_score", "b_score", "was", "revision")
_JUDGED: Final = (
    "node long, cluster long, elder long, similarity float, is_duplicate boolean, "
    "was_cluster long, was_elder long, was_similarity float, was_is_duplicate boolean, "
    "a long, b long, a_score double, b_score double, was long, revision int"
)


def components(links: DataFrame, *, limit: int = LIMIT) -> DataFrame:
    """The connected component of every node that has a link.

    While the links are more than a task may hold, they are contracted: each task finds the
    components of a random part of them and names each by its first node in a random order; each
    node takes the first of the names that it was given, and the links between different names
    are the links of the next round. At most 3/4 of the nodes are expected to remain, and what is
    complete has no link left. However many links a node has, it is met once a task.

    Source: Bögeholz, Brand and Todor, "In-database connected component analysis", ICDE 2020; to
    contract within a task first is ours.

    Args:
        links: `a`, `b` (long). A row with a null, or of a node with itself, is no link.
        limit: links that a task may hold.

    Returns:
        `node`, `component` (long): the least node of the component. Computed.
    """
    with arrow_rows(links.sparkSession, link_batches.ROWS):
        found = held(_links(links.select("a", "b")))
        return _components(found.frame, found.rows, limit)


def clusters(links: DataFrame, *, limit: int = LIMIT) -> tuple[DataFrame, DataFrame]:
    """Survivors and duplicates by the elder rule of `udfs.elders`, and the links to remember.

    A component is judged by one task: 100 bytes a node (measured), so 10 M nodes take 1 GB.
    Where a component has more links than a task may hold, and more than three times its nodes,
    tasks reduce parts of it to their forests until that is so no more.

    Args:
        links: `a`, `b` (long), `similarity` (float), `a_score`, `b_score` (double). A row with a
            null or the same node for ends, or a similarity outside [0, 1], is no link. Links that
            are remembered from before have `was` (long), their cluster then, and `revision`
            (int), which are null of new ones.
        limit: links that a task may hold.

    Returns:
        The nodes: `node`, `cluster`, `elder` (long), `similarity` (float), `is_duplicate`, and
        the last four as they were by the links from before: `was_*`, null of a node without any.
        The links: `a` < `b`, `similarity`, `a_score`, `b_score`, `cluster`, `is_forest`, `was`,
        `revision`, of all in the forest and of those from before that left it. Both computed.
    """
    with arrow_rows(links.sparkSession, link_batches.ROWS):
        found = held(_links(links))
        if found.rows <= limit:
            whole = found.frame.coalesce(1)
        else:
            named = _components(found.frame, found.rows, limit)
            of_component = found.frame.join(named.withColumnRenamed("node", "a"), "a")
            thin = held(_thinned(of_component, named, limit))
            whole = thin.frame.repartition(_tasks(thin.rows, limit), "component").drop("component")
        judged = computed(whole.mapInArrow(link_batches.judging, _JUDGED))
    is_node = F.col("node").isNotNull()
    of_node = ("cluster", "elder", "similarity", "is_duplicate")
    nodes = judged.where(is_node).select("node", *of_node, *(f"was_{name}" for name in of_node))
    of_link = ("a", "b", "similarity", "a_score", "b_score", "cluster")
    remembered = judged.where(F.col("a").isNotNull()).select(
        *of_link, is_node.alias("is_forest"), "was", "revision"
    )
    return nodes, remembered


def _components(links: DataFrame, count: int, limit: int) -> DataFrame:
    rounds: list[DataFrame] = []
    while count > limit:
        contract = link_batches.contracting(shuffle=len(rounds))
        stars = computed(
            links.select("a", "b")
            .repartition(_tasks(count, limit), "a", "b")
            .mapInArrow(contract, _STARS)
            .repartition("node")
        )
        names = computed(stars.groupBy("node").agg(F.min_by("root", "place").alias("name")))
        rest = held(_contracted(stars, names))
        links, count = rest.frame, rest.rows
        rounds.append(names)
    found = computed(
        links.select("a", "b")
        .coalesce(1)
        .mapInArrow(link_batches.contracting(), _STARS)
        .select("node", F.col("root").alias("component"))
    )
    return _unrolled(rounds, found) if rounds else found


def _contracted(stars: DataFrame, names: DataFrame) -> DataFrame:
    """Links between names, where a star's node and its root were given different ones."""
    # Distinct before the second join too: a star of a million rays is then one row.
    half = stars.join(names, "node").select("root", F.col("name").alias("a")).distinct()
    other = names.select(F.col("node").alias("root"), F.col("name").alias("b"))
    return _links(half.join(other, "root").select("a", "b")).distinct()


def _unrolled(rounds: list[DataFrame], found: DataFrame) -> DataFrame:
    """The least node of every node's component, from the names of all rounds."""
    for names in reversed(rounds):
        later = found.withColumnRenamed("node", "name")
        # A name without a later link stands for a whole component.
        found = names.join(later, "name", "left").select(
            "node", F.coalesce("component", "name").alias("component")
        )
    found = computed(found)
    least = found.groupBy("component").agg(F.min("node").alias("least"))
    named = found.join(least, "component")
    return computed(named.select("node", F.col("least").alias("component")))


def _thinned(links: DataFrame, named: DataFrame, limit: int) -> DataFrame:
    """The links without those that some part of their component can do without.

    Args:
        links: with `component`.
        named: `node`, `component`.
        limit: links that a task may hold.
    """
    # A part keeps its forest and its links from before, which are a forest too: fewer than two for
    # each node of the component. So parts of three times the nodes lose links for certain; a task
    # that judges the component holds as many nodes anyway.
    room = named.groupBy("component").agg(F.greatest(F.lit(limit), 3 * F.count("*")).alias("room"))
    while True:
        sizes = links.groupBy("component").agg(F.count("*").alias("size"))
        parts = F.ceil(F.col("size") / F.col("room"))
        # Not more than links / limit of them.
        large = sizes.where(F.col("size") > limit).join(room, "component").where("size > room")
        excess = held(large, parts=F.sum(parts))
        if not excess.rows:
            return links
        part = F.pmod(F.xxhash64("a", "b"), parts)
        thin = (
            links.join(F.broadcast(excess.frame), "component")
            .select(*links.columns, part.alias("part"))
            .repartition(int(excess.said["parts"]), "component", "part")
            .select("component", *_LINK_NAMES)
            .mapInArrow(link_batches.spanning, f"component long, {_LINK}")
        )
        rest = links.join(F.broadcast(excess.frame), "component", "left_anti")
        links = computed(rest.unionByName(thin))


def _links(rows: DataFrame) -> DataFrame:
    """The rows that are links, the lesser end first."""
    a, b = (F.col(end).cast("long") for end in ("a", "b"))
    columns = {"a": F.least(a, b), "b": F.greatest(a, b)}
    is_link = a.isNotNull() & b.isNotNull() & (a != b)
    if "similarity" in rows.columns:
        columns["similarity"] = F.col("similarity").cast("float")
        # NaN is above every number to Spark; null is no answer, so the row goes.
        is_link &= columns["similarity"].between(0, 1)
        for name, other in (("a_score", "b_score"), ("b_score", "a_score")):
            columns[name] = F.when(a < b, F.col(name)).otherwise(F.col(other)).cast("double")
        for name, dtype in (("was", "long"), ("revision", "int")):
            known = F.col(name) if name in rows.columns else F.lit(None)
            columns[name] = known.cast(dtype)
    return rows.where(is_link).select(*(column.alias(name) for name, column in columns.items()))


def _tasks(count: int, limit: int) -> int:
    return max(1, math.ceil(count / limit))
