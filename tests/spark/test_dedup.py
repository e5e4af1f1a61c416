from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.errors import SparkRuntimeException
from pyspark.sql import SparkSession

from jobs.runtime.config import Dedup, PHashSearch
from jobs.runtime.errors import ConfigError
from schemas import shards
from tests.dedup_warehouse import DedupWarehouse, Item, duplicates_of, elders, hash_links
from tests.told_rows import append

KINDS = ("exact_url", "exact_media", "exact_text", "exact_pair", "phash")


def far_apart(count: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(value) for value in rng.integers(-(2**63), 2**63, count)]


def flipped(value: int, *bits: int) -> int:
    for bit in bits:
        value ^= 1 << int(bit)
    return (value + 2**63) % 2**64 - 2**63


@pytest.fixture
def made(spark: SparkSession, tmp_path: Path) -> Any:
    def make(name: str = "warehouse", **settings: Any) -> DedupWarehouse:
        return DedupWarehouse(spark, tmp_path / name, Dedup(**{"kinds": KINDS, **settings}))

    return make


def test_exact_kinds_are_told_apart(made: Any) -> None:
    near, far, other = far_apart(3, 0)
    tables = made()
    tables.arrive(
        Item(
            ordinal=1, media="m", caption="A  Cat", url="https://a.org/x?utm_source=z", phash=near
        ),
        Item(ordinal=2, media="m", caption="A  Cat", url=None, phash=near),
        Item(ordinal=3, media="m", caption="a dog", url="https://A.org:443/x", phash=near),
    )
    tables.arrive(
        Item(ordinal=4, media="n", caption="a cat", url="https://a.org/y", phash=far),
        Item(ordinal=5, media="o", caption=" ", url="not a url", phash=other),
        Item(ordinal=6, media="m", caption="a bird", phash=near),
    )

    assert duplicates_of(tables.verdicts("exact_url")) == {"s00003": "s00001"}
    assert duplicates_of(tables.verdicts("exact_media")) == {
        "s00002": "s00001",
        "s00003": "s00001",
        "s00006": "s00001",
    }
    assert duplicates_of(tables.verdicts("exact_text")) == {"s00002": "s00001", "s00004": "s00001"}
    assert duplicates_of(tables.verdicts("exact_pair")) == {"s00002": "s00001"}
    assert duplicates_of(tables.verdicts("phash")) == {}
    assert all(len(tables.verdicts(kind)) == 6 for kind in KINDS)


