import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.runtime.config import load
from jobs.runtime.tables import Warehouse
from tests import equality, two_shards
from tests.two_shards import Uninterrupted

SLUICE = Path(sys.executable).with_name("sluice")
# Nobody listens there: what is slow about a record is left out, and the data go on without it.
UNTRACKED = "lineage.tracking_uri=http://127.0.0.1:9"  # RFC 863: the port to discard at


@contextmanager
def continuous(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command line in a process of its own, in a folder of somebody else's code."""
    (config.parent / "udfs").mkdir()
    (config.parent / "udfs" / "__init__.py").write_text("raise ImportError('not ours')\n")
    process = subprocess.Popen(
        [SLUICE, "run", config, "--continuous", "1s", "--set", UNTRACKED], cwd=config.parent
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def asked(config: Path, query: str) -> list[dict[str, Any]]:
    """What `sluice sql` answers in this process."""
    answered = CliRunner().invoke(app, ["sql", query, "--json", "--config", str(config)])
    assert answered.exit_code == 0, answered.output
    return [json.loads(line) for line in answered.stdout.splitlines()]


def shards_of_gold(warehouse: Warehouse) -> set[str]:
    if not warehouse.exists("gold.default"):
        return set()
    return {row.shard for row in warehouse.read("gold.default").select("shard").collect()}


def commits(warehouse: Warehouse) -> int:
    return len(list(Path(warehouse.path("gold.default"), "_delta_log").glob("*.json")))


def await_in_gold(shard: str, warehouse: Warehouse, process: subprocess.Popen[bytes]) -> None:
    """Ask Spark once a commit only: the cores are the stream's."""
    seen = -1
    while (met := commits(warehouse)) == seen or shard not in shards_of_gold(warehouse):
        assert process.poll() is None
        seen = met
        time.sleep(0.2)


def test_shards_dropped_in_one_by_one_reach_gold_while_others_ask(
    uninterrupted: Uninterrupted, spark: SparkSession, tmp_path: Path
) -> None:
    aside, inbox = tmp_path / "aside", tmp_path / "inbox"
    aside.mkdir()
    inbox.mkdir()
    config = two_shards.config(tmp_path / "stream", inbox)
    warehouse = Warehouse(spark, load(str(config)).warehouse)

    with continuous(config) as process:
        for number, name in enumerate(two_shards.SHARDS, start=1):
            shutil.copy(uninterrupted.dump / name, aside)
            (aside / name).rename(inbox / name)
            await_in_gold(name, warehouse, process)
            (answer,) = asked(config, "SELECT count(DISTINCT shard) AS shards FROM gold.default")
            assert answer == {"shards": number}
        process.send_signal(signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT

    assert equality.rows(warehouse, "gold.default") == uninterrupted.contents["gold.default"]
