import re

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st
from rensa import RMinHash

from udfs.minhash import (
    AFFINE32,
    RMINHASH,
    Scheme,
    band_keys,
    jaccard,
    keys_by,
    keys_within,
    optimal_bands,
    pack,
    s_curve,
    signatures,
    unpack,
)
from udfs.normal_text import normal
from udfs.shingles import REST, ShingleSets, shingle_sets

WORDS = ["a", "Cat", "\u00c9t\u00e9", "\u4e2d\u6587", "\u03a3", "x" * 60, "\U0001f389", "--"]
texts = st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))


def sketch(text: str, **options) -> MinHash:
    """datasketch's own, of the shingles that its users make; everything else at its default."""
    words = re.findall(r"\w+", text.lower())
    grams = {" ".join(words[i : i + 5]) for i in range(max(len(words) - 4, 1))}
    if not words:
        grams = {text.lower().strip()} - {""}
    made = MinHash(**options)
    if grams:
        made.update_batch([gram.encode("utf-8", "surrogatepass") for gram in grams])
    return made


def sets_of(*sets: set[int]) -> ShingleSets:
    """Sets as given, with no more of a hash than 32 bits."""
    return ShingleSets(
        values=np.array([value for one in sets for value in sorted(one)], np.uint32),
        offsets=np.cumsum([0, *map(len, sets)]),
        rest=np.zeros((len(sets), REST), np.uint16),
    )


def corpus(rng: np.random.Generator, n: int, words: int) -> list[list[str]]:
    return [[f"w{rank}" for rank in rng.zipf(1.3, words) % 50_000] for _ in range(n)]


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=4))
def test_signatures_are_datasketchs_bits(rows) -> None:
    found = signatures(shingle_sets(rows))
    assert found.dtype == np.uint32
    for row, values in zip(rows, found, strict=True):
        assert (values == sketch(row).hashvalues).all()


@pytest.mark.parametrize(("num_perm", "seed"), [(1, 1), (7, 0), (130, 2), (256, 12345)])
def test_other_lengths_and_seeds_are_datasketchs_too(num_perm, seed) -> None:
    text = " ".join(f"w{i}" for i in range(300))
    found = signatures(shingle_sets([text, "", "one"]), num_perm, seed)
    for row, values in zip([text, "", "one"], found, strict=True):
        assert (values == sketch(row, num_perm=num_perm, seed=seed).hashvalues).all()


def test_a_signature_reads_back_into_datasketch() -> None:
    words = [f"w{i}" for i in range(100)]
    a, b = " ".join(words), " ".join([*words[:90], "new", *words[91:]])
    first, second = signatures(shingle_sets([a, b]))
    read = MinHash(hashvalues=first, scheme="affine32")
    assert read.jaccard(sketch(b)) == sketch(a).jaccard(sketch(b)) == np.mean(first == second)


@settings(deadline=None)
@given(st.lists(texts, max_size=4), st.integers(1, 130), st.integers(0, 2**32))
def test_the_other_family_has_rensas_bits(rows, num_perm, seed) -> None:
    found = signatures(shingle_sets(rows), num_perm, seed, RMINHASH)
    assert found.shape == (len(rows), num_perm)
    assert found.dtype == np.uint32
    for row, values in zip(rows, found, strict=True):
        hashes = [splitmix64(value) for value in shingle_sets([row]).values.tolist()]
        (digest,) = RMinHash.digest_matrix_from_token_hash_sets([hashes], num_perm, seed).to_rows()
        assert values.tolist() == digest


def splitmix64(value: int) -> int:
    """What its generator gives first from a state, in Python's integers."""
    mixed = (value + 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
    return mixed ^ mixed >> 31


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("num_perm", [64, 128])
def test_bands_and_rows_are_datasketchs(threshold, num_perm) -> None:
    lsh = MinHashLSH(threshold=threshold, num_perm=num_perm)
    assert optimal_bands(threshold, num_perm) == (lsh.b, lsh.r)


def test_the_default_scheme_is_datasketchs_choice() -> None:
    scheme = Scheme()
    assert (scheme.bands, scheme.rows) == optimal_bands(scheme.threshold, scheme.num_perm)


def test_keys_agree_where_bands_do_and_only_there() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, (400, 12)).astype(np.uint32)  # many equal bands
    keys = band_keys(values, bands=4, rows=3)
    assert keys.dtype == np.int64
    bands = [
        (band, *row) for line in values.reshape(-1, 4, 3).tolist() for band, row in enumerate(line)
    ]
    by_band = dict(zip(bands, keys.reshape(-1).tolist(), strict=True))
    assert [by_band[band] for band in bands] == keys.reshape(-1).tolist()
    assert len(set(by_band.values())) == len(by_band) == 32


