"""Measure the search for near copies among texts against rensa and datasketch, as JSON.

    .venv/bin/python tests/bench/bench_minhash.py --texts 200000 --history 500000

Ours is the stage dedup over texts of about 300 words, of which a fifth are edited copies: read,
shingle, sign, band, verify, cluster, write. Turn after turn in one session, each over a new
warehouse: the last is the warm one. A peer is one process that shingles, signs, bands and unites
what agrees in a band, from memory, and verifies nothing; it is left out where its package is not
installed. CPU time is that of all processes of a side; neither start-up nor the writing of the
texts counts. `recall` is the share of the planted pairs of Jaccard >= 0.7 that end in one cluster.

With `--history` a batch of `--batch` texts is also searched where so many came before, each size in
a process of its own, Java's start and compiler included; all tables that are asked are that large,
their keys are drawn at random, and their files are compacted.
"""

import argparse
import importlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.dedup import stage
from jobs.runtime import streams
from jobs.runtime.config import Config, Dedup, Dump, Spark
from jobs.runtime.session import session
from jobs.runtime.tables import Warehouse, conform
from schemas import (
    batches,
    duplicate_edges,
    duplicates,
    exact_index,
    minhash_index,
    pairs,
    samples,
    shingles,
)
from tests.bench import process_kinds

WORDS: Final = 50_000  # of the vocabulary, drawn by Zipf's law
COPIES: Final = 0.2
EDITED: Final = (0.005, 0.02)  # share of a copy's words that are others
BANDS: Final = (14, 9)  # datasketch's for 0.7 and 128
SETTINGS: Final = Dedup(kinds=("exact_text", "minhash"))
_WORD: Final = re.compile(r"\w+")


def texts(count: int, seed: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts, and the pairs of an original and its copy."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(
        ["".join(rng.choice(letters, size)) for size in rng.integers(2, 10, WORDS)]
    )
    share = 1 / np.arange(1, WORDS + 1) ** 1.07
    bounds = np.cumsum(share / share.sum())
    drawn: list[np.ndarray] = []
    copies: list[tuple[int, int]] = []
    for place in range(count):
        if drawn and rng.random() < COPIES:
            of = int(rng.integers(len(drawn)))
            words = drawn[of].copy()
            is_other = rng.random(len(words)) < rng.uniform(*EDITED)
            words[is_other] = np.searchsorted(bounds, rng.random(int(is_other.sum())))
            copies.append((of, place))
        else:
            size = max(60, int(rng.normal(300, 80)))
            words = np.searchsorted(bounds, rng.random(size))
        drawn.append(np.minimum(words, WORDS - 1))
    return [" ".join(vocabulary[words]) + "." for words in drawn], copies


def shingled(text: str) -> list[str]:
    """The five-word shingles, as the peers' users make them."""
    words = _WORD.findall(text.lower())
    return [" ".join(words[i : i + 5]) for i in range(len(words) - 4)]


def by_rensa(package: Any, documents: Sequence[str]) -> Iterator[Sequence[int]]:
    """Signatures."""
    bands, rows = BANDS
    for text in documents:
        signature = package.RMinHash(num_perm=bands * rows, seed=42)
        signature.update(shingled(text))
        yield signature.digest()


def by_datasketch(package: Any, documents: Sequence[str]) -> Iterator[Sequence[int]]:
    """The same."""
    first = package.MinHash(num_perm=128)
    for text in documents:
        signature = package.MinHash(
            num_perm=128, permutations=first.permutations, scheme="affine32"
        )
        signature.update_batch({shingle.encode() for shingle in shingled(text)})
        yield signature.hashvalues.tolist()


def united(signatures: Iterator[Sequence[int]]) -> dict[int, int]:
    """Cluster of each text: those that agree in a band."""
    bands, rows = BANDS
    above: dict[int, int] = {}

    def top(node: int) -> int:
        while (over := above.get(node, node)) != node:
            node = over
        return node

    first: list[dict[tuple[int, ...], int]] = [{} for _ in range(bands)]
    for place, signature in enumerate(signatures):
        for band, seen in enumerate(first):
            key = tuple(signature[band * rows : (band + 1) * rows])
            ends = top(seen.setdefault(key, place)), top(place)
            if ends[0] != ends[1]:
                above[max(ends)] = min(ends)
    return {place: top(place) for place in range(place + 1)}


