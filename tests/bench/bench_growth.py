"""Measure how the search for duplicates grows with history: JSON lines, a table, a model, a plot.

    .venv/bin/python -m tests.bench.bench_growth
    .venv/bin/python -m tests.bench.bench_growth --kinds phash --history 125000 2000000 --repeats 3

One search is the stage dedup over a batch, where so many contents came before: what waits is read,
compared with history, verified, clustered, written, entered in the ledger. Each is in a process of
its own that has searched nothing yet, Java's compiler included, its start and Spark's not; what
`grown_warehouse` wrote is hard-linked for each. `recall` is the share of planted copies found.

`upkeep_cpu_s` is the batch's share of merging the index's files: where eight files of a size
become one, a row is rewritten log8(history / batch) times, at most once a tier; what that costs is
measured once, by the merging of eight files of each of the kind's tables.

The model is a straight line, a + b x history, by least squares of CPU time; the cluster is ten
machines of 32 cores. A point look-up reads a row group of 256 kB of the sorted index, opened
before, from the page cache: look-ups of all keys of a batch cost what the scan does at
`overtaken_at` contents.
"""

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from pyspark.sql import functions as F

from jobs.dedup import stage
from jobs.dedup.verdicts import NEAR
from jobs.runtime import compaction, streams
from jobs.runtime.session import setting
from jobs.runtime.tables import Warehouse, contract
from schemas.duplicate_kinds import MINHASH
from schemas.layout import LOOKED_UP
from tests.bench import grown_warehouse
from tests.bench.bench_minhash import local_session, texts, timed
from tests.bench.grown_warehouse import KINDS, bytes_of, write_samples
from udfs.size_tiers import FAN

MACHINES, CORES = 10, 32  # of the cluster that the model speaks of
TIERS: Final = 4  # of files (udfs/size_tiers.py)
_LOOK_UPS: Final = 200
_MERGED: Final = 15_000  # contents of each of eight files; chosen: of the smallest history, most
_MADE: Final = "made"


