"""The process that Spark forks its Python workers from, run in place of `pyspark.daemon`.

Spark has a worker collect garbage after every task, through all that it has ever imported: 0.1 s
for 200,000 objects, where a task of a small batch takes a tenth of that (measured, 12 % of the
CPU time of the tests that use Spark). Here what is imported is left out of it.
"""

import gc
import sys
from typing import BinaryIO

# What every worker imports: here once for all of them, and in memory once.
import pandas as pd  # noqa: F401
import pyarrow as pa  # noqa: F401
from pyspark import daemon

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
