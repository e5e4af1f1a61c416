"""What makes Spark quick on very little data; nothing here changes a result."""

from typing import Final

_JAVA: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
CONF: Final = {
    # Small batches: thorough compilation costs more than it gives back.
    "spark.driver.extraJavaOptions": _JAVA,
    "spark.executor.extraJavaOptions": _JAVA,
    "spark.sql.codegen.wholeStage": "false",
}
