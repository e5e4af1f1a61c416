"""MinHash signatures with datasketch 2's bits, their bands, and the Jaccard that verifies them."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
from scipy.integrate import quad

from udfs import splitmix64
from udfs.compiled import compiled
from udfs.identity import fingerprint
from udfs.normal_text import offsets_of
from udfs.shingles import HASH, REST, ShingleSets, Shingling

AFFINE32: Final = "affine32"  # datasketch's name for a * fmix32(hash) + b mod 2^32, a odd
RMINHASH: Final = "rminhash"  # rensa's, by the package of that name
NUM_PERM: Final = 128  # datasketch's default
SEED: Final = 1  # datasketch's default
_PREFIX: Final = "sluice.minhash."
# A set of one shingle is packed as 18 bytes of its SHA-1; sets of more are multiples of four.
_VALUE_BYTES: Final = 4
_ONLY_BYTES: Final = 18


@dataclass(frozen=True)
class Scheme:
    """All that decides which bits a text gets: stored beside them, and equal or refused.

    Attributes:
        shingling: how a text is cut.
        hash: of a shingle.
        permutations: family of the hashes of a signature.
        num_perm: values in a signature.
        seed: of the permutations.
        threshold: Jaccard from which two texts are near duplicates, in (0, 1].
        bands: of a signature; texts that agree in one are compared.
        rows: values in a band.
    """

    shingling: Shingling = field(default_factory=Shingling)
    hash: str = HASH
    permutations: str = AFFINE32
    num_perm: int = NUM_PERM
    seed: int = SEED
    threshold: float = 0.7  # datasketch's example; RedPajama-V2's `minhash_signature_0.7`
    bands: int = 14  # datasketch's choice for 0.7 and 128
    rows: int = 9

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ValueError: another hash or family, a number out of its range.
        """
        for what, got, allowed in (
            ("hash", self.hash, (HASH,)),
            ("permutations", self.permutations, tuple(_FAMILIES)),
        ):
            if got not in allowed:
                raise ValueError(
                    f"{what} got {got!r}; allowed {', '.join(allowed)}; correct the setting"
                )
        if min(self.bands, self.rows) < 1 or self.bands * self.rows > self.num_perm:
            raise ValueError(
                f"bands x rows got {self.bands} x {self.rows}; allowed at most {self.num_perm}"
                " values of a signature; take fewer, or more permutations"
            )
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"threshold got {self.threshold}; allowed above 0 to 1; correct the setting"
            )

    def properties(self) -> dict[str, str]:
        """As properties of a table.

        >>> Scheme().properties()["sluice.minhash.shingling.size"]
        '5'
        """
        facts = asdict(self)
        shingling = facts.pop("shingling")
        facts |= {f"shingling.{name}": value for name, value in shingling.items()}
        return {_PREFIX + name: str(value) for name, value in sorted(facts.items())}


def signatures(
    sets: ShingleSets, num_perm: int = NUM_PERM, seed: int = SEED, permutations: str = AFFINE32
) -> np.ndarray:
    """The least value of every permutation over each set.

    Args:
        sets: n sets; of an empty one all values are 2^32 - 1.
        num_perm: number of permutations.
        seed: of the permutations.
        permutations: their family, `AFFINE32` or `RMINHASH`.

    Returns:
        uint32 [n, num_perm]; of the first family equal to datasketch 2's
        ``MinHash(num_perm, seed).hashvalues``, of the other to rensa 0.5's digests of hashes of 64
        bits, splitmix64's of ours.

    Source: datasketch 2.0, ``minhash.py``, scheme ``affine32``; MurmurHash3, ``fmix32``. rensa 0.5,
        ``RMinHash``.

    >>> from udfs.shingles import shingle_sets
    >>> signatures(shingle_sets(["a cat", "A cat."]), num_perm=2).tolist()
    [[3921313767, 2026631279], [3921313767, 2026631279]]
    """
    return _FAMILIES[permutations](sets, num_perm, seed)


