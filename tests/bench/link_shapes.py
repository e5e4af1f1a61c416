"""Find the clusters of a shape of links, inside a cluster; JSON. Run by `bench_components.py`."""

import json
import sys
import time

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.dedup.components import clusters

SHAPES = ("chain", "star", "random")


def links(spark: SparkSession, shape: str, count: int) -> DataFrame:
    """So many links, made by the executors, in an order that says nothing."""
    number = F.col("id")
    half = count // 2  # two links a node: most of the nodes are in one component

    def drawn(seed: int) -> Column:
        return F.pmod(F.xxhash64(number, F.lit(seed)), F.lit(half))

    a, b = {
        "chain": (number, number + 1),
        "star": (F.lit(count), number),  # the last node is the hub
        "random": (drawn(1), drawn(2)),
    }[shape]
    similarity = 0.7 + F.pmod(F.xxhash64(number), F.lit(300)) / 1000
    return (
        spark.range(count, numPartitions=8)
        .select(a.alias("a"), b.alias("b"), similarity.alias("similarity"))
        .withColumns({"a_score": F.lit(None).cast("double"), "b_score": F.lit(None).cast("double")})
        .repartition(8, F.xxhash64("a", "b"))
        .localCheckpoint()
    )


def main() -> None:
    """Arguments: shape, links, limit, partitions of a shuffle."""
    shape, count, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    spark = SparkSession.builder.appName(shape).getOrCreate()
    spark.conf.set("spark.sql.shuffle.partitions", sys.argv[4])
    given = links(spark, shape, count)
    started = time.monotonic()
    nodes, forest = clusters(given, limit=limit)
    wall_s = time.monotonic() - started
    cluster = nodes.select("node", "cluster")
    ends = given.where("a != b").join(cluster.toDF("a", "of_a"), "a")
    apart = ends.join(cluster.toDF("b", "of_b"), "b").where("of_a != of_b").count()
    figures = {
        "wall_s": round(wall_s, 1),
        "nodes": nodes.count(),
        "clusters": cluster.select("cluster").distinct().count(),
        "forest": forest.count(),
        "links_between_clusters": apart,
    }
    print(json.dumps(figures))
    spark.stop()


if __name__ == "__main__":
    main()
