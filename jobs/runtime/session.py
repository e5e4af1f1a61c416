"""The Spark session: Delta switched on, quiet, sized for media rows."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from jobs.runtime.config import Config, is_local
from jobs.runtime.jars import delta_jars
from jobs.runtime.java import require_java
from udfs.onnx_session import GIVES_GPUS

MIB: Final = 1024 * 1024
# Media rows are wide: row groups are sized in bytes so that even a small table can be split.
# The Delta writer ignores the option `parquet.block.size`; the Hadoop setting works (measured).
ROW_GROUP_BYTES: Final = 8 * MIB
# Most that a task reads; Spark gives it less where the cores would not all get work. Beside
# Python's 2.7 ms, an image costs the JVM 1.2 ms in tasks of 8 MiB and 0.65 ms in tasks of 64 MiB
# (CPU time by tests/bench, 20,000 images).
SPLIT_BYTES: Final = 64 * MIB
# Rows of one transport batch to Python; 64 images of 200 kB are 13 MB.
ARROW_ROWS: Final = 64
_ARROW_ROWS: Final = "spark.sql.execution.arrow.maxRecordsPerBatch"
ARROW_BYTES: Final = 16 * MIB

_FIXED: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # In memory: Derby's metastore would lock out every second process.
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.hadoop.parquet.block.size": str(ROW_GROUP_BYTES),
    # The bytes of media are no dictionary; looking whether they are hashes every one of them.
    "spark.hadoop.parquet.enable.dictionary#content": "false",
    "spark.sql.files.maxPartitionBytes": str(SPLIT_BYTES),
    _ARROW_ROWS: str(ARROW_ROWS),
    "spark.sql.execution.arrow.maxBytesPerBatch": str(ARROW_BYTES),
    # 4,096 rows of 200 kB would be 800 MB of column vectors per task.
    "spark.sql.parquet.columnarReaderBatchSize": "256",
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    # Warm models: workers outlive a task, and one idle minute between triggers.
    "spark.python.worker.reuse": "true",
    # The log of a small table needs neither 50 partitions nor a job per read.
    "spark.databricks.delta.snapshotPartitions": "2",
    # A list of all files in each commit's checksum, which Spark never reads (Delta 4.4, Checksum
    # and Snapshot): to begin it is a job over the log (measured, a table made: 0.23 to 0.13 CPU-s).
    "spark.databricks.delta.allFilesInCrc.enabled": "false",
    "spark.sql.streaming.metricsEnabled": "false",
    # One state-free query per stage: keep little of its progress.
    "spark.sql.streaming.numRecentProgressUpdates": "4",
}


def session(config: Config, *, app: str, is_verbose: bool = False) -> SparkSession:
    """The process's session, started on the first call.

    Under `spark-submit` the master and the memory come from the submission.

    Raises:
        EnvironmentProblem: no usable Java, or Delta's jars cannot be had.
    """
    builder: SparkSession.Builder = SparkSession.builder.appName(app)
    is_submitted = _is_submitted()
    settings = dict(_FIXED)
    settings["spark.sql.warehouse.dir"] = f"{config.warehouse}/_spark"
    settings["spark.sql.shuffle.partitions"] = str(config.spark.shuffle_partitions)
    settings["spark.default.parallelism"] = str(config.spark.shuffle_partitions)
    if not is_submitted:
        os.environ["JAVA_HOME"] = require_java()
        # Workers otherwise take whatever python3 stands first on PATH, and modules that happen
        # to lie in the folder they are started in.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYTHONSAFEPATH", "1")
        # A cluster's nodes may have no more of us than what is sent with a task.
        if config.spark.master.startswith("local"):
            settings["spark.python.daemon.module"] = "jobs.runtime.worker_daemon"
        settings["spark.driver.host"] = "localhost"
        settings["spark.driver.bindAddress"] = "127.0.0.1"
        settings["spark.master"] = config.spark.master
        settings["spark.driver.memory"] = config.spark.driver_memory
        settings |= _collector()
        settings["spark.jars"] = ",".join(str(jar) for jar in delta_jars())
    for key, value in (settings | dict(config.spark.conf)).items():
        builder = builder.config(key, value)
    with contextlib.nullcontext() if is_verbose or is_submitted else _aside(config):
        spark = builder.getOrCreate()
    if not is_local(str(spark.sparkContext.master)):
        # Of the workers that are started from now on.
        spark.sparkContext.environment[GIVES_GPUS] = "1"
    spark.sparkContext.setLogLevel("WARN" if is_verbose else "ERROR")
    return spark


def sizes(config: Config) -> dict[str, str]:
    """Settings of Spark that say where tasks run and in how much memory, before a session is there.

    Under `spark-submit` they are the submission's, with what the configuration adds.
    """
    ours = dict(config.spark.conf)
    if _is_submitted():
        SparkContext._ensure_initialized()  # its JVM runs already
        return dict(SparkConf().getAll()) | ours
    spark = config.spark
    return {"spark.master": spark.master, "spark.driver.memory": spark.driver_memory} | ours


def _is_submitted() -> bool:
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _collector() -> dict[str, str]:
    """Java's collector for work that nobody waits for by the millisecond, unless one is chosen."""
    chosen = " ".join(
        os.environ.get(name, "") for name in ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS")
    )
    # Measured, 200,000 texts searched three times for near copies: the JVM took 153 CPU-seconds, by
    # its default 173.
    # Java's quick compiler alone (TieredStopAtLevel=1) is left to short sessions. Measured, 100,000
    # texts again and again: the first search 44 CPU-seconds in place of 61, later ones 27 as with
    # the thorough one, but 18 s in place of 16.
    return {} if "GC" in chosen else {"spark.driver.extraJavaOptions": "-XX:+UseParallelGC"}


@contextlib.contextmanager
def setting(spark: SparkSession, name: str, value: str | int) -> Iterator[None]:
    """Give a setting of the session another value for what is computed meanwhile."""
    before = spark.conf.get(name, None)
    spark.conf.set(name, value)
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(name)
        else:
            spark.conf.set(name, before)


def arrow_rows(spark: SparkSession, rows: int) -> contextlib.AbstractContextManager[None]:
    """Have rows of a few numbers go to Python so many at a time: the session's are for media."""
    return setting(spark, _ARROW_ROWS, rows)


@contextlib.contextmanager
def _aside(config: Config) -> Iterator[None]:
    """Give the JVM started meanwhile, and its workers, a log file in place of our stderr."""
    folder = Path(config.warehouse) / "_logs"
    folder.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    ours = os.dup(2)
    try:
        with (folder / "spark.log").open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(ours, 2)
        os.close(ours)