def _affine32(sets: ShingleSets, num_perm: int, seed: int) -> np.ndarray:
    factors, shifts = _permutations(num_perm, seed)
    found = np.empty((len(sets), num_perm), np.uint32)
    _signatures(sets.values, sets.offsets, factors, shifts, found)
    return found


def _rminhash(sets: ShingleSets, num_perm: int, seed: int) -> np.ndarray:
    from rensa import RMinHash  # only this family needs it

    # It takes bits of a hash as they are, the upper ones too: ours have 32.
    hashes = splitmix64.mixed(sets.values.astype(np.uint64) + np.uint64(splitmix64.STEP))
    offsets = sets.offsets.astype(np.uint64)
    made = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, num_perm, seed)
    return np.array(made.to_rows(), np.uint32).reshape(-1, num_perm)


_FAMILIES: Final[Mapping[str, Callable[[ShingleSets, int, int], np.ndarray]]] = {
    AFFINE32: _affine32,
    RMINHASH: _rminhash,
}


@functools.cache
def _permutations(num_perm: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.RandomState(seed)  # datasketch's
    halves = generator.randint(0, 1 << 31, num_perm, dtype=np.uint32)
    shifts = generator.randint(0, 1 << 32, num_perm, dtype=np.uint32)
    return halves * np.uint32(2) + np.uint32(1), shifts


def band_keys(values: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """One key of 64 bits for every band of a signature.

    Different bands of equal values have different keys, so that one index holds all bands. Leave
    out the signatures of empty sets: they are all equal.

    Args:
        values: uint32 [n, at least bands * rows].
        bands: number of bands.
        rows: values in a band.

    Returns:
        int64 [n, bands].

    >>> keys = band_keys(np.zeros((2, 4), np.uint32), bands=2, rows=2)
    >>> len(set(keys[0].tolist())), (keys[0] == keys[1]).all()
    (2, np.True_)
    """
    if bands * rows > values.shape[1]:
        raise ValueError(
            f"bands x rows got {bands} x {rows}; allowed {values.shape[1]} values of a signature;"
            " take fewer, or more permutations"
        )
    keys = np.empty((len(values), bands), np.int64)
    _band_keys(values, rows, keys)
    return keys


def keys_by(scheme: Scheme, sets: ShingleSets) -> np.ndarray:
    """The keys of sets by a scheme, int64 [n, bands]: of `signatures` the `band_keys`."""
    values = signatures(sets, scheme.num_perm, scheme.seed, scheme.permutations)
    return band_keys(values, scheme.bands, scheme.rows)


def keys_within(keys: np.ndarray, scopes: pa.ListArray) -> np.ndarray:
    """Keys that only texts of one scope share: those of others are others.

    Args:
        keys: int64 [n, bands], of `band_keys`.
        scopes: (n,) lists of strings, as many of each text, at least one: what it is compared
            within, such as its dump. Texts share keys in each scope that they share.

    Returns:
        int64 [n, scopes of a text * bands].

    >>> same = np.zeros((3, 1), np.int64)
    >>> a, b, c = map(set, keys_within(same, pa.array([["0", "1"], ["1", "2"], ["2", "3"]])))
    >>> len(a & b), len(b & c), len(a & c)
    (1, 1, 0)
    """
    if not len(keys):
        return keys
    encoded = scopes.flatten().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    salts = np.frombuffer(b"".join(fingerprint(name.encode())[:8] for name in names), "<i8")
    of_text = salts[encoded.indices.to_numpy()].reshape(len(keys), -1)
    apart: np.ndarray = keys[:, None, :] ^ of_text[:, :, None]
    return apart.reshape(len(keys), -1)


@functools.cache
def optimal_bands(threshold: float, num_perm: int = NUM_PERM) -> tuple[int, int]:
    """Bands and rows with the least sum of the areas of false positives and false negatives.

    Args:
        threshold: Jaccard, in [0, 1].
        num_perm: values in a signature, at least 2.

    Returns:
        (bands, rows), as datasketch's ``MinHashLSH(threshold, num_perm)`` chooses.

    Source: datasketch 2.0, ``lsh.py``; Leskovec et al., "Mining of Massive Datasets", §3.4.

    >>> optimal_bands(0.7)
    (14, 9)
    """

    def error(choice: tuple[int, int]) -> float:
        false_positive, _ = quad(s_curve, 0.0, threshold, args=choice)
        false_negative, _ = quad(lambda s: 1 - s_curve(s, *choice), threshold, 1.0)
        return float(false_positive + false_negative)

    choices = [(b, r) for b in range(1, num_perm + 1) for r in range(1, num_perm // b + 1)]
    return min(choices, key=error)


def s_curve(similarity: float, bands: int, rows: int) -> float:
    """Probability that two sets of this Jaccard agree in a band at least.

    >>> round(s_curve(0.8, 14, 9), 3)
    0.867
    """
    return float(1 - (1 - similarity**rows) ** bands)


def jaccard(left: ShingleSets, right: ShingleSets) -> np.ndarray:
    """Shared shingles over all shingles, row by row.

    Two sets of one shingle are compared by 144 bits of its SHA-1.

    Args:
        left: n sets.
        right: n sets.

    Returns:
        float64 [n], in [0, 1]; 0 where both are empty: there is nothing that they share.

    Raises:
        ValueError: not as many on both sides.

    >>> from udfs.shingles import shingle_sets
    >>> jaccard(shingle_sets(["a b c d e f", "a"]), shingle_sets(["A b c d e", "b"])).tolist()
    [0.5, 0.0]
    """
    if len(left) != len(right):
        raise ValueError(
            f"sets got {len(left)} and {len(right)}; allowed as many on both sides; give pairs"
        )
    shares = np.zeros(len(left), np.float64)
    _jaccard(left.values, left.offsets, right.values, right.offsets, shares)
    is_only = (left.sizes == 1) & (right.sizes == 1)
    shares[is_only & (left.rest != right.rest).any(axis=1)] = 0.0
    return shares


def pack(sets: ShingleSets) -> pa.BinaryArray:
    """Sets as bytes, for a column.

    Little-endian 32-bit values, ascending; of an only shingle the first 18 bytes of its SHA-1.
    The empty set is null.

    >>> from udfs.shingles import shingle_sets
    >>> pack(shingle_sets(["a cat", None])).to_pylist()[0].hex()
    '008bd0f0660ee7b58c0c36db87a4f5deca3a'
    """
    sizes = sets.sizes
    lengths = np.where(sizes == 1, _ONLY_BYTES, _VALUE_BYTES * sizes)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"sets got {offsets[-1]} bytes; allowed 2^31 - 1; pack fewer at a time")
    data = np.empty(offsets[-1], np.uint8)
    _pack(_bytes_of(sets.values, "<u4"), sets.offsets, _bytes_of(sets.rest, "<u2"), offsets, data)
    validity = pa.array(sizes > 0).buffers()[1]
    return pa.BinaryArray.from_buffers(
        pa.binary(),
        len(sets),
        [validity, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)],
    )


def unpack(packed: pa.BinaryArray) -> ShingleSets:
    """The sets that `pack` made; null is the empty set.

    Raises:
        ValueError: bytes that are no set.

    >>> from udfs.shingles import shingle_sets
    >>> sets = shingle_sets(["a cat", None, "one two three four five six"])
    >>> unpack(pack(sets)).sizes.tolist()
    [1, 0, 2]
    """
    texts = packed.cast(pa.large_binary()).fill_null(b"")
    starts = offsets_of(texts)
    lengths = np.diff(starts)
    is_only = lengths == _ONLY_BYTES
    bad = np.flatnonzero(~is_only & ((lengths % _VALUE_BYTES != 0) | (lengths == _VALUE_BYTES)))
    if len(bad):
        raise ValueError(
            f"set got {lengths[bad[0]]} bytes; allowed {_ONLY_BYTES} or a multiple of"
            f" {_VALUE_BYTES} from {2 * _VALUE_BYTES}; rebuild the table"
        )
    sizes = np.where(is_only, 1, lengths // _VALUE_BYTES)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    values = np.empty(offsets[-1], "<u4")
    rest = np.zeros((len(texts), REST), "<u2")
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    _unpack(data, starts, offsets, _bytes_of(values, "<u4"), _bytes_of(rest, "<u2"))
    return ShingleSets(
        values.astype(np.uint32, copy=False), offsets, rest.astype(np.uint16, copy=False)
    )


def _bytes_of(values: np.ndarray, dtype: str) -> np.ndarray:
    flat: np.ndarray = values.astype(dtype, copy=False).reshape(-1).view(np.uint8)
    return flat


@compiled
def _signatures(
    values: np.ndarray,
    offsets: np.ndarray,
    factors: np.ndarray,
    shifts: np.ndarray,
    found: np.ndarray,
) -> None:  # pragma: no cover - runs compiled
    num_perm = len(factors)
    for i in range(len(found)):
        least = found[i]
        least[:] = 0xFFFFFFFF
        for k in range(offsets[i], offsets[i + 1]):
            h = values[k]
            h = np.uint32(np.uint32(h ^ np.uint32(h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            h = np.uint32(np.uint32(h ^ np.uint32(h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
            for p in range(num_perm):
                least[p] = min(least[p], np.uint32(np.uint32(factors[p] * h) + shifts[p]))


@compiled
def _band_keys(
    values: np.ndarray, rows: int, keys: np.ndarray
) -> None:  # pragma: no cover - runs compiled
    n, bands = keys.shape
    for i in range(n):
        for band in range(bands):
            key = np.uint64(band + 1) << np.uint64(32)  # where no value reaches
            for row in range(rows):
                # splitmix64's finisher (Steele et al. 2014) after every value
                key = (key ^ np.uint64(values[i, band * rows + row])) + np.uint64(
                    0x9E3779B97F4A7C15
                )
                key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                key = key ^ (key >> np.uint64(31))
            keys[i, band] = np.int64(key)


@compiled
def _jaccard(
    left: np.ndarray,
    left_offsets: np.ndarray,
    right: np.ndarray,
    right_offsets: np.ndarray,
    shares: np.ndarray,
) -> None:  # pragma: no cover - runs compiled
    for i in range(len(shares)):
        a, a_stop = left_offsets[i], left_offsets[i + 1]
        b, b_stop = right_offsets[i], right_offsets[i + 1]
        total = a_stop - a + b_stop - b
        shared = 0
        while a < a_stop and b < b_stop:
            x, y = left[a], right[b]
            shared += x == y
            a += x <= y
            b += y <= x
        if total:
            shares[i] = shared / (total - shared)


@compiled
def _pack(
    values: np.ndarray, offsets: np.ndarray, rest: np.ndarray, starts: np.ndarray, data: np.ndarray
) -> None:  # pragma: no cover - runs compiled
    for i in range(len(offsets) - 1):
        n = 4 * (offsets[i + 1] - offsets[i])
        at = starts[i]
        data[at : at + n] = values[4 * offsets[i] : 4 * offsets[i] + n]
        for k in range(n, starts[i + 1] - at):
            data[at + k] = rest[14 * i + k - n]


@compiled
def _unpack(
    data: np.ndarray, starts: np.ndarray, offsets: np.ndarray, values: np.ndarray, rest: np.ndarray
) -> None:  # pragma: no cover - runs compiled
    for i in range(len(offsets) - 1):
        n = 4 * (offsets[i + 1] - offsets[i])
        at = starts[i]
        values[4 * offsets[i] : 4 * offsets[i] + n] = data[at : at + n]
        for k in range(n, starts[i + 1] - at):
            rest[14 * i + k - n] = data[at + k]
