"""Recall of semantic links against exact search, at once and in batches; no Spark.

`python -m tests.bench.bench_semantic --rows 200000` prints its figures as JSON: CPU-seconds, and
the share of the pairs with a cosine of 0.95 and more that each way finds.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from udfs import centroids, sign_codes
from udfs.centroids import Centroids
from udfs.embedding import cosine, unit

Pairs = np.ndarray  # (n,) int64: lesser node x rows + greater node


def planted(rows: int, dimension: int, seed: int, topics: int = 300) -> np.ndarray:
    """Embeddings as they are: in a cone, in topics of very different sizes, a third of them copies.

    Args:
        rows: how many.
        dimension: length.
        seed: of all.
        topics: groups of content; 0 = none and no cone: directions at random, the hardest case.

    Returns:
        (rows, dimension) float32 of unit length, rounded to float16 as they are stored.
    """
    rng = np.random.default_rng(seed)

    def directions(count: int) -> np.ndarray:
        return unit(rng.standard_normal((count, dimension), np.float32))

    originals = rows - rows // 3
    vectors = directions(originals)
    if topics:
        share = 1 / np.arange(1, topics + 1)
        topic = rng.choice(topics, originals, p=share / share.sum())
        # cosine about 0.4 between topics, 0.7 within one: what CLIP gives on web images
        vectors = unit(0.63 * directions(1) + 0.55 * directions(topics)[topic] + 0.55 * vectors)
    # Copies of few originals: groups of two to a dozen; a copy lies within 16 degrees.
    of = rng.choice(originals // 3, rows // 3)
    noise = directions(rows // 3)
    noise = unit(noise - cosine(noise, vectors[of])[:, None] * vectors[of])
    angle = np.radians(rng.uniform(0, 16, (rows // 3, 1))).astype(np.float32)
    copies = np.cos(angle) * vectors[of] + np.sin(angle) * noise
    mixed = rng.permutation(np.concatenate([vectors, copies]))
    return unit(mixed.astype(np.float16))


def exact(vectors: np.ndarray, threshold: float, first: int = 0, tile: int = 2048) -> Pairs:
    """All pairs whose cosine is at least the threshold, of rows from the `first` on with lesser."""
    rows = len(vectors)
    found = []
    for start in range(first, rows, tile):
        later = vectors[start : start + tile]
        for other in range(0, start + len(later), tile):
            near = vectors[other : other + tile] @ later.T >= threshold
            a, b = np.divmod(np.flatnonzero(near), len(later))
            a, b = a + other, b + start
            found.append((a * rows + b)[a < b])
    return np.concatenate(found)


def linked(
    vectors: np.ndarray,
    batches: int,
    threshold: float,
    k: int | None = None,
    probes: int = centroids.ASSIGNMENTS,
) -> tuple[Pairs, Centroids, int]:
    """The pairs found batch after batch, with the centroids of the first.

    Args:
        vectors: (n, d) float32 of unit length, in the order in which they arrive.
        batches: how many.
        threshold: least cosine.
        k: centroids; without it, as many as all the rows ask for.
        probes: cells of history that a new vector meets.

    Returns:
        verified pairs; the centroids; how many candidates were verified.
    """
    rows = len(vectors)
    bounds = np.linspace(0, rows, batches + 1).astype(int)
    found = centroids.train(vectors[: bounds[1]], centroids.centroids_for(rows) if k is None else k)
    cells = centroids.nearest(vectors, found, max(probes, centroids.ASSIGNMENTS))[0]
    codes = sign_codes.codes(vectors)

    def entries(first: int, last: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cell, node and code, sorted by cell as a table brings them."""
        some = cells[first:last, :count]
        node = np.repeat(np.arange(first, last), some.shape[1])
        order = np.argsort(some.ravel(), kind="stable")
        return some.ravel()[order], node[order], codes[node[order]]

    pairs, candidates = [np.empty(0, np.int64)], 0
    for first, last in pairwise(bounds.tolist()):
        batch = entries(first, last, probes)
        searcher = sign_codes.Searcher(
            *batch, sign_codes.radius(threshold), early=sign_codes.early_radius(threshold)
        )
        searcher.meet(*entries(0, last, centroids.ASSIGNMENTS))
        met = list(searcher.found())
        mine = batch[1][np.concatenate([part.row for part in met])]
        other = np.concatenate([part.other for part in met])
        keys = np.unique(np.minimum(mine, other) * rows + np.maximum(mine, other))
        candidates += len(keys)
        for start in range(0, len(keys), 1 << 14):
            a, b = np.divmod(keys[start : start + (1 << 14)], rows)
            near = cosine(vectors[a], vectors[b]) >= np.float32(threshold)
            pairs.append((a * rows + b)[near])
    return np.unique(np.concatenate(pairs)), found, candidates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--topics", type=int, default=300, help="0 = directions at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--queries", type=int, help="exact search for the last rows only; by default for all"
    )
    parser.add_argument("--centroids", type=int, help="how many; by default by the rows")
    parser.add_argument("--probes", type=int, default=2, help="cells that a new vector meets")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 10])
    given = parser.parse_args()
    figures: dict[str, Any] = vars(given) | {"ways": []}
    vectors = planted(given.rows, given.dimension, given.seed, given.topics)
    with _timed(figures, "exact_cpu_s"):
        first = given.rows - (given.queries or given.rows)
        truth = exact(vectors, given.threshold, first)
    figures["pairs"] = len(truth)
    for batches in given.batches:
        way: dict[str, Any] = {"batches": batches}
        with _timed(way, "cpu_s"):
            found, trained, candidates = linked(
                vectors, batches, given.threshold, given.centroids, given.probes
            )
        found = found[found % given.rows >= first]
        way |= {
            "centroids": len(trained.vectors),
            "candidates": candidates,
            "recall": np.isin(truth, found).mean(),
            "beyond": int(np.isin(found, truth, invert=True).sum()),
        }
        figures["ways"].append(way)
    print(json.dumps(figures, indent=2))


@contextmanager
def _timed(figures: dict[str, Any], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    figures[name] = round(time.process_time() - start, 1)


if __name__ == "__main__":
    main()
