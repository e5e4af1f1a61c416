"""What makes Spark quick on very little data; nothing here changes a result."""

from typing import Final

_JAVA: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
CONF: Final = {
    # Thorough compilation and planning cost more than they give back (measured on a warm cycle
    # over 18 entries: 96 CPU-seconds without the last four, 50 with them).
    "spark.driver.extraJavaOptions": _JAVA,
    "spark.executor.extraJavaOptions": _JAVA,
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.stats.skipping": "false",
}
