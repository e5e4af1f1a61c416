"""Submitted to a cluster: tells which device each of eight tasks was given, and when it ran.

    gpu_tasks.py 1 2 all

Arguments: how many tasks of a stage, which asks as the product does, are to share a GPU; `all`
asks for nothing.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.runtime import gpus
from jobs.runtime.config import Config, Dump, Models
from jobs.runtime.session import session

TOLD: Final = "address int, cores int, executor string, start double, end double"


def told(_: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What a task says of the device that it was given, null for none."""
    from pyspark import TaskContext

    from udfs.onnx_session import gpu_address

    started = time.time()
    time.sleep(1)  # long enough that tasks which may share a device do
    # Each executor has a folder of its own.
    row = {
        "address": pa.array([gpu_address()], pa.int32()),
        "cores": pa.array([TaskContext.get().cpus()], pa.int32()),
        "executor": pa.array([os.getcwd()]),
        "start": pa.array([started]),
        "end": pa.array([time.time()]),
    }
    yield pa.RecordBatch.from_pydict(row)


def asked(spark: SparkSession, how: str) -> list[dict[str, object]]:
    """What eight tasks of a stage say."""
    share = None
    if how != "all":
        share = gpus.share(Models(tasks_per_gpu=int(how)), spark.sparkContext)
    rows = spark.range(8, numPartitions=8).mapInArrow(told, TOLD, profile=share)
    # As heads follow their embedding, in the same stage.
    rows = rows.mapInArrow(lambda batches: batches, TOLD, profile=share)
    return [row.asDict() for row in rows.collect()]


if __name__ == "__main__":
    config = Config(warehouse=os.getcwd(), dumps=(Dump(name="none", path="none"),))
    spark = session(config, app="gpu_tasks")
    tracker = spark.sparkContext._jsc.sc().statusTracker()
    while len(tracker.getExecutorInfos()) < 3:  # and the driver
        time.sleep(0.2)
    print(json.dumps({how: asked(spark, how) for how in sys.argv[1:]}))
