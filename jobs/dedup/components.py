"""Connected components and clusters of links, spread over tasks.

Nothing that grows with the links comes to the driver, only counts. What an executor holds for a
later step is lost with the executor: the batch then fails and runs again.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from udfs import link_batches

# Links that a task holds. Spark gives an executor 384 MiB beside its heap if nothing else is said
# (`spark.executor.minMemoryOverhead`). A link takes about 190 bytes: two Arrow copies of 44, and
# 100 in the kernel (measured); so this many take 200 MB. Chance of hashing may give a task more
# than its share.
LIMIT: Final = 1 << 20

_ROWS_A_BATCH: Final = "spark.sql.execution.arrow.maxRecordsPerBatch"
_STARS: Final = "node long, root long, place long"
_LINKS: Final = "component long, a long, b long, similarity float, a_score double, b_score double"
_JUDGED: Final = (
    "node long, cluster long, elder long, similarity float, is_duplicate boolean, "
    "a long, b long, a_score double, b_score double"
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
    with _long_batches(links.sparkSession):
        return _components(_links(links.select("a", "b")).localCheckpoint(), limit)


def clusters(links: DataFrame, *, limit: int = LIMIT) -> tuple[DataFrame, DataFrame]:
    """Survivors and duplicates by the elder rule of `udfs.elders`, and the links to remember.

    A component is judged by one task: 100 bytes a node (measured), so 10 M nodes take 1 GB.
    Where a component has more links than a task may hold, and more than twice its nodes, tasks
    reduce parts of it to their forests until that is so no more.

    Args:
        links: `a`, `b` (long), `similarity` (float), `a_score`, `b_score` (double). A row with a
            null or the same node for ends, or a similarity outside [0, 1], is no link.
        limit: links that a task may hold.

    Returns:
        The nodes: `node`, `cluster`, `elder` (long), `similarity` (float), `is_duplicate`. The
        forest: `a` < `b`, `similarity`, `a_score`, `b_score` of its links, and their `cluster`.
        Both computed.
    """
    with _long_batches(links.sparkSession):
        held = _links(links).localCheckpoint()
        count = held.count()
        if count <= limit:
            whole = held.coalesce(1)
        else:
            named = _components(held, limit)
            of_component = held.join(named.withColumnRenamed("node", "a"), "a")
            thin = _thinned(of_component, named, limit)
            whole = thin.repartition(_tasks(thin.count(), limit), "component")
        judged = whole.mapInArrow(link_batches.judging, _JUDGED).localCheckpoint()
    nodes = judged.select("node", "cluster", "elder", "similarity", "is_duplicate")
    forest = judged.where("is_duplicate").select(
        "a", "b", "similarity", "a_score", "b_score", "cluster"
    )
    return nodes, forest


def _components(links: DataFrame, limit: int) -> DataFrame:
    rounds: list[DataFrame] = []
    while (count := links.count()) > limit:
        contract = link_batches.contracting(shuffle=len(rounds))
        stars = (
            links.select("a", "b")
            .repartition(_tasks(count, limit), "a", "b")
            .mapInArrow(contract, _STARS)
            .repartition("node")
            .localCheckpoint()
        )
        names = stars.groupBy("node").agg(F.min_by("root", "place").alias("name")).localCheckpoint()
        links = _contracted(stars, names)
        rounds.append(names)
    found = (
        links.select("a", "b")
        .coalesce(1)
        .mapInArrow(link_batches.contracting(), _STARS)
        .select("node", F.col("root").alias("component"))
        .localCheckpoint()
    )
    return _unrolled(rounds, found) if rounds else found


def _contracted(stars: DataFrame, names: DataFrame) -> DataFrame:
    """Links between names, where a star's node and its root were given different ones."""
    # Distinct before the second join too: a star of a million rays is then one row.
    half = stars.join(names, "node").select("root", F.col("name").alias("a")).distinct()
    other = names.select(F.col("node").alias("root"), F.col("name").alias("b"))
    return _links(half.join(other, "root").select("a", "b")).distinct().localCheckpoint()


def _unrolled(rounds: list[DataFrame], found: DataFrame) -> DataFrame:
    """The least node of every node's component, from the names of all rounds."""
    for names in reversed(rounds):
        later = found.withColumnRenamed("node", "name")
        # A name without a later link stands for a whole component.
        found = names.join(later, "name", "left").select(
            "node", F.coalesce("component", "name").alias("component")
        )
    found = found.localCheckpoint()
    least = found.groupBy("component").agg(F.min("node").alias("least"))
    return (
        found.join(least, "component")
        .select("node", F.col("least").alias("component"))
        .localCheckpoint()
    )


def _thinned(links: DataFrame, named: DataFrame, limit: int) -> DataFrame:
    """The links without those that some part of their component can do without.

    Args:
        links: with `component`.
        named: `node`, `component`.
        limit: links that a task may hold.
    """
    # The forest of a part has fewer links than the component has nodes, so parts of twice the
    # nodes halve it; a task that judges the component holds as many nodes anyway.
    room = named.groupBy("component").agg(F.greatest(F.lit(limit), 2 * F.count("*")).alias("room"))
    while True:
        sizes = links.groupBy("component").agg(F.count("*").alias("size"))
        # Not more than links / limit of them.
        large = sizes.where(F.col("size") > limit).join(room, "component")
        large = large.where("size > room").localCheckpoint()
        excess = large.agg(F.sum(F.ceil(F.col("size") / F.col("room")))).first()
        if excess is None or excess[0] is None:
            return links
        part = F.pmod(F.xxhash64("a", "b"), F.ceil(F.col("size") / F.col("room")))
        thin = (
            links.join(F.broadcast(large), "component")
            .select(*links.columns, part.alias("part"))
            .repartition(int(excess[0]), "component", "part")
            .select("component", "a", "b", "similarity", "a_score", "b_score")
            .mapInArrow(link_batches.spanning, _LINKS)
        )
        rest = links.join(F.broadcast(large), "component", "left_anti")
        links = rest.unionByName(thin).localCheckpoint()


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
    return rows.where(is_link).select(*(column.alias(name) for name, column in columns.items()))


def _tasks(count: int, limit: int) -> int:
    return max(1, math.ceil(count / limit))


@contextmanager
def _long_batches(spark: SparkSession) -> Iterator[None]:
    """Have rows go to Python in batches for rows of a few numbers; the session's are for media."""
    before = spark.conf.get(_ROWS_A_BATCH)
    spark.conf.set(_ROWS_A_BATCH, str(link_batches.ROWS))
    try:
        yield
    finally:
        spark.conf.set(_ROWS_A_BATCH, str(before))
