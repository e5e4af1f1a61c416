"""The process that Spark's Python workers are forked from, with the kernels imported already.

Spark's own daemon forks workers that know nothing: each pays for the imports, and after every
task collects garbage among a hundred thousand objects that never die. Used where driver and
workers share a machine; `spark.python.daemon.module` names it.
"""

import gc
import importlib
import sys
from typing import Final

from pyspark import daemon

KERNELS: Final = ("udfs.image_signals", "udfs.text_signals", "udfs.embedding")


def main() -> None:
    """Serve workers until the JVM closes our input."""
    # Spark puts its own zip on the path, and a worker re-reads a zip's directory for each task.
    # The same packages are installed.
    sys.path[:] = [entry for entry in sys.path if not entry.endswith((".zip", ".jar"))]
    for kernel in KERNELS:
        importlib.import_module(kernel)
    gc.freeze()  # what is shared with the workers is neither collected nor copied
    daemon.manager()  # type: ignore[no-untyped-call]  # pyspark types its public modules only


if __name__ == "__main__":
    main()