def main() -> None:
    """Print the figures."""
    args = _arguments()
    if args.step:
        print(json.dumps(_STEPS[args.step](args.folder, *args.kinds, *args.history, args.batch)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        for kind in args.kinds:
            folder = Path(name) / kind
            folder.mkdir()
            write_samples(folder / "batch.parquet", _captions(kind, args.batch))
            searches = list(_searched(folder, kind, args))
            row = _in_a_process("look", folder / _name(max(args.history)), kind, 0, args.batch)
            lines = _lines(searches, args.batch, row)
            said = model(searches, row, KINDS[kind].look_ups, args.batch)
            print(json.dumps({"kind": kind, **row, "model": said}), flush=True)
            print(_table(kind, lines), flush=True)
            if args.plot:
                plot(args.plot.with_name(f"{args.plot.stem}_{kind}.png"), kind, lines, said)
            shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    sizes = [125_000, 500_000, 2_000_000, 8_000_000]
    parser.add_argument("--history", type=int, nargs="+", default=sizes)
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=1, help="of each size of history")
    parser.add_argument("--plot", type=Path, help="NAME.png; a figure a kind, NAME_kind.png")
    parser.add_argument("--folder", type=Path, help="for warehouses: of 8 M embeddings 20 GB")
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _captions(kind: str, batch: int) -> list[str]:
    return texts(batch, seed=7)[0] if kind == MINHASH else ["-"] * batch


def _searched(folder: Path, kind: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every search, each printed; sizes take turns."""
    for history in args.history:
        made = _in_a_process("fill", folder / _name(history), kind, history, args.batch)
        print(json.dumps(made), file=sys.stderr, flush=True)
    for _ in range(args.repeats):
        for history in args.history:
            said = _in_a_process("search", folder / _name(history), kind, history, args.batch)
            print(json.dumps(said), flush=True)
            yield said


def _name(history: int) -> str:
    return f"after{history}"


def _in_a_process(step: str, folder: Path, kind: str, history: int, batch: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.bench_growth", "--step", step, "--kinds", kind]
    command += ["--folder", str(folder), "--history", str(history), "--batch", str(batch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _fill(folder: Path, kind: str, history: int, _: int) -> dict[str, Any]:
    """Write the warehouse that every search of this size starts from."""
    folder.mkdir()
    clock = time.monotonic()
    spark = local_session(folder)
    root = str(folder / _MADE)
    grown_warehouse.write(spark, root, kind, history, folder.parent / "batch.parquet")
    spark.stop()
    wall_s = round(time.monotonic() - clock, 1)
    return {"filled": kind, "history": history, "wall_s": wall_s, "bytes": bytes_of(root)}


def _search(folder: Path, kind: str, history: int, batch: int) -> dict[str, Any]:
    """The stage over the batch."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = f"{name}/w"
        shutil.copytree(folder / _MADE, root, copy_function=_linked)
        spark = local_session(Path(name))
        warehouse, asked = Warehouse(spark, root), stage.stage(KINDS[kind].settings(kind))
        said = timed(lambda: streams.run(warehouse, asked, run_id="bench"), batch)
        size = bytes_of(warehouse.path(KINDS[kind].index.TABLE))
        recall = grown_warehouse.found(warehouse, kind, batch)
        spark.stop()
    index = {"index_bytes_a_content": round(size / (history + batch), 1)}
    return {"kind": kind, "history": history, **said, **index, "recall": recall}


def _linked(source: str, target: str) -> None:
    # Data files are never written again; some of the log's are.
    (os.link if source.endswith(".parquet") else shutil.copy)(source, target)


def _look(folder: Path, kind: str, *_: int) -> dict[str, Any]:
    """What merging a row of the index costs, and a point look-up in it."""
    spark = local_session(folder)
    made, index = Warehouse(spark, str(folder / _MADE)), KINDS[kind].index
    tables = [table for table in NEAR[kind].tables if table in compaction.TABLES]
    for name in ("warm", "timed"):
        small = Warehouse(spark, str(folder / name))
        for table, part in itertools.product(tables, range(FAN)):
            small.create(table)
            nodes = F.col("node").between(-_MERGED * (part + 1), -_MERGED * part - 1)
            rows = made.read(table).where(nodes).coalesce(1)
            rows = rows.sortWithinPartitions(*contract(table).LAYOUT.sorted_by)
            small.append(rows, table, by=(uuid.uuid4().hex, part))
        merged = timed(lambda: compaction.compact(small, tables), FAN * _MERGED)  # noqa: B023
    # The file that is looked up in.
    key = index.LAYOUT.sorted_by[0]
    with setting(spark, "parquet.block.size", LOOKED_UP):
        one = small.read(index.TABLE).coalesce(1).sortWithinPartitions(key)
        one.write.parquet(str(folder / "pointed"))
    (file,) = (folder / "pointed").glob("*.parquet")
    look_up_ms = _point_ms(file, key)
    spark.stop()
    cpu_us = round(1e6 * merged["cpu_s"] / (FAN * _MERGED), 2)
    return {"merge_cpu_us_a_content": cpu_us, "look_up_ms": look_up_ms}


def _point_ms(path: Path, key: str) -> float:
    """CPU time of finding a key's rows in its row group."""
    rng = np.random.default_rng(3)
    with pq.ParquetFile(path) as file:
        groups = rng.integers(0, file.num_row_groups, _LOOK_UPS)
        clock = time.process_time()
        for group in groups.tolist():
            keys = file.read_row_group(group, columns=[key, "node"])[key].to_numpy()
            np.searchsorted(keys, keys[len(keys) // 2])
        return round(1e3 * (time.process_time() - clock) / _LOOK_UPS, 3)


_STEPS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "fill": _fill,
    "search": _search,
    "look": _look,
}


def _lines(
    searches: Sequence[dict[str, Any]], batch: int, row: dict[str, Any]
) -> list[dict[str, Any]]:
    """Medians by history, the smallest first, and what they are to it."""
    lines: list[dict[str, Any]] = []
    for history in sorted({said["history"] for said in searches}):
        same = [said for said in searches if said["history"] == history]
        rewritten = min(TIERS, max(0.0, math.log(max(history, 1) / batch, FAN)))
        line: dict[str, Any] = {
            "history": history,
            "cpu_s": statistics.median(said["cpu_s"] for said in same),
            "wall_s": statistics.median(said["wall_s"] for said in same),
            "upkeep_cpu_s": round(1e-6 * row["merge_cpu_us_a_content"] * batch * rewritten, 2),
            "index_bytes": same[-1]["index_bytes_a_content"],
        }
        first = lines[0] if lines else line
        with_upkeep = [each["cpu_s"] + each["upkeep_cpu_s"] for each in (line, first)]
        line["cpu_ratio"] = round(with_upkeep[0] / with_upkeep[1], 2)
        line["wall_ratio"] = round(line["wall_s"] / first["wall_s"], 2)
        lines.append(line)
    return lines


def model(
    searches: Sequence[dict[str, Any]], row: dict[str, Any], look_ups: int | None, batch: int
) -> dict[str, Any]:
    """A batch's cost by a straight line, far beyond what was measured.

    The slope is the sum of those of the kinds of processes: what Java's compiler takes differs by
    more from search to search than workers read of a history.

    Args:
        searches: `history`, `cpu_s`, `cpu_s_by_kind`.
        row: `look_up_ms`.
        look_ups: keys of a content that would be looked up; none: no alternative to the scan.
        batch: contents.

    >>> jvm, workers = (42, 38), (1, 2)
    >>> searches = [
    ...     {"history": h, "cpu_s": j + w, "cpu_s_by_kind": {"jvm": j, "workers": w}}
    ...     for h, j, w in zip((0, 10**6), jvm, workers)
    ... ]
    >>> said = model(searches, {"look_up_ms": 0.5}, 14, 20_000)
    >>> said["b_cpu_us"], said["overtaken_at"], said["1e+10"]
    (1.0, 140000000, {'cpu_s': 10041.0, 'cluster_s': 31.4})
    """
    history = np.array([search["history"] for search in searches])
    if len(set(history.tolist())) < 2:
        return {}
    slope = 0.0
    for kind in searches[0]["cpu_s_by_kind"]:
        spent = [search["cpu_s_by_kind"].get(kind, 0.0) for search in searches]
        slope += max(0.0, float(np.polyfit(history, spent, 1)[0]))
    start = float(np.mean([search["cpu_s"] for search in searches] - slope * history))
    said: dict[str, Any] = {"a_cpu_s": round(start, 1), "b_cpu_us": round(1e6 * slope, 3)}
    for many in (1e9, 1e10):
        cpu_s = start + slope * many
        cluster_s = round(cpu_s / (MACHINES * CORES), 1)
        said[f"{many:.0e}"] = {"cpu_s": round(cpu_s, 0), "cluster_s": cluster_s}
    if look_ups and slope:
        said["overtaken_at"] = round(1e-3 * row["look_up_ms"] * look_ups * batch / slope)
    return said


def _table(kind: str, lines: Sequence[dict[str, Any]]) -> str:
    names = list(lines[0])
    rows = [["kind", *names], *([kind, *(f"{line[name]:,}" for name in names)] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def plot(path: Path, kind: str, lines: Sequence[dict[str, Any]], said: dict[str, Any]) -> None:
    """The curve, and the line of the model."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    history = np.array([line["history"] for line in lines])
    for name, style in (("cpu_s", "o-"), ("wall_s", "s-"), ("upkeep_cpu_s", "^-")):
        axes.plot(history, [line[name] for line in lines], style, label=name)
    if said:
        fitted = said["a_cpu_s"] + 1e-6 * said["b_cpu_us"] * history
        label = f"{said['a_cpu_s']} s + {said['b_cpu_us']} µs x history"
        axes.plot(history, fitted, "--", color="grey", label=label)
    axes.set(xscale="log", ylim=(0, None), xlabel="contents before", ylabel="seconds", title=kind)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
