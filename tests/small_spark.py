"""What makes Spark quick on very little data; nothing here changes a result."""

from typing import Final

# For every JVM of the tests, by the variable that `java` itself reads: drivers, executors, masters.
JAVA_VARIABLE: Final = "JDK_JAVA_OPTIONS"
JAVA: Final = " ".join(
    (
        # Thorough compilation costs a process that ends soon more than it gives back (measured,
        # the JVM in its first cycle: 122 CPU-seconds, without 83).
        "-XX:TieredStopAtLevel=1",
        # Java's own 48 MB for quickly compiled code are full after half a cycle: from then on it
        # throws code away and compiles it again (measured, a warm cycle: 125 s, with room 94 s).
        "-XX:ReservedCodeCacheSize=512m",
        "-XX:+UseSerialGC",
        # Hadoop has `chmod` and `readlink` run for every commit: without a helper between.
        "-Djdk.lang.Process.launchMechanism=VFORK",
    )
)
CONF: Final = {
    # Compiled and adaptive plans cost more than they give back (measured on a warm cycle over 18
    # entries: 96 CPU-seconds without the last four, 50 with them).
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.stats.skipping": "false",
}
# A session of many tests repays it (measured, the fourth cycle: 49 CPU-seconds, without 66).
LONG: Final = {**CONF, "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=4"}
