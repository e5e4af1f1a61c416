"""The process that Spark forks its Python workers from, run in place of `pyspark.daemon`.

Spark has a worker collect garbage after every task, through all that it has ever imported: 0.1 s
for 200,000 objects, where a task of a small batch takes a tenth of that (measured, 12 % of the
CPU time of the tests that use Spark). Here what is imported is left out of it.

And Spark has a worker read anew, before every task, the directories of all archives on its path:
81 ms of CPU for pyspark.zip and py4j's alone (measured). Here modules come from where they are
installed.
"""

import gc
import os
import re
import sys
from importlib.util import find_spec
from typing import BinaryIO, Final

_ARCHIVES: Final = re.compile(r"pyspark\.zip|py4j-.*\.zip|spark-core_.*\.jar")


def leave_archives() -> None:
    """Take Spark's own archives off the path, where what is in them is installed too."""
    archives = [entry for entry in sys.path if _ARCHIVES.fullmatch(os.path.basename(entry))]
    before = sys.path.copy()
    sys.path[:] = [entry for entry in sys.path if entry not in archives]
    if any(find_spec(name) is None for name in ("pyspark", "py4j")):
        sys.path[:] = before
        return
    for entry in archives:
        sys.path_importer_cache.pop(entry, None)


if __name__ == "__main__":
    leave_archives()

# What every worker imports: here once for all of them, and in memory once.
import pandas as pd  # noqa: E402, F401
import pyarrow as pa  # noqa: E402, F401
from pyspark import daemon  # noqa: E402

_work = daemon.worker_main
_known = 0


def work(infile: BinaryIO, outfile: BinaryIO) -> None:
    """Do a task; then, if it imported anything, exempt from collection all that is there by now.

    That is for good, also where an object is dropped later and part of a cycle: no more than a
    task leaves behind, as often as one imports something.
    """
    try:
        _work(infile, outfile)
    finally:
        freeze()


def freeze() -> None:
    """Collect what is garbage and exempt the rest, where modules have come since the last time."""
    global _known
    if len(sys.modules) > _known:
        _known = len(sys.modules)
        gc.collect()
        gc.freeze()


if __name__ == "__main__":
    daemon.worker_main = work
    freeze()
    daemon.manager()  # type: ignore[no-untyped-call]  # the stubs say nothing of it
