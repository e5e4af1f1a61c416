"""Copies of benchmark items among clean samples, through the kernels that the stage runs."""

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs.demo import scenes
from jobs.demo.photographs import PHOTOGRAPHS
from udfs.contamination import (
    COLUMNS,
    MOST_ITEMS,
    Item,
    Registry,
    contamination_udf,
    says_little,
)
from udfs.embedding import pack, unit
from udfs.image_codec import decode, shrunk
from udfs.phash import phash

ITEMS = 50
SCENES = 250  # rendered clean images; the others' hashes and embeddings are drawn
CLEAN = 10_000
SIDE_PX = 16


@dataclass(frozen=True)
class Sample:
    caption: str | None
    media_sha256: str | None
    phash: int | None
    embedding: bytes | None


def thumbnail(image: Image.Image) -> np.ndarray:
    """What tells pictures apart, copies aside: 16 x 16 pixels less their mean."""
    small = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32).ravel()
    centred: np.ndarray = pixels - pixels.mean()
    return centred


def encoded(image: Image.Image, kind: str, **how: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def sample(caption: str, content: bytes) -> Sample:
    image = decode(content, max_pixels=1 << 24).image
    (embedding,) = pack(unit(thumbnail(image)[None]))
    return Sample(caption, hashlib.sha256(content).hexdigest(), phash(image), embedding)


def drawn(rng: np.random.Generator) -> Image.Image:
    scene = scenes.draw(rng, split="held_out")
    return scenes.render(scene, rng, width_px=260, height_px=200)


def sentence(rng: np.random.Generator, size: int) -> str:
    """Words as frequent as those of a language: the first of each five is one of the commonest."""
    return " ".join(f"w{n}" for n in rng.zipf(1.3, size) % 20_000)


def halved(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


DISGUISES: dict[str, Callable[[str, Image.Image, bytes, str], Sample]] = {
    "verbatim": lambda text, _, content, __: sample(text, content),
    "recaptioned": lambda _, __, content, other: sample(other, content),
    "resized": lambda _, image, __, other: sample(other, encoded(halved(image), "BMP")),
    "reencoded": lambda _, image, __, other: sample(other, encoded(image, "JPEG", quality=60)),
}


def examined(registry: Registry, samples: Sequence[Sample]) -> list[list[dict[str, object]]]:
    """Hits of each sample, through the operator; the registry goes the way it goes to workers."""
    rows = [
        {"sample_id": f"{n:05d}", "embedding": s.embedding, **vars(s)}
        for n, s in enumerate(samples)
    ]
    schema = pa.schema(
        [
            ("sample_id", pa.string()),
            ("caption", pa.string()),
            ("media_sha256", pa.string()),
            ("phash", pa.int64()),
            ("embedding", pa.binary()),
        ]
    )
    assert tuple(schema.names) == COLUMNS
    batches = pa.Table.from_pylist(rows, schema=schema).to_batches(max_chunksize=64)
    operator = contamination_udf(pickle.loads(pickle.dumps(registry)))
    told = [row for batch in operator(batches) for row in batch.to_pylist()]
    assert [row["sample_id"] for row in told] == [row["sample_id"] for row in rows]
    return [row["hits"] for row in told]


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    pictures = [decode(p.content(), max_pixels=1 << 24).image for p in PHOTOGRAPHS]
    return [shrunk(picture, 400, Image.Resampling.LANCZOS) for picture in pictures]


@pytest.mark.parametrize("seed", [1, 2])
def test_every_disguise_of_fifty_items_is_found_and_no_clean_sample(
    photographs: list[Image.Image], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pictures = [*photographs, *(drawn(rng) for _ in range(ITEMS - len(photographs)))]
    contents = [encoded(picture, "BMP") for picture in pictures]
    texts = [sentence(rng, int(size)) for size in rng.integers(5, 40, ITEMS)]
    originals = [sample(text, c) for text, c in zip(texts, contents, strict=True)]
    items = [
        Item("bench", f"{n:02d}", s.caption, s.media_sha256, s.phash, s.embedding)
        for n, s in enumerate(originals)
    ]
    planted = [
        (n, disguise, hide(texts[n], pictures[n], contents[n], sentence(rng, 20)))
        for n in range(ITEMS)
        for disguise, hide in DISGUISES.items()
    ]
    clean = [sample(sentence(rng, 12), encoded(drawn(rng), "BMP")) for _ in range(SCENES)]
    vectors = pack(unit(rng.standard_normal((CLEAN - SCENES, SIDE_PX * SIDE_PX * 3))))
    hashes = rng.integers(-(2**63), 2**63, CLEAN - SCENES)
    sizes = rng.integers(1, 40, CLEAN - SCENES)
    clean += [
        Sample(sentence(rng, int(size)), f"{n:064x}", int(hashed), vector)
        for n, (size, hashed, vector) in enumerate(zip(sizes, hashes, vectors, strict=True))
    ]
    everything = [s for _, _, s in planted] + clean
    order = rng.permutation(len(everything))
    hits = examined(Registry.of(items), [everything[i] for i in order])
    by_sample = {int(place): found for place, found in zip(order, hits, strict=True)}

    met = [{hit["item_id"] for hit in by_sample[place]} for place in range(len(planted))]
    assert met == [{f"{n:02d}"} for n, _, _ in planted]
    assert not [place for place in range(len(planted), len(everything)) if by_sample[place]]
    methods: dict[str, set[object]] = {name: set() for name in DISGUISES}
    for place, (_, disguise, _) in enumerate(planted):
        methods[disguise] |= {hit["method"] for hit in by_sample[place]}
    assert methods["recaptioned"] == {"exact_image", "phash", "cosine"}
    assert methods["resized"] == methods["reencoded"] == {"phash", "cosine"}
    assert methods["verbatim"] >= {"exact_text", "text_13gram", "text_8gram", "exact_image"}


def vector(*values: float) -> bytes:
    (packed,) = pack(unit(np.array([values])))
    return packed


HASH = 0x0F0F_0F0F_0F0F_0F0F
NOTHING = Sample(None, None, None, None)


def found(items: Sequence[Item], *samples: Sample) -> list[dict[tuple[str, str, str], float]]:
    return [
        {(str(h["benchmark"]), str(h["item_id"]), str(h["method"])): h["score"] for h in hits}  # type: ignore[misc]
        for hits in examined(Registry.of(items), samples)
    ]


def test_the_scores_are_shares_of_bits_and_cosines() -> None:
    items = [Item("b", "i", media_sha256="m", phash=HASH, embedding=vector(1, 0))]
    near = Sample(None, "n", HASH ^ 0b111, vector(1, 0.2))
    far = Sample(None, "n", HASH ^ 0b1111, vector(1, 0.3))

    assert found(items, near, far) == [
        {
            ("b", "i", "phash"): pytest.approx(1 - 3 / 64),
            ("b", "i", "cosine"): pytest.approx(1.04**-0.5, abs=1e-3),
        },
        {},
    ]


@pytest.mark.parametrize(
    "embedding",
    [
        None,
        b"",
        b"\0\0\0\0",
        b"\x00\x7e\x00\x3c",  # NaN
        b"\x00\x7c\x00\x3c",  # infinite
        vector(1, 0, 0),
        vector(1, 0)[:3],
    ],
)
def test_an_embedding_without_direction_meets_nothing_and_costs_no_neighbour(
    embedding: bytes | None,
) -> None:
    items = [
        Item("b", "good", media_sha256="m", embedding=vector(1, 0)),
        Item("b", "bad", media_sha256="n", embedding=embedding if embedding != b"" else None),
    ]
    if embedding is not None and len(embedding) not in (0, 4):
        items.pop()
    odd, good = Sample(None, "x", None, embedding), Sample(None, "y", None, vector(1, 0))

    assert found(items, odd, good, NOTHING) == [
        {},
        {("b", "good", "cosine"): pytest.approx(1, abs=1e-3)},
        {},
    ]


def test_items_of_one_image_and_one_text_are_all_met() -> None:
    items = [
        Item(benchmark, str(n), "a cat", "m", HASH, vector(1, 0))
        for benchmark in ("a", "b")
        for n in range(MOST_ITEMS + 7)
    ]
    (hits,) = examined(Registry.of(items), [Sample("A cat", "m", HASH, vector(1, 0))])
    of = {
        (benchmark, method): sorted(
            str(h["item_id"]) for h in hits if (h["benchmark"], h["method"]) == (benchmark, method)
        )
        for benchmark in ("a", "b")
        for method in ("exact_text", "exact_image", "phash", "cosine")
    }
    first = sorted(sorted(str(n) for n in range(MOST_ITEMS + 7))[:MOST_ITEMS])

    assert len(hits) == 2 * 4 * MOST_ITEMS
    assert all(ids == first for ids in of.values())


def test_of_many_near_items_the_best_are_told() -> None:
    angles = np.linspace(0.2, 0, MOST_ITEMS + 20)
    items = [
        Item("b", f"{n:03d}", media_sha256=f"m{n}", embedding=vector(np.cos(a), np.sin(a)))
        for n, a in enumerate(angles)
    ]
    (hits,) = found(items, Sample(None, None, None, vector(1, 0)))

    assert len(hits) == MOST_ITEMS
    assert ("b", f"{MOST_ITEMS + 19:03d}", "cosine") in hits
    assert ("b", "000", "cosine") not in hits


def test_pictures_without_detail_are_known_by_their_bytes_alone() -> None:
    white = phash(Image.new("RGB", (64, 48), "white"))
    ramp = phash(Image.linear_gradient("L"))
    pictures = [drawn(np.random.default_rng(seed)) for seed in range(20)]
    item = Item("b", "white", media_sha256="m", phash=white)

    assert says_little(white)
    assert says_little(ramp)
    assert not any(says_little(phash(picture)) for picture in pictures)
    assert found([item], Sample(None, "m", white, None), Sample(None, "n", white, None)) == [
        {("b", "white", "exact_image"): 1.0},
        {},
    ]


def test_no_items_and_no_samples_meet_nothing() -> None:
    assert found([], Sample("a cat", "m", HASH, vector(1, 0)), NOTHING) == [{}, {}]
    assert found([Item("b", "i", "a cat")]) == []
    assert found([Item("b", "i"), Item("b", "j", "!")], Sample("", None, None, None)) == [{}]


def test_the_order_of_items_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    items = [
        Item("ab"[n % 2], str(n), sentence(rng, 15), f"m{n % 5}", HASH ^ n % 4, vector(1, n / 9))
        for n in range(20)
    ]
    samples = [Sample(items[3].text, "m2", HASH, vector(1, 0.5)), NOTHING]
    shuffled = [items[i] for i in rng.permutation(len(items))]

    assert examined(Registry.of(items), samples) == examined(Registry.of(shuffled), samples)


def test_names_must_differ_and_embeddings_be_of_one_network() -> None:
    item = Item("b", "i", media_sha256="m", embedding=vector(1, 0))
    with pytest.raises(ValueError, match="2 items have 1 names; allowed one name for each"):
        Registry.of([item, item])
    other = replace(item, item_id="j", media_sha256="n", embedding=vector(1, 0, 0))
    with pytest.raises(ValueError, match=r"embeddings of \[4, 6\] bytes differ"):
        Registry.of([item, other])