@pytest.mark.parametrize("permutations", [AFFINE32, RMINHASH])
def test_keys_follow_all_of_a_scheme(permutations) -> None:
    sets = shingle_sets(["a cat", "a dog and a cat on a very long walk", ""])
    scheme = Scheme(permutations=permutations, num_perm=64, seed=3, bands=5, rows=7)
    values = signatures(sets, 64, 3, permutations)
    assert keys_by(scheme, sets).tolist() == band_keys(values, 5, 7).tolist()
    assert keys_by(scheme, sets).tolist() != keys_by(Scheme(bands=5, rows=7), sets).tolist()


def test_the_order_of_values_in_a_band_counts() -> None:
    assert band_keys(np.array([[1, 2]], np.uint32), 1, 2) != band_keys(
        np.array([[2, 1]], np.uint32), 1, 2
    )


def test_every_bit_of_a_key_is_set_half_the_time() -> None:
    values = np.arange(40_000, dtype=np.uint32).reshape(-1, 2)
    keys = band_keys(values, bands=2, rows=1).reshape(-1).view(np.uint64)
    shares = [float(np.mean((keys >> np.uint64(bit)) & np.uint64(1))) for bit in range(64)]
    assert np.abs(np.array(shares) - 0.5).max() < 4.5 * 0.5 / len(keys) ** 0.5


def test_more_bands_than_a_signature_has_are_refused() -> None:
    with pytest.raises(ValueError, match="bands x rows got 3 x 2; allowed 5"):
        band_keys(np.zeros((1, 5), np.uint32), 3, 2)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.frozensets(st.integers(0, 2**32 - 1) | st.integers(0, 9))] * 2)))
def test_jaccard_is_that_of_pythons_sets(pairs) -> None:
    found = jaccard(sets_of(*(a for a, _ in pairs)), sets_of(*(b for _, b in pairs)))
    assert found.tolist() == [len(a & b) / max(len(a | b), 1) for a, b in pairs]


def test_only_shingles_that_agree_in_32_bits_alone_are_different() -> None:
    left = sets_of({7}, {7}, {7})
    right = ShingleSets(left.values, left.offsets, left.rest.copy())
    right.rest[1, REST - 1] = 1
    assert jaccard(left, right).tolist() == [1.0, 0.0, 1.0]
    assert jaccard(unpack(pack(left)), unpack(pack(right))).tolist() == [1.0, 0.0, 1.0]


def test_pairs_need_two_sides() -> None:
    with pytest.raises(ValueError, match="sets got 1 and 2"):
        jaccard(sets_of({1}), sets_of({1}, {2}))


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), texts), max_size=5))
def test_what_was_packed_unpacks(rows) -> None:
    sets = shingle_sets(rows)
    packed = pack(sets)
    assert packed.type == pa.binary()
    packed.validate(full=True)
    assert packed.is_null().to_pylist() == (sets.sizes == 0).tolist()
    read = unpack(pa.concat_arrays([pa.array([b"\x00" * 8]), packed])[1:])
    assert (read.values == sets.values).all()
    assert (read.offsets == sets.offsets).all()
    both = ~(sets.sizes == 0)
    assert (jaccard(read, sets) == both).all()


@pytest.mark.parametrize("length", [1, 4, 6, 19])
def test_bytes_that_are_no_set_are_refused(length) -> None:
    with pytest.raises(ValueError, match=f"set got {length} bytes; allowed 18 or a multiple"):
        unpack(pa.array([b"12345678", b"x" * length]))


def test_too_much_for_one_column_is_refused() -> None:
    sets = ShingleSets(np.empty(0, np.uint32), np.array([0, 2**29]), np.zeros((1, REST), np.uint16))
    with pytest.raises(ValueError, match="sets got 2147483648 bytes; allowed"):
        pack(sets)


@pytest.mark.parametrize("permutations", [AFFINE32, RMINHASH])
def test_planted_pairs_are_found_as_often_as_the_curve_says(permutations) -> None:
    rng = np.random.default_rng()
    originals = corpus(rng, 3000, 120)
    copies = [
        [
            f"n{i}-{k}" if hit else word
            for k, (word, hit) in enumerate(zip(words, hits, strict=True))
        ]
        for i, (words, hits) in enumerate(
            zip(originals, rng.random((3000, 120)) < rng.uniform(0, 0.1, (3000, 1)), strict=True)
        )
    ]
    left = shingle_sets([" ".join(words) for words in originals])
    right = shingle_sets([" ".join(words) for words in copies])
    true = jaccard(left, right)
    scheme = Scheme(permutations=permutations)
    signed = [signatures(side, permutations=permutations) for side in (left, right)]
    keys = [band_keys(values, scheme.bands, scheme.rows) for values in signed]
    found = (keys[0] == keys[1]).any(axis=1)
    expected = np.array([s_curve(share, scheme.bands, scheme.rows) for share in true])
    error = np.sqrt((expected * (1 - expected)).sum())
    # Four standard errors: the test draws anew each time, and fails wrongly once in 10^4.
    assert abs(found.sum() - expected.sum()) < 4 * error
    assert error > 5  # that there are doubtful pairs to tell by


