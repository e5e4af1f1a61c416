"""What makes Spark quick on very little data; nothing here changes a result."""

from typing import Final

# Java's own 48 MB for quickly compiled code are full after half a cycle: from then on it throws
# code away and compiles it again (measured, a warm cycle: 125 s, with room 94 s).
_JAVA: Final = "-XX:+UseSerialGC -XX:ReservedCodeCacheSize=512m"
_DRIVER: Final = "spark.driver.extraJavaOptions"
CONF: Final = {
    # Thorough compilation and planning cost more than they give back (measured on a warm cycle
    # over 18 entries: 96 CPU-seconds without the last four, 50 with them).
    _DRIVER: f"{_JAVA} -XX:TieredStopAtLevel=1",
    "spark.executor.extraJavaOptions": f"{_JAVA} -XX:TieredStopAtLevel=1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.stats.skipping": "false",
}
# A session of many tests lives long enough to repay compilation (measured, a third cycle: 74 s,
# with CONF 103 s).
LONG: Final = {**CONF, _DRIVER: _JAVA}