def recall(clusters: dict[int, Any], near: Sequence[tuple[int, int]]) -> float:
    """Share of pairs that are in one cluster."""
    return sum(clusters[a] == clusters[b] for a, b in near) / max(1, len(near))


def filled(spark: SparkSession, folder: Path, documents: Path) -> Warehouse:
    """A warehouse in which the texts wait for the stage."""
    warehouse = Warehouse(spark, str(folder))
    for table in (samples.TABLE, pairs.TABLE, batches.TABLE, duplicates.TABLE):
        warehouse.create(table)
    read = spark.read.parquet(str(documents))
    for table in (samples.TABLE, pairs.TABLE):
        module = samples if table == samples.TABLE else pairs
        known = {"ingest_ordinal", "caption", "sample_id", "text_sha256", "media_sha256"}
        blank = {
            f.name: F.lit(None if f.nullable else _BLANK[f.dataType.simpleString()])
            for f in module.SCHEMA
            if f.name not in known
        }
        rows = conform(read.withColumns(blank), table).coalesce(4)
        rows.write.format("delta").mode("append").save(warehouse.path(table))
    return warehouse


_BLANK: Final[dict[str, Any]] = {
    "string": "-",
    "bigint": 0,
    "int": 0,
    "boolean": False,
    "timestamp": "2026-01-01",
}


def turn(spark: SparkSession, folder: Path, documents: Path, count: int) -> dict[str, Any]:
    """One pass of the stage over all texts, in a new warehouse."""
    warehouse = filled(spark, folder, documents)
    return {**timed(lambda: streams.run(warehouse, stage.stage(SETTINGS), run_id="bench"), count)}


def timed(work: Callable[[], Any], count: int) -> dict[str, Any]:
    """Wall and CPU time, by kind of process."""
    root = psutil.Process()
    before, clock = process_kinds.cpu_s(root), time.monotonic()
    work()
    wall_s = time.monotonic() - clock
    after = process_kinds.cpu_s(root)
    spent = {kind: after[kind] - before.get(kind, 0) for kind in after}
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(sum(spent.values()), 2),
        "cpu_ms_a_text": round(1e3 * sum(spent.values()) / count, 4),
        "cpu_s_by_kind": {kind: round(value, 2) for kind, value in spent.items()},
    }


_LINKED: Final = 5  # of so many texts one has a link
# What each table that the stage asks holds of texts that came before, whose numbers are `id`: table
# -> by which column its files are sorted, columns.
_GROWN: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    minhash_index.TABLE: (
        "key",
        (
            "-1 - id AS node",
            f"explode(transform(sequence(1, {BANDS[0]}), i -> xxhash64(id, i))) AS key",
        ),
    ),
    exact_index.TABLE: (
        "high",
        (
            "-1 - id AS node",
            "-1 - id AS survivor",
            "NULL AS score",
            "'exact_text' AS kind",
            "xxhash64(id) AS high",
            "id AS low",
        ),
    ),
    shingles.TABLE: ("node", ("-1 - id AS node", "unhex(repeat('00', 1200)) AS shingles")),
    duplicates.TABLE: (
        "ingest_ordinal",
        (
            "-1 - id AS node",
            "-1 - id AS ingest_ordinal",
            "lpad(hex(id), 32, '0') AS sample_id",
            "sample_id AS representative_id",
            "sample_id AS cluster_id",
            "1 AS similarity",
            "explode(array('exact_text', 'minhash')) AS kind",
            "false AS is_duplicate",
            "0 AS revision",
            "current_timestamp() AS decided_at",
            "'run' AS run_id",
        ),
    ),
    duplicate_edges.TABLE: (
        "cluster",
        (
            "'minhash' AS kind",
            f"-2 - {_LINKED} * id AS a",
            f"-1 - {_LINKED} * id AS b",
            "0.9 AS similarity",
            "NULL AS a_score",
            "NULL AS b_score",
            f"-2 - {_LINKED} * id AS cluster",
            "true AS is_forest",
            "0 AS revision",
            "current_timestamp() AS linked_at",
            "'run' AS run_id",
        ),
    ),
}
_FILE_TEXTS: Final = 250_000  # of a compacted file