def test_no_two_different_captions_are_one() -> None:
    rng = np.random.default_rng()
    words = np.array([f"w{i}" for i in range(60)])  # few, so that captions repeat
    captions = [
        " ".join(words[rng.integers(0, len(words), rng.integers(1, 9))]) for _ in range(50_000)
    ]
    sets = shingle_sets(captions)
    packed = np.array(pack(sets).to_pylist(), dtype=object)
    first: dict[bytes, str] = {}
    for caption, bits in zip(captions, packed, strict=True):
        known = first.setdefault(bits, normal(caption))
        # Longer ones may differ and have the same shingles: "a a a a a" and "a a a a a a".
        assert known == normal(caption) or len(caption.split()) >= 5
    assert len(first) == len({normal(caption) for caption in captions})


def test_two_captions_that_agree_in_32_bits_are_told_apart() -> None:
    # Among so many three pairs are expected whose SHA-1 agree in their first four bytes; these
    # have some.
    numbers = np.arange(250_000)
    sets = shingle_sets([f"caption {number}" for number in numbers])
    order = np.argsort(sets.values, kind="stable")
    same = np.flatnonzero(np.diff(sets.values[order].astype(np.int64)) == 0)
    assert len(same)
    a, b = order[same[0]], order[same[0] + 1]
    pair = shingle_sets([f"caption {a}"]), shingle_sets([f"caption {b}"])
    assert pair[0].values == pair[1].values
    assert jaccard(*pair).tolist() == [0.0]


def test_the_properties_are_these() -> None:
    # Whoever changes a name or a form makes every table unreadable.
    assert Scheme().properties() == {
        "sluice.minhash.bands": "14",
        "sluice.minhash.hash": "sha1_hash32",
        "sluice.minhash.num_perm": "128",
        "sluice.minhash.permutations": "affine32",
        "sluice.minhash.rows": "9",
        "sluice.minhash.seed": "1",
        "sluice.minhash.shingling.normaliser": "lower-words/1",
        "sluice.minhash.shingling.size": "5",
        "sluice.minhash.shingling.unit": "word",
        "sluice.minhash.threshold": "0.7",
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hash": "xxhash"}, "hash got 'xxhash'; allowed sha1_hash32"),
        ({"permutations": "legacy"}, "permutations got 'legacy'; allowed affine32, rminhash"),
        ({"bands": 15}, "bands x rows got 15 x 9; allowed at most 128"),
        ({"rows": 0}, "bands x rows got 14 x 0"),
        ({"threshold": 0.0}, "threshold got 0.0"),
        ({"threshold": float("nan")}, "threshold got nan"),
    ],
)
def test_a_scheme_that_contradicts_itself_is_refused(setting, message) -> None:
    with pytest.raises(ValueError, match=message):
        Scheme(**setting)


@given(
    keys=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    scopes=st.lists(st.sampled_from(["", "a", "dump", "démp"]), min_size=20, max_size=20),
)
def test_keys_meet_within_their_scope_as_they_did_and_nowhere_else(keys, scopes) -> None:
    made = np.array(keys, np.int64).reshape(-1, 1)
    lists = pa.array([[scope] for scope in scopes[: len(keys)]], pa.list_(pa.string()))
    found = keys_within(made, lists)[:, 0].tolist()
    for i, a in enumerate(found):
        for j, b in enumerate(found):
            assert (a == b) == (keys[i] == keys[j] and scopes[i] == scopes[j])


@given(places=st.lists(st.integers(0, 9), max_size=20), bands=st.integers(1, 3))
def test_keys_of_several_scopes_meet_in_those_that_are_shared(places, bands) -> None:
    windows = pa.array([[str(k), str(k + 1)] for k in places], pa.list_(pa.string()))
    found = keys_within(np.tile(np.arange(bands), (len(places), 1)), windows)
    for k, row in zip(places, found, strict=True):
        assert len(row) == 2 * bands
        for other, another in zip(places, found, strict=True):
            shared = {0: 2, 1: 1}.get(abs(k - other), 0)
            assert len({*row.tolist()} & {*another.tolist()}) == shared * bands
