"""Measure the kernel of MinHash, from texts to bands, against rensa's and datasketch's, as JSON.

    .venv/bin/python tests/bench/bench_minhash_kernel.py
    .venv/bin/python tests/bench/bench_minhash_kernel.py --jsonl docs.jsonl --repeats 5

Every figure is CPU time in microseconds a document: all sides hold the same texts in memory, cut
them into the same shingles of five words, sign them and make the keys of 14 bands of 9. The peers'
loops are those that their users write: words by `re`, shingles joined in Python. `ratio` is ours
over theirs, the median of the pairs of turns. `start_s` is what a process pays once: the import
and the first call, which loads machine code that is kept beside the source, or compiles.
`captions` are texts of 1 to 8 words, `accented` the documents with a letter in three words out of
ten that is not ASCII, `packed_bytes` the size of a packed set.
"""

import argparse
import collections
import importlib.util
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

BANDS: Final = 14
ROWS: Final = 9
WORD: Final = re.compile(r"\w+")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jsonl", type=Path, help="documents with a `text`, in place of made ones")
    options = parser.parse_args()
    documents = read(options.jsonl) if options.jsonl else made(options.documents, seed=7)
    captions = [" ".join(text.split()[: 1 + i % 8]) for i, text in enumerate(documents)]
    accented = [re.sub(r"\b[aeiou]\w*", "\u00e9\\g<0>", text) for text in documents]
    figures: dict[str, Any] = {"documents": len(documents), "start_s": start()}
    figures["words"] = statistics.mean(len(text.split()) for text in documents)
    figures["steps_us"] = steps(documents)
    for name, texts in (("documents", documents), ("captions", captions), ("accented", accented)):
        figures[f"{name}_us"] = paired(texts, options.repeats)
    print(json.dumps(figures, indent=2))


def read(path: Path) -> list[str]:
    """The texts of a file of JSON lines."""
    with path.open() as lines:
        return [json.loads(line)["text"] for line in lines]


def made(n: int, seed: int) -> list[str]:
    """Documents of about 300 words of 2 to 9 letters, as frequent as those of English."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(50_000)])
    frequencies = np.cumsum(1 / np.arange(1, len(words) + 1) ** 1.07)
    texts = []
    for length in rng.normal(300, 80, n).clip(60).astype(int):
        drawn = words[np.searchsorted(frequencies / frequencies[-1], rng.random(length))].tolist()
        lines = [" ".join(drawn[at : at + 12]).capitalize() for at in range(0, length, 12)]
        texts.append(".\n".join(lines) + ".")
    return texts


def start() -> dict[str, float]:
    """CPU seconds until the first text is through."""
    started = time.process_time()
    from udfs.minhash import band_keys, signatures
    from udfs.shingles import shingle_sets

    imported = time.process_time()
    band_keys(signatures(shingle_sets(pa.array(["a cat", "\u00e9 b c d e f"]))), BANDS, ROWS)
    return {"import": imported - started, "first_call": time.process_time() - imported}


def steps(texts: list[str]) -> dict[str, float]:
    """What each step takes, the least of three turns, in microseconds a text."""
    from udfs.minhash import band_keys, jaccard, pack, signatures, unpack
    from udfs.shingles import shingle_sets

    array = pa.array(texts)
    sets = shingle_sets(array)
    values = signatures(sets)
    packed = pack(sets)
    copies = unpack(packed)
    jaccard(sets, copies)
    calls: dict[str, Callable[[], object]] = {
        "shingle_sets": lambda: shingle_sets(array),
        "signatures": lambda: signatures(sets),
        "band_keys": lambda: band_keys(values, BANDS, ROWS),
        "pack": lambda: pack(sets),
        "unpack": lambda: unpack(packed),
        "jaccard": lambda: jaccard(sets, copies),
    }
    taken = {name: min(cpu_us(call, len(texts)) for _ in range(3)) for name, call in calls.items()}
    return {**taken, "packed_bytes": packed.nbytes / len(texts)}


def paired(texts: list[str], repeats: int) -> dict[str, float]:
    """Medians of all sides, turn about, and ours over each of the others."""
    array = pa.array(texts)
    sides: dict[str, Callable[[], object]] = {"sluice": lambda: sluice(array)}
    for name, loop in (("rensa", rensa), ("datasketch", datasketch)):
        if importlib.util.find_spec(name):
            sides[name] = lambda loop=loop: loop(texts)
    turns = collections.defaultdict(list)
    for _ in range(repeats):
        for name, call in sides.items():
            turns[name].append(cpu_us(call, len(texts)))
    ratios = {
        f"ratio_{name}": statistics.median(
            ours / theirs for ours, theirs in zip(turns["sluice"], turns[name], strict=True)
        )
        for name in sides
        if name != "sluice"
    }
    return {name: statistics.median(taken) for name, taken in turns.items()} | ratios


def cpu_us(call: Callable[[], object], n: int) -> float:
    """CPU microseconds of a call, by n."""
    started = time.process_time()
    call()
    return (time.process_time() - started) / n * 1e6


def sluice(texts: pa.Array) -> np.ndarray:
    """Ours."""
    from udfs.minhash import band_keys, signatures
    from udfs.shingles import shingle_sets

    return band_keys(signatures(shingle_sets(texts)), BANDS, ROWS)


def rensa(texts: list[str]) -> list[list[tuple[int, ...]]]:
    """Shingles joined in Python, signed in Rust."""
    import rensa

    keys = []
    for text in texts:
        words = WORD.findall(text.lower())
        sketch = rensa.RMinHash(num_perm=BANDS * ROWS, seed=42)
        sketch.update([" ".join(words[i : i + 5]) for i in range(max(len(words) - 4, 1))])
        values = sketch.digest()
        keys.append([tuple(values[at : at + ROWS]) for at in range(0, BANDS * ROWS, ROWS)])
    return keys


def datasketch(texts: list[str]) -> list[list[bytes]]:
    """Shingles joined in Python, hashed by hashlib, signed by numpy."""
    from datasketch import MinHash

    model = MinHash(num_perm=128)
    keys = []
    for text in texts:
        words = WORD.findall(text.lower())
        sketch = MinHash(num_perm=128, permutations=model.permutations, scheme=model.scheme)
        grams = {" ".join(words[i : i + 5]).encode() for i in range(max(len(words) - 4, 1))}
        sketch.update_batch(grams)
        values = sketch.hashvalues
        keys.append([values[at : at + ROWS].tobytes() for at in range(0, BANDS * ROWS, ROWS)])
    return keys


if __name__ == "__main__":
    main()
