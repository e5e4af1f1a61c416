"""What it costs to compare a batch of image hashes with all history; prints JSON lines."""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.dedup import phash
from jobs.runtime.config import Config, Dump, Spark
from jobs.runtime.session import session


def cpu_s() -> float:
    """CPU seconds of this process and all it started, the JVM and the workers."""
    us = psutil.Process()
    total = 0.0
    for process in (us, *us.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def write_index(spark: SparkSession, path: str, rows: int) -> int:
    """Bytes of a Delta table of random hashes, sorted by hash."""
    hashes = spark.range(rows).select(F.xxhash64("id").alias("phash"), F.col("id").alias("node"))
    hashes.repartitionByRange(2, "phash").sortWithinPartitions("phash").write.format("delta").save(
        path
    )
    return sum(file.stat().st_size for file in Path(path).rglob("*.parquet"))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history", type=int, nargs="+", default=[125_000, 500_000, 2_000_000])
    parser.add_argument("--radius", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            warehouse=f"{folder}/warehouse",
            dumps=(Dump(name="none", path=folder),),
            spark=Spark(master="local[2]", shuffle_partitions=2),
        )
        spark = session(config, app="bench_phash_index")
        first = max(asked.history)
        batch = spark.range(first, first + asked.batch).select(
            F.xxhash64("id").alias("phash"), F.col("id").alias("node")
        )
        for rows in asked.history:
            size = write_index(spark, f"{folder}/{rows}", rows)
            index = spark.read.format("delta").load(f"{folder}/{rows}")
            for radius in asked.radius:
                for repeat in range(asked.repeats):
                    before, began = cpu_s(), time.perf_counter()
                    found = phash.links(batch, index, radius).count()
                    measured: dict[str, Any] = {
                        "history": rows,
                        "radius": radius,
                        "repeat": repeat,
                        "links": found,
                        "cpu_s": round(cpu_s() - before, 2),
                        "wall_s": round(time.perf_counter() - began, 2),
                        "bytes_a_row": round(size / rows, 1),
                    }
                    print(json.dumps(measured), flush=True)
        spark.stop()


if __name__ == "__main__":
    main()
