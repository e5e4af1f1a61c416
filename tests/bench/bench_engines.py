"""Measure `score_images` against Daft, Ray Data and a bare loop over the same images, as JSON.

    make bench-engines
    .venv/bin/python tests/bench/bench_engines.py --images 4000 --repeats 1

All decode the JPEGs, squash them to 224 px, normalise, run one small network with one thread for
each of two cores, and write the embeddings: Daft and Ray Data as Parquet, ours as the committed
Delta table of signals, the bare loop nowhere. They take turns in one run, start and a pass that
warms up left out for all; CPU time is that of all processes of a side. `ratio` is ours over theirs
in images/s and theirs over ours in CPU, medians over the turns: above 1, ours is the better one.
The peers' releases are those that `make bench-engines` installs.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.runtime.config import Config, Dump
from jobs.runtime.session import session
from jobs.runtime.tables import Warehouse, create_all
from tests.bench import bench_score_images as scoring
from tests.bench import surroundings
from tests.bench.bench_score_images import CACHE, DISTINCT, Tree, Turn

PYTHON: Final = Path(".cache/engines-venv/bin/python")
PEERS: Final = {"daft": "peer_daft.py", "ray": "peer_ray.py"}
WARM_IMAGES: Final = 512  # chosen: a few batches of each process


def write_list(path: Path, images: Sequence[Path]) -> None:
    """A table of keys and paths, as the peers read it."""
    keys = [f"{number:06d}" for number in range(len(images))]
    pq.write_table(pa.table({"key": keys, "path": [str(i.resolve()) for i in images]}), path)


def peer_turn(script: str, network: Path, lists: tuple[Path, Path], folder: Path) -> Turn:
    """One pass of a peer, in processes that end with it."""
    command = [PYTHON, Path(__file__).parent / script, *lists, network.resolve(), folder]
    with (folder.with_suffix(".log")).open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},  # for their workers
        )
    assert process.stdin
    assert process.stdout
    try:
        said = process.stdout.readline()
        if not said:
            raise SystemExit(f"{script} failed:\n{folder.with_suffix('.log').read_text()[-2000:]}")
        logging.info("%s: %s", script, said.strip())
        tree = Tree(set(), psutil.Process(process.pid))
        cpu_s = tree.cpu_s()
        process.stdin.write("go\n")
        process.stdin.flush()
        wall_s = json.loads(process.stdout.readline())["wall_s"]
        cpu_s = tree.cpu_s() - cpu_s
    finally:
        process.communicate("end\n", timeout=60)
    return Turn(ds.dataset(folder / "run").count_rows(), wall_s, cpu_s)


def compare(images: int, repeats: int) -> dict[str, Any]:
    """All sides in turns, after a pass of ours and of the bare loop that does not count."""
    drawn = scoring.draw_images(CACHE / "images")
    network = CACHE / "network.onnx"
    scoring.write_network(network)
    paths = (drawn * (images // DISTINCT + 1))[:images]
    with scoring.bare_pool() as pool, tempfile.TemporaryDirectory(dir=CACHE.resolve()) as name:
        folder = Path(name)
        lists = (folder / "warm.parquet", folder / "listed.parquet")
        write_list(lists[0], paths[:WARM_IMAGES])
        write_list(lists[1], paths)
        tree = Tree({child.pid for child in psutil.Process().children()})
        config = Config(warehouse=str(folder / "warehouse"), dumps=(Dump(name="x", path="x"),))
        spark = session(config, app="bench")
        warehouse = Warehouse(spark, config.warehouse)
        create_all(warehouse, "default")
        scoring.store_images(warehouse, CACHE / "images", images)
        side = scoring.one_network(network)

        def ours() -> Turn:
            return scoring.spark_turn(warehouse, scoring.unseen(side), tree, images)

        def bare() -> Turn:
            return scoring.bare_turn(pool, network, paths)

        bare(), ours()
        turns = []
        for number in range(repeats):
            sides: dict[str, Callable[[], Turn]] = {"bare": bare, "sluice": ours}
            for side_name, script in PEERS.items():
                where = folder / f"{side_name}-{number}"
                sides[side_name] = lambda s=script, w=where: peer_turn(s, network, lists, w)
            turns.append({side_name: checked(run(), images) for side_name, run in sides.items()})
            said = {side_name: turn.figures() for side_name, turn in turns[-1].items()}
            logging.info("turn %d of %d: %s", number + 1, repeats, said)
        spark.stop()
    return summary(turns)


def checked(turn: Turn, images: int) -> Turn:
    """The turn, if it gave every image an embedding."""
    if turn.images != images:
        raise SystemExit(f"{turn.images} of {images} images embedded; figures mean nothing")
    return turn


def summary(turns: Sequence[dict[str, Turn]]) -> dict[str, Any]:
    """Medians of each side, and of ours against each other one within the turns."""
    found: dict[str, Any] = {}
    for side in turns[0]:
        each = [turn[side].figures() for turn in turns]
        found[side] = {n: statistics.median(figures[n] for figures in each) for n in each[0]}
    found["ratio"] = {
        side: {
            "wall": round(statistics.median(t[side].wall_s / t["sluice"].wall_s for t in turns), 3),
            "cpu": round(statistics.median(t[side].cpu_s / t["sluice"].cpu_s for t in turns), 3),
        }
        for side in turns[0]
        if side != "sluice"
    }
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000, help=f"a multiple of {DISTINCT:,}")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    args = parser.parse_args(argv)
    surroundings.log()
    facts = surroundings.machine() | {"images": args.images, "repeats": args.repeats}
    print(json.dumps(facts | compare(args.images, args.repeats), indent=2))


if __name__ == "__main__":
    main()