def grown(folder: Path, documents: Path, history: int, batch: int) -> dict[str, Any]:
    """A batch of the stage where so many texts came before: keys drawn at random, files sorted."""
    spark = _session(folder)
    warehouse = filled(spark, folder / "w", documents)
    for table, (order, columns) in _GROWN.items():
        warehouse.create(table)
        count = history // _LINKED if table == duplicate_edges.TABLE else history
        if count:
            ids = spark.range(count, numPartitions=-(-count // _FILE_TEXTS))
            rows = conform(ids.selectExpr(*columns, "'history' AS batch"), table)
            rows = rows.sortWithinPartitions(order)
            rows.write.format("delta").mode("append").save(warehouse.path(table))
    said = timed(lambda: streams.run(warehouse, stage.stage(SETTINGS), run_id="bench"), batch)
    size = _bytes(warehouse.path(minhash_index.TABLE))
    spark.stop()
    return {**said, "index_bytes_a_text": round(size / (history + batch), 1)}


def _session(folder: Path) -> SparkSession:
    config = Config(
        warehouse=str(folder / "w"),
        dumps=(Dump(name="none", path=str(folder)),),
        spark=Spark(master="local[2]", driver_memory="4g"),
    )
    return session(config, app="bench")


def with_history(folder: Path, history: int, batch: int) -> dict[str, Any]:
    """`grown` in a process of its own."""
    command = [sys.executable, __file__, "--grown", str(history), "--batch", str(batch)]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        shutil.copy(folder / "batch.parquet", place)
        done = subprocess.run([*command, "--folder", place], stdout=subprocess.PIPE, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _bytes(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--history", type=int, nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=1, help="of each size of history")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--grown", type=int, help="only a batch after so many texts")
    parser.add_argument("--folder", type=Path, help="where --grown finds its batch")
    args = parser.parse_args()
    if args.grown is not None:
        print(json.dumps(grown(args.folder, args.folder / "batch.parquet", args.grown, args.batch)))
        return
    documents, copies = texts(max(args.texts, args.batch), args.seed)
    figures: dict[str, Any] = {"texts": args.texts}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, count in (("all", args.texts), ("batch", args.batch)):
            _write(folder / f"{part}.parquet", documents[:count])
        if args.turns:
            figures |= compared(folder, documents[: args.texts], copies, args.turns)
        figures["history"] = [
            {"texts_before": history, **with_history(folder, history, args.batch)}
            for _ in range(args.repeats)
            for history in args.history
        ]
    print(json.dumps(figures, indent=2))


def _write(file: Path, documents: Sequence[str]) -> None:
    count = len(documents)
    table = pa.table(
        {
            "ingest_ordinal": pa.array(range(count), pa.int64()),
            "caption": documents,
            "sample_id": [f"{i:032x}" for i in range(count)],
            "text_sha256": [f"{i:064x}" for i in range(count)],
            "media_sha256": [f"{i:064x}" for i in range(count)],
        }
    )
    pq.write_table(table, file, row_group_size=5_000)


def compared(
    folder: Path, documents: Sequence[str], copies: Sequence[tuple[int, int]], turns: int
) -> dict[str, Any]:
    """All texts by each peer and, turn after turn, by the stage."""
    count, figures = len(documents), dict[str, Any]()
    copies = [(a, b) for a, b in copies if b < count]
    sets = {place: set(shingled(documents[place])) for pair in copies for place in pair}
    near = [(a, b) for a, b in copies if len(sets[a] & sets[b]) >= 0.7 * len(sets[a] | sets[b])]
    figures["near_pairs"] = len(near)
    for name, signed in (("rensa", by_rensa), ("datasketch", by_datasketch)):
        try:
            package = importlib.import_module(name)
        except ImportError:
            continue
        clusters: dict[int, int] = {}
        figures[name] = timed(
            lambda s=signed, p=package, c=clusters: c.update(united(s(p, documents))), count
        ) | {"recall": round(recall(clusters, near), 4)}
    spark = _session(folder)
    for number in range(turns):
        where = folder / f"turn{number}"
        figures[f"sluice_{number}"] = turn(spark, where, folder / "all.parquet", count)
    held = Warehouse(spark, str(where)).current(duplicates.TABLE).where("kind = 'minhash'")
    named = {row[0]: row[1] for row in held.select("ingest_ordinal", "cluster_id").collect()}
    figures[f"sluice_{number}"]["recall"] = round(recall(named, near), 4)
    figures[f"sluice_{number}"]["bytes_a_text"] = {
        table: round(_bytes(f"{where}/{table.replace('.', '/')}") / count, 1)
        for table in (minhash_index.TABLE, shingles.TABLE, duplicates.TABLE)
    }
    spark.stop()
    return figures


if __name__ == "__main__":
    main()
