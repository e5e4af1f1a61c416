"""Measure how well signatures of either family estimate Jaccard and fill bands, as JSON.

    .venv/bin/python tests/bench/bench_minhash_quality.py
    .venv/bin/python tests/bench/bench_minhash_quality.py --unions 20 300 --seeds 1 7 42

A line for each kind of shingles, size of the union and Jaccard. Pairs are cut out of one list of
shingles: random ones, the decimals of successive numbers, such numbers behind a long prefix, and
five successive words. `z` is the bias over its standard error, `sd` the standard deviation over
that of independent permutations, sqrt(J (1 - J) / 128); `recall` the share of pairs that agree in
one of 14 bands of 9, `theory` what independent permutations would give.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from typing import Final

import numpy as np

from udfs.minhash import AFFINE32, RMINHASH, s_curve, signatures
from udfs.shingles import REST, ShingleSets

NUM_PERM: Final = 128
BANDS: Final = 14
ROWS: Final = 9
PREFIX: Final = "https://www.example.org/a/long/path/that/all/of/them/share/item="


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--unions", type=int, nargs="+", default=[5, 20, 100, 300, 1000])
    parser.add_argument("--jaccards", type=float, nargs="+", default=[0.5, 0.7, 0.8, 0.95])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 42])
    parser.add_argument("--pairs", type=int, default=1000, help="at most, for each seed")
    parser.add_argument("--shingles", type=int, default=1 << 20)
    options = parser.parse_args()
    rng = np.random.default_rng(5)
    for kind, cut in kinds(rng).items():
        shingles = [cut(i) for i in range(options.shingles)]
        sha1s = b"".join(hashlib.sha1(text.encode()).digest()[:4] for text in shingles)
        hashes = np.frombuffer(sha1s, "<u4")
        for family in (AFFINE32, RMINHASH):
            for union in options.unions:
                for shared in sorted(
                    {round(share * union) for share in options.jaccards} - {union}
                ):
                    agree = np.concatenate(
                        [
                            agreement(hashes, union, shared, options.pairs, seed, family)
                            for seed in options.seeds
                        ]
                    )
                    about = {"kind": kind, "permutations": family, "union": union}
                    print(json.dumps(about | judged(agree, shared / union)), flush=True)


def kinds(rng: np.random.Generator) -> dict[str, Callable[[int], str]]:
    """How the i-th shingle of a kind reads."""
    return {
        "random": lambda i: rng.bytes(12 + i % 30).hex(),
        "integers": str,
        "prefix": lambda i: f"{PREFIX}{i}",
        "words": lambda i: " ".join(f"w{k}" for k in range(i, i + 5)),
    }


def signed(hashes: np.ndarray, seed: int, permutations: str) -> np.ndarray:
    """Signatures uint32 [n, NUM_PERM] of hashes [n, size of the sets]."""
    n, size = hashes.shape
    sets = ShingleSets(hashes.reshape(-1), np.arange(n + 1) * size, np.zeros((n, REST), np.uint16))
    return signatures(sets, NUM_PERM, seed, permutations)


def agreement(
    hashes: np.ndarray, union: int, shared: int, pairs: int, seed: int, permutations: str
) -> np.ndarray:
    """Which values agree, bool [pairs, NUM_PERM]; pairs of a seed have no shingle in common."""
    n = min(pairs, len(hashes) // union)
    first = np.random.default_rng(seed).permutation(len(hashes) // union)[:n] * union
    of_pair = hashes[first[:, None] + np.arange(union)]
    alone = (union - shared) // 2
    left = np.ascontiguousarray(of_pair[:, : alone + shared])
    right = np.ascontiguousarray(of_pair[:, alone:])
    agree: np.ndarray = signed(left, seed, permutations) == signed(right, seed, permutations)
    return agree


def judged(agree: np.ndarray, jaccard: float) -> dict[str, float]:
    """Figures of pairs of one Jaccard."""
    estimates = agree.mean(axis=1)
    n = len(estimates)
    bias, sd = estimates.mean() - jaccard, estimates.std()
    bands = agree[:, : BANDS * ROWS].reshape(n, BANDS, ROWS).all(axis=2)
    return {
        "jaccard": jaccard,
        "pairs": n,
        "bias": bias,
        "z": bias / (sd / n**0.5),
        "sd": sd / (jaccard * (1 - jaccard) / NUM_PERM) ** 0.5,
        "recall": bands.any(axis=1).mean(),
        "theory": s_curve(jaccard, BANDS, ROWS),
    }


if __name__ == "__main__":
    main()
