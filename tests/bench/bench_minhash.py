"""Measure the search for near copies among texts against rensa and datasketch, as JSON.

    .venv/bin/python tests/bench/bench_minhash.py --texts 200000

Ours is the stage dedup over texts of about 300 words, of which a fifth are edited copies: read,
shingle, sign, band, verify, cluster, write. Turn after turn in one session, each over a new
warehouse: the last is the warm one. A peer is one process that shingles, signs, bands and unites
what agrees in a band, from memory, and verifies nothing; it is left out where its package is not
installed. CPU time is that of all processes of a side; neither start-up nor the writing of the
texts counts. `recall` is the share of the planted pairs of Jaccard >= 0.7 that end in one cluster.
"""

import argparse
import importlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from pyspark.sql import SparkSession

from jobs.dedup import stage
from jobs.runtime import streams
from jobs.runtime.config import Config, Dedup, Dump, MinHashSearch, Spark
from jobs.runtime.session import session
from jobs.runtime.tables import Warehouse
from schemas import (
    duplicates,
    minhash_index,
    shingles,
)
from tests.bench import process_kinds
from tests.bench.grown_warehouse import bytes_of, filled, write_samples
from udfs.minhash import AFFINE32, RMINHASH

WORDS: Final = 50_000  # of the vocabulary, drawn by Zipf's law
COPIES: Final = 0.2
EDITED: Final = (0.005, 0.02)  # share of a copy's words that are others
BANDS: Final = (14, 9)  # datasketch's for 0.7 and 128
KINDS: Final = ("exact_text", "minhash")
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


def turn(
    spark: SparkSession, folder: Path, documents: Path, count: int, settings: Dedup
) -> dict[str, Any]:
    """One pass of the stage over all texts, in a new warehouse."""
    warehouse = filled(spark, str(folder), documents)
    return timed(lambda: streams.run(warehouse, stage.stage(settings), run_id="bench"), count)


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


def local_session(folder: Path) -> SparkSession:
    """A session of two cores."""
    config = Config(
        warehouse=str(folder / "w"),
        dumps=(Dump(name="none", path=str(folder)),),
        spark=Spark(master="local[2]", driver_memory="4g"),
    )
    return session(config, app="bench")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--permutations", choices=(AFFINE32, RMINHASH), default=AFFINE32)
    args = parser.parse_args()
    documents, copies = texts(args.texts, args.seed)
    with tempfile.TemporaryDirectory() as name:
        write_samples(Path(name) / "all.parquet", documents)
        settings = Dedup(kinds=KINDS, minhash=MinHashSearch(permutations=args.permutations))
        figures = compared(Path(name), documents, copies, args.turns, settings)
    print(json.dumps({"texts": args.texts, **figures}, indent=2))


def compared(
    folder: Path,
    documents: Sequence[str],
    copies: Sequence[tuple[int, int]],
    turns: int,
    settings: Dedup,
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
    spark = local_session(folder)
    for number in range(turns):
        where = folder / f"turn{number}"
        figures[f"sluice_{number}"] = turn(spark, where, folder / "all.parquet", count, settings)
    held = Warehouse(spark, str(where)).current(duplicates.TABLE).where("kind = 'minhash'")
    named = {row[0]: row[1] for row in held.select("ingest_ordinal", "cluster_id").collect()}
    figures[f"sluice_{number}"]["recall"] = round(recall(named, near), 4)
    figures[f"sluice_{number}"]["bytes_a_text"] = {
        table: round(bytes_of(f"{where}/{table.replace('.', '/')}") / count, 1)
        for table in (minhash_index.TABLE, shingles.TABLE, duplicates.TABLE)
    }
    spark.stop()
    return figures


if __name__ == "__main__":
    main()