@pytest.mark.parametrize("sizes", [(76,), (40, 36), (10, 30, 1, 35)])
def test_perceptual_verdicts_equal_brute_force_whatever_the_batches(
    made: Any, sizes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(1)
    base = far_apart(12, 2)
    values = [
        flipped(base[i % 12], *rng.choice(64, size=int(rng.integers(0, 6)), replace=False))
        for i in range(72)
    ]
    values += [-1, 0, flipped(-1, 63, 0, 31), flipped(0, 63)]
    items = [Item(ordinal=i, media=f"m{i}", phash=value) for i, value in enumerate(values)]
    tables = made()
    start = 0
    for size in sizes:
        tables.arrive(*items[start : start + size])
        start += size

    names = [item.sample_id for item in items]
    expected = elders(
        names, hash_links(items, radius=3), {name: (0.0, i) for i, name in enumerate(names)}
    )
    found = tables.verdicts("phash")
    assert {
        name: (
            row["is_duplicate"],
            row["representative_id"],
            pytest.approx(row["similarity"]),
            row["cluster_id"],
        )
        for name, row in found.items()
    } == {name: (*told[:3], min(told[3])) for name, told in expected.items()}


def test_texts_are_compared_within_their_dump_where_that_is_asked(made: Any) -> None:
    rng = np.random.default_rng(10)
    words = [f"w{number}" for number in rng.integers(0, 500, 120)]
    text, near = " ".join(words), " ".join([*words[:60], "other", *words[61:]])
    items = [
        Item(ordinal=ordinal, media=f"m{ordinal}", caption=caption, dump=dump)
        for ordinal, (caption, dump) in enumerate(
            [(text, "a"), (text, "b"), (near, "b"), (near, "a"), (text, "b")]
        )
    ]
    tables = made(kinds=("exact_text", "minhash"), text_scope="dump")
    tables.arrive(*items[:3])
    tables.arrive(*items[3:])

    assert duplicates_of(tables.verdicts("exact_text")) == {"s00004": "s00001"}
    assert duplicates_of(tables.verdicts("minhash")) == {
        "s00002": "s00001",
        "s00003": "s00000",
    }


def test_texts_are_compared_with_those_of_neighbouring_dumps_where_that_is_asked(
    made: Any,
) -> None:
    rng = np.random.default_rng(11)

    def pair() -> tuple[str, str]:
        words = [f"w{number}" for number in rng.integers(0, 500, 120)]
        return " ".join(words), " ".join([*words[:60], "other", *words[61:]])

    (apart, far), (text, near), (old, new), (first, last) = pair(), pair(), pair(), pair()
    tables = made(kinds=("exact_text", "minhash"), text_scope="neighbours")
    # Not in the order of their names; the last one's neighbour comes later, and has no text before.
    for ordinal, dump in enumerate(["d", "b", "c"]):
        append(tables.warehouse, shards.TABLE, {"dump": dump, "shard_ordinal": ordinal})
    items = [
        Item(ordinal=ordinal, media=f"m{ordinal}", caption=caption, dump=dump)
        for ordinal, (caption, dump) in enumerate(
            [
                (apart, "d"),
                (far, "c"),
                (text, "d"),
                (text, "b"),
                (text, "b"),
                (old, "c"),
                (near, "c"),
                (new, "a"),
                (apart, "a"),
                # A shard more does not move a dump.
                (first, "d"),
                (last, "a"),
            ]
        )
    ]
    tables.arrive(*items[:5])
    append(tables.warehouse, shards.TABLE, {"dump": "a", "shard_ordinal": 3})
    append(tables.warehouse, shards.TABLE, {"dump": "d", "shard_ordinal": 4})
    tables.arrive(*items[5:])

    assert duplicates_of(tables.verdicts("exact_text")) == {"s00004": "s00003"}
    found = tables.verdicts("minhash")
    assert duplicates_of(found) == {
        "s00003": "s00002",
        "s00004": "s00002",
        # By way of the dump between them.
        "s00006": "s00002",
        "s00007": "s00005",
        "s00008": "s00001",
    }
    assert found["s00003"]["similarity"] == 1


def test_a_text_of_a_dump_that_was_never_discovered_stops_the_batch(made: Any) -> None:
    tables = made(kinds=("exact_text", "minhash"), text_scope="neighbours")
    append(tables.warehouse, shards.TABLE, {"dump": "other", "shard_ordinal": 0})
    with pytest.raises(SparkRuntimeException, match="no shard was discovered of the dump dump"):
        tables.arrive(Item(ordinal=0, media="m", caption="some words of a text"))


def test_mirror_images_are_copies_where_that_is_asked(made: Any) -> None:
    one, other, third = far_apart(3, 9)
    tables = made(kinds=("exact_media", "phash"), phash=PHashSearch(mirrored=True))
    tables.arrive(Item(ordinal=0, media="a", phash=one, mirrored_phash=other))
    tables.arrive(
        Item(ordinal=1, media="b", phash=flipped(other, 3), mirrored_phash=flipped(one, 5)),
        Item(ordinal=2, media="c", phash=third, mirrored_phash=third),
    )

    assert duplicates_of(tables.verdicts("phash")) == {"s00001": "s00000"}
    tables.settings = Dedup(kinds=("exact_media", "phash"))
    with pytest.raises(ConfigError, match=r"phash\.mirrored None; .* built with yes"):
        tables.arrive(Item(ordinal=3, media="d", phash=one))


def test_samples_of_one_image_share_its_perceptual_verdict(made: Any) -> None:
    (value,) = far_apart(1, 4)
    tables = made()
    near = flipped(value, 5)
    tables.arrive(
        Item(ordinal=0, media="m", caption="t", phash=value),
        Item(ordinal=1, media="n", caption="u", phash=near),
        Item(ordinal=2, media="n", caption="v", phash=near),
    )
    tables.arrive(
        Item(ordinal=9, media="n", caption="w", phash=near),
        Item(ordinal=10, media="m", caption="x", phash=value),
    )

    assert duplicates_of(tables.verdicts("phash")) == {
        "s00001": "s00000",
        "s00002": "s00000",
        "s00009": "s00000",
    }
    assert {row["cluster_id"] for row in tables.verdicts("phash").values()} == {"s00000"}


def test_a_bridge_merges_two_clusters_and_demotes_the_younger_survivor(made: Any) -> None:
    (value,) = far_apart(1, 5)
    ends = value, flipped(value, 0, 1, 2, 3, 4, 5)
    tables = made()
    tables.arrive(
        Item(ordinal=0, media="a", phash=ends[0]), Item(ordinal=1, media="b", phash=ends[1])
    )
    tables.arrive(Item(ordinal=2, media="c", phash=flipped(ends[1], 40)))
    assert duplicates_of(tables.verdicts("phash")) == {"s00002": "s00001"}

    tables.arrive(Item(ordinal=3, media="bridge", phash=flipped(value, 0, 1, 2)))

    found = tables.verdicts("phash")
    assert duplicates_of(found) == {"s00001": "s00000", "s00002": "s00001", "s00003": "s00000"}
    assert {row["cluster_id"] for row in found.values()} == {"s00000"}
    assert {name: row["revision"] for name, row in found.items()} == {
        "s00000": 0,
        "s00001": 1,
        "s00002": 1,
        "s00003": 0,
    }


def test_the_best_of_a_cluster_stands_for_it_whatever_the_order(made: Any) -> None:
    (value,) = far_apart(1, 6)
    items = [
        Item(ordinal=0, media="a", caption="one", phash=value, clip_score=0.1),
        Item(ordinal=1, media="b", caption="two", phash=flipped(value, 1), clip_score=0.3),
        Item(ordinal=2, media="b", caption="six", phash=flipped(value, 1), clip_score=0.2),
        Item(ordinal=3, media="c", caption="one", phash=flipped(value, 2), clip_score=None),
        Item(ordinal=4, media="a", caption="one", phash=value, clip_score=0.4),
    ]
    for number, batches in enumerate((((0, 1), (2, 3), (4,)), ((3, 4), (2,), (1, 0)))):
        tables = made(f"w{number}", keep="clip_score")
        for places in batches:
            tables.arrive(*(items[place] for place in places))

        assert set(tables.verdicts("phash")) == {item.sample_id for item in items}
        survivors = {
            kind: {n for n, row in tables.verdicts(kind).items() if not row["is_duplicate"]}
            for kind in ("exact_media", "exact_text", "exact_pair")
        }
        assert survivors == {
            "exact_media": {"s00001", "s00003", "s00004"},
            "exact_text": {"s00001", "s00002", "s00004"},
            "exact_pair": {"s00001", "s00002", "s00003", "s00004"},
        }


def test_a_sample_that_comes_again_keeps_its_verdict(made: Any) -> None:
    values = far_apart(2, 7)
    tables = made()
    items = [Item(ordinal=i, media=f"m{i}", phash=v) for i, v in enumerate(values)]
    tables.arrive(*items)
    before = tables.warehouse.read("silver.duplicates").count()
    tables.search(items, label="again")

    assert tables.warehouse.read("silver.duplicates").count() == before
    last = tables.warehouse.read("ops.batches").orderBy("started_at", ascending=False).first()
    assert (last.rows_in, last.rows_kept, last.rows_reused) == (2, 2, 2)


def test_texts_that_share_shingles(made: Any) -> None:
    rng = np.random.default_rng(8)
    words = [f"w{i}" for i in range(500)]
    text = list(rng.choice(words, 120))
    edited = [*text[:60], "other", *text[61:]]
    cut = text[:90]
    items = [
        Item(ordinal=0, media="a", caption=" ".join(text)),
        Item(ordinal=1, media="b", caption=" ".join(rng.choice(words, 120))),
        Item(ordinal=2, media="c", caption=" ".join(edited).upper()),
        Item(ordinal=3, media="d", caption="red car"),
        Item(ordinal=4, media="e", caption="Red car!"),
        Item(ordinal=5, media="f", caption="red cars"),
        Item(ordinal=6, media="g", caption=""),
        Item(ordinal=7, media="h", caption=" ".join(cut)),
    ]
    for sizes in ((8,), (1, 3, 4)):
        tables = made(f"of{len(sizes)}", kinds=("exact_text", "minhash"))
        start = 0
        for size in sizes:
            tables.arrive(*items[start : start + size])
            start += size

        found = tables.verdicts("minhash")
        assert duplicates_of(found) == {"s00002": "s00000", "s00004": "s00003", "s00007": "s00000"}
        assert found["s00002"]["similarity"] == pytest.approx(111 / 121)
        assert found["s00007"]["similarity"] == pytest.approx(86 / 116)
        assert found["s00006"]["cluster_id"] == "s00006"
