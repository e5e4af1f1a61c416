import subprocess
import sys
from pathlib import Path

from pyspark import cloudpickle

from jobs.runtime import models
from jobs.runtime.config import Config, Dump
from udfs.examine import Examine

ROOT = Path(__file__).parents[2]
NEEDLESS = ("jobs", "onnx", "onnxruntime", "pandas", "pyarrow", "pydantic", "pyspark", "tokenizers")


def test_a_child_imports_nothing_that_it_does_not_use() -> None:
    config = Config(warehouse="none", dumps=(Dump(name="none", path="none"),))
    signals = tuple(models.scoring(config).images.signals.values())
    code = f"""
import pickle, sys
examine = pickle.load(sys.stdin.buffer)
print([name for name in {NEEDLESS} if name in sys.modules], len(examine.signals))
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        input=cloudpickle.dumps(Examine(signals, max_pixels=10**6)),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert told.stdout.decode().strip() == f"[] {len(signals)}"
