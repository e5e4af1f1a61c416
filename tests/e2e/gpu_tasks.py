"""Submitted to a cluster: tells which device each of eight tasks was given, and when it ran."""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession


def told(_: Any) -> Iterator[dict[str, Any]]:
    """What a task that has a device says; one that has none fails."""
    from pyspark import TaskContext

    from udfs.onnx_session import gpu_address

    started = time.time()
    assert "gpu" in TaskContext.get().resources()
    address = gpu_address()
    time.sleep(1)  # long enough that tasks which may share a device do
    yield {
        "address": address,
        "executor": os.getcwd(),  # each has a folder of its own
        "start": started,
        "end": time.time(),
    }


if __name__ == "__main__":
    spark = SparkSession.builder.getOrCreate()
    tracker = spark.sparkContext._jsc.sc().statusTracker()
    while len(tracker.getExecutorInfos()) < 3:  # and the driver
        time.sleep(0.2)
    print(json.dumps(spark.sparkContext.range(8, numSlices=8).mapPartitions(told).collect()))
