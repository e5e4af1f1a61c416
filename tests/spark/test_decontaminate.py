"""The registry of benchmarks and its stage: what arrives, what is registered, what is taken out."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import typer
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from jobs import benchmark_registry, benchmarks_cli, curate, cycle, decontaminate, score_videos, why
from jobs.benchmark_registry import Added
from jobs.benchmark_source import Given, Refused, items
from jobs.cycle import Plan
from jobs.models.card import Card
from jobs.runtime.config import Config, Dump, RecipeRef
from jobs.runtime.errors import ConfigError, NotFound, SluiceError
from jobs.runtime.models import Scoring
from jobs.runtime.tables import Warehouse, create_all
from schemas import (
    batches,
    benchmark_items,
    contamination,
    decisions,
    image_signals,
    pairs,
    samples,
)
from tests import plain_signals
from tests.told_rows import append
from udfs.embedding import pack, unit
from udfs.image_codec import Decoded, decode
from udfs.phash import PHash, phash

LONG = "the quick brown fox jumps over the lazy dog while nobody in the village looks"


@dataclass(frozen=True)
class Thumbnail:
    """An embedding that tells pictures apart."""

    version: str = "thumbnail/1"
    columns: ClassVar = ("clip_embedding", "clip_dimension")

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> np.ndarray:
        small = decoded.image.resize((8, 8), Image.Resampling.BOX)
        pixels = np.asarray(small, np.float32).ravel()
        centred: np.ndarray = pixels - pixels.mean()
        return centred

    def finish(self, prepared: Sequence[np.ndarray]) -> dict[str, list[Any]]:
        packed = pack(unit(np.stack(prepared)))
        return {"clip_embedding": packed, "clip_dimension": [192] * len(packed)}


MEASURE = plain_signals.side({"phash": PHash(), "clip": Thumbnail()})


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return small.resize((160, 120), Image.Resampling.BICUBIC)


def content(image: Image.Image, kind: str = "PNG", **how: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


@dataclass
class World:
    """Tables as the stages before this one leave them."""

    warehouse: Warehouse
    scoring: Scoring
    ordinal: int = 0
    scored: set[tuple[str, str]] = field(default_factory=set)

    def arrive(
        self, rows: Sequence[tuple[str, str, bytes]], scoring: Scoring | None = None
    ) -> None:
        """Samples with caption and image, scored and paired, as one batch."""
        scoring = scoring or self.scoring
        written: dict[str, list[dict[str, Any]]] = {samples.TABLE: [], image_signals.TABLE: []}
        written[pairs.TABLE] = []
        signal_set = scoring.images.signal_set
        for sample_id, caption, image in rows:
            sha256 = hashlib.sha256(image).hexdigest()
            key = {"sample_id": sample_id, "media_sha256": sha256, "ingest_ordinal": self.ordinal}
            self.ordinal += 1
            if (sample_id, "sample") not in self.scored:
                written[samples.TABLE].append({**key, "caption": caption})
            if (sha256, signal_set) not in self.scored:
                decoded = decode(image, max_pixels=1 << 20)
                signals = {
                    "phash": phash(decoded.image),
                    "clip_embedding": pack(unit(Thumbnail().prepare(decoded)[None]))[0],
                    "clip_model": scoring.images.models["clip_model"],
                }
                written[image_signals.TABLE].append({**key, **signals, "signal_set": signal_set})
            sets = {"image_signal_set": signal_set, "signal_set": scoring.signal_set}
            written[pairs.TABLE].append({**key, **sets})
            self.scored |= {(sample_id, "sample"), (sha256, signal_set)}
        for table, told in written.items():
            self.append(table, told)

    def append(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            append(self.warehouse, table, *rows)

    def register(self, name: str, *given: Given | Refused, model: str = "c") -> Added:
        models = {**MEASURE.models, "clip_model": model}
        measure = MEASURE.__class__(**{**vars(MEASURE), "models": models})
        return benchmark_registry.add(
            self.warehouse, name, given, measure=measure, max_bytes=1 << 20, run_id="r"
        )

    def run(self, scoring: Scoring | None = None) -> int:
        return decontaminate.run(self.warehouse, scoring or self.scoring, run_id="r")

    def hits(self) -> set[tuple[str, str, str, str]]:
        """Sample, benchmark, item, method by the registry as it is; each is there once."""
        rows = self.warehouse.read(contamination.TABLE)
        rows = rows.where(F.col("registry") == registered(self.warehouse))
        told = rows.select("sample_id", "benchmark", "item_id", "method").collect()
        assert len(set(told)) == len(told)
        return {tuple(row) for row in told}

    def ledger(self) -> list[tuple[int, int]]:
        rows = self.warehouse.read(batches.TABLE).orderBy("started_at")
        return [(row.rows_in, row.rows_kept) for row in rows.collect()]

    def contaminated(self, scoring: Scoring | None = None) -> dict[str, int | None]:
        rows = self.warehouse.read(pairs.TABLE).select("sample_id").distinct()
        version = benchmark_registry.version(self.warehouse)
        hits = version and decontaminate.counting(
            self.warehouse, scoring or self.scoring, version.digest
        )
        found = decontaminate.with_contaminated(rows, hits)
        return {row.sample_id: row.contaminated for row in found.collect()}


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    warehouse = Warehouse(spark, str(tmp_path / "warehouse"))
    for module in (samples, image_signals, pairs, batches):
        warehouse.create(module.TABLE)
    return World(warehouse, Scoring(images=MEASURE, texts=MEASURE, cards=()))


def registered(warehouse: Warehouse) -> str:
    version = benchmark_registry.version(warehouse)
    assert version is not None
    return version.digest


PICTURES = [content(picture(seed)) for seed in range(8)]
CLEAN = [(f"clean{n}", f"clean words number {n}", PICTURES[n]) for n in (4, 5, 6)]
RESIZED = content(picture(0).resize((80, 60), Image.Resampling.BICUBIC))
REENCODED = content(picture(0), "JPEG", quality=60)


def test_what_arrives_meets_what_is_registered_and_all_meet_what_is_added(world: World) -> None:
    assert decontaminate.stage(world.warehouse, world.scoring) is None
    world.arrive([("verbatim", LONG, PICTURES[0]), *CLEAN[:2]])
    assert world.run() == 0
    assert not any(world.warehouse.exists(m.TABLE) for m in (benchmark_items, contamination))
    assert set(world.contaminated().values()) == {None}

    first = [Given(item_id="0", text=LONG, image=PICTURES[0]), Given(item_id="1", text="a cat")]
    assert world.register("first", *first) == Added(added=2, short=1)
    with pytest.raises(SluiceError, match=r"run the stage decontaminate first"):
        world.contaminated()
    assert world.run() == 1
    image = {("verbatim", "first", "0", method) for method in ("exact_image", "phash", "cosine")}
    verbatim = image | {("verbatim", "first", "0", m) for m in ("exact_text", "text_13gram")}
    assert world.hits() == verbatim
    assert world.ledger() == [(3, 3)]

    # Nothing new: nothing runs, nothing is written.
    before = world.warehouse.version(contamination.TABLE)
    assert world.run() == 0
    assert world.warehouse.version(contamination.TABLE) == before

    # What arrives later is examined alone.
    world.arrive([("resized", "words", RESIZED), ("reencoded", "words", REENCODED), CLEAN[2]])
    with pytest.raises(SluiceError, match=r"silver.pairs has rows that were not compared"):
        world.contaminated()
    assert world.run() == 1
    disguised = {
        (name, "first", "0", method)
        for name in ("resized", "reencoded")
        for method in ("phash", "cosine")
    }
    assert world.hits() == verbatim | disguised
    assert world.ledger() == [(3, 3), (3, 3)]
    assert world.contaminated() == {
        **dict.fromkeys(("verbatim", "resized", "reencoded"), 1),
        **dict.fromkeys((name for name, _, _ in CLEAN), 0),
    }

    # A changed registry sees every pair again.
    with_first = registered(world.warehouse)
    assert world.register("second", Given(item_id="x", image=PICTURES[4])) == Added(added=1)
    assert world.run() == 1
    assert {hit for hit in world.hits() if hit[1] == "second"} == {
        ("clean4", "second", "x", method) for method in ("exact_image", "phash", "cosine")
    }
    assert sum(rows_in for rows_in, _ in world.ledger()) == 3 + 3 + 6
    report = {row["benchmark"]: row for row in benchmark_registry.report(world.warehouse, "c")}
    kept = ("items", "items_hit", "samples_hit", "exact_text", "exact_image", "phash", "embeddings")
    assert [report["first"][name] for name in kept] == [2, 1, 3, 1, 1, 3, 1]
    assert [report["second"][name] for name in kept] == [1, 1, 1, 0, 1, 1, 1]

    # Without the second it is the registry that it was: its hits are there, nothing runs.
    assert benchmark_registry.remove(world.warehouse, "second") == 1
    assert registered(world.warehouse) == with_first
    assert world.run() == 0
    assert world.hits() == verbatim | disguised
    assert world.contaminated()["clean4"] == 0

    # Nor does anything without the first.
    benchmark_registry.remove(world.warehouse, "first")
    assert decontaminate.stage(world.warehouse, world.scoring) is None
    assert set(world.contaminated().values()) == {None}


def test_another_network_compares_no_cosine_until_the_items_are_measured_again(
    world: World,
) -> None:
    item = Given(item_id="0", text=LONG, image=PICTURES[0])
    world.register("bench", item)
    world.arrive([("a", LONG, RESIZED)])
    world.run()
    by_text = {("a", "bench", "0", "exact_text"), ("a", "bench", "0", "text_13gram")}
    near = {("a", "bench", "0", "phash"), ("a", "bench", "0", "cosine")}
    assert world.hits() == by_text | near

    other_models = {**MEASURE.models, "clip_model": "d"}
    images = MEASURE.__class__(**{**vars(MEASURE), "models": other_models, "rules": ("other",)})
    other = Scoring(images=images, texts=MEASURE, cards=())
    world.arrive([("a", LONG, RESIZED), ("b", "words", RESIZED)], other)
    assert world.run(other) == 1
    # The sample that comes again has its hits: none is written twice.
    assert world.hits() == by_text | near | {("b", "bench", "0", "phash")}
    assert world.ledger()[-1] == (2, 2)
    # Nor does the cosine of the network of before count any more: the other hits do.
    hits = decontaminate.counting(world.warehouse, other, registered(world.warehouse))
    assert {(row.sample_id, row.method) for row in hits.collect()} == {
        *(("a", method) for method in ("exact_text", "text_13gram", "phash")),
        ("b", "phash"),
    }

    assert world.register("bench", item, model="d") == Added(refreshed=1)
    assert world.run(other) == 1
    assert ("b", "bench", "0", "cosine") in world.hits()
    assert benchmark_registry.listed(world.warehouse, "c")[0]["embeddings"] == 0


def test_bad_items_are_refused_by_name_and_adding_twice_adds_nothing(
    world: World, tmp_path: Path
) -> None:
    good = [Given(item_id="text", text=LONG), Given(item_id="image", image=PICTURES[0])]
    (tmp_path / "broken.png").write_bytes(PICTURES[1][:200])
    (tmp_path / "large.png").write_bytes(bytes(2 << 20))
    given: list[Given | Refused] = [
        *good,
        Given(item_id="text", text=LONG),  # its copy
        Given(item_id="text", text="other words"),
        Given(item_id="broken", text="with a text", image=tmp_path / "broken.png"),
        Given(item_id="missing", image=tmp_path / "missing.png"),
        Given(item_id="large", image=tmp_path / "large.png"),
        Given(item_id="nothing"),
        Given(item_id="empty", text=" \n!? "),
        Given(item_id="surrogate", text="half \ud800 of a pair"),
        Refused("row 9", "no JSON"),
        Given(item_id="white", text=" ", image=content(Image.new("RGB", (64, 64), "white"))),
    ]
    added = world.register("bench", *given)
    why = {item: said for item, said in added.refused}

    assert (added.added, added.known, added.flat) == (2, 1, 0)
    assert {*why} == {
        *("text", "broken", "missing", "large", "nothing", "empty", "surrogate", "row 9", "white")
    }
    assert why["text"].startswith("is there with other content; give it another id")
    assert why["broken"].startswith("truncated_image: ")
    assert why["missing"] == "its image cannot be read: No such file or directory"
    assert "more than 1048576 bytes; raise ingest.max_member_bytes" in why["large"]
    assert why["nothing"] == why["empty"] == "has neither words nor an image"
    assert why["surrogate"] == "its text is not UTF-8"

    version = world.warehouse.version(benchmark_items.TABLE)
    assert world.register("bench", *good) == Added(known=2)
    assert world.warehouse.version(benchmark_items.TABLE) == version
    again = world.register("bench", Given(item_id="image", image=PICTURES[2]))
    assert [refused.item_id for refused in again.refused] == ["image"]
    rows = world.warehouse.read(benchmark_items.TABLE).orderBy("item_id").collect()
    assert [(row.item_id, row.text, row.phash is None) for row in rows] == [
        ("image", None, False),
        ("text", LONG, True),
    ]


def test_names_are_checked_and_nothing_is_no_benchmark(world: World) -> None:
    for name in ("", "A", "a b", "a'; DROP", "-a", "a" * 65):
        with pytest.raises(ConfigError, match="got name"):
            world.register(name, Given(item_id="0", text=LONG))
    with pytest.raises(ConfigError, match="benchmark bench got no items"):
        world.register("bench")
    with pytest.raises(NotFound, match="no benchmark bench; there are none"):
        benchmark_registry.remove(world.warehouse, "bench")
    assert benchmark_registry.report(world.warehouse) == []


RULE = {"reason": "contaminated", "signal": "contaminated", "max": 0, "source": "a test"}


def test_a_recipe_rejects_what_was_met_and_decides_again_by_another_registry(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps({"name": "mine", "rules": {"benchmarks": RULE}}))
    config = Config(
        warehouse=world.warehouse.root,
        dumps=(Dump(name="none", path=str(tmp_path)),),
        recipe=RecipeRef(name=str(file)),
    )
    resolved = cycle.resolve_recipe(config, world.scoring)
    create_all(world.warehouse, resolved.name)
    demo = Card(name="demo", task="clip", is_demonstration=True, files={})
    scoring = replace(world.scoring, cards=(demo,))

    def decided() -> tuple[str, dict[str, str | None]]:
        recipe = cycle.against_benchmarks(resolved, world.warehouse)
        planned = Plan(config, world.warehouse, scoring, score_videos.side(config), recipe, ())
        for name in (decontaminate.NAME, curate.NAME):
            cycle.run_stage(planned, name, run_id="r")
        rows = world.warehouse.read(decisions.TABLE)
        rows = rows.where(F.col("recipe_version") == recipe.version)
        return recipe.version, {row.sample_id: row.first_reason for row in rows.collect()}

    world.arrive([("planted", LONG, PICTURES[0]), CLEAN[0]])
    world.register("bench", Given(item_id="0", text=LONG))
    before, first = decided()
    assert first == {"planted": "contaminated", CLEAN[0][0]: None}
    assert before != resolved.version

    world.register("other", Given(item_id="x", image=CLEAN[0][2]))
    after, second = decided()
    assert after != before
    assert second == {"planted": "contaminated", CLEAN[0][0]: "contaminated"}
    reasons = world.warehouse.read(decisions.TABLE).where(F.col("recipe_version") == after)
    assert {row.reasons[0].value for row in reasons.collect()} == {"1"}
    told = why.explain(world.warehouse, "planted")[0]
    # By both registries: the text, and its n-grams.
    assert sum(table == contamination.TABLE for table, _ in told.steps) == 4

    # The cosine is stored, and counts only where the network is no demonstration.
    for judge, is_counted in ((scoring, False), (world.scoring, True)):
        hits = decontaminate.counting(world.warehouse, judge, registered(world.warehouse))
        assert bool(hits.where(F.col("method") == contamination.COSINE).count()) == is_counted


def test_a_sample_without_caption_or_signals_is_examined_by_what_it_has(world: World) -> None:
    world.register("bench", Given(item_id="0", text=LONG, image=PICTURES[0]))
    sha256 = hashlib.sha256(PICTURES[0]).hexdigest()
    signals = world.scoring.images.signal_set
    sets = {"image_signal_set": signals, "signal_set": world.scoring.signal_set}
    world.append(pairs.TABLE, [{"sample_id": "taken", "media_sha256": sha256, **sets}])
    world.append(
        image_signals.TABLE,
        [{"media_sha256": "n", "signal_set": signals, "clip_model": "c", "clip_embedding": b"\0"}],
    )
    world.append(pairs.TABLE, [{"sample_id": "odd", "media_sha256": "n", **sets}])
    world.run()

    assert world.hits() == {("taken", "bench", "0", "exact_image")}
    assert sum(rows_in for rows_in, _ in world.ledger()) == 2


def test_the_command_line_adds_lists_reports_and_removes(world: World, tmp_path: Path) -> None:
    group = typer.Typer()
    config = Config(warehouse=world.warehouse.root, dumps=(Dump(name="none", path=str(tmp_path)),))

    def plain(function: Callable[..., None]) -> Callable[..., None]:
        return function

    benchmarks_cli.add_to(group, plain, lambda *_: config)
    runner = CliRunner()
    folder = tmp_path / "bench"
    folder.mkdir()
    (folder / "cat.png").write_bytes(PICTURES[0])
    (folder / "cat.txt").write_text("a cat")
    told = runner.invoke(group, ["add", "bench", str(folder)])
    assert told.exit_code == 0, told.output
    assert "bench: 1 items added, 0 measured again by another network" in told.output
    assert "1 texts of under 8 words" in told.output
    (folder / "broken.png").write_bytes(PICTURES[1][:100])
    told = runner.invoke(group, ["add", "bench", str(folder)])
    assert isinstance(told.exception, SluiceError)
    assert "1 items of bench were refused" in str(told.exception)
    assert "refused broken.png: truncated_image" in told.output

    assert '"embeddings": 1' in runner.invoke(group, ["list", "--json"]).output
    page = tmp_path / "report.html"
    told = runner.invoke(group, ["report", "--html", str(page)])
    assert told.exit_code == 0, told.output
    assert "<td>bench</td><td>1</td>" in page.read_text()
    told = runner.invoke(group, ["remove", "bench"])
    assert "removed 1 items of bench" in told.output
    assert "nothing is registered" in runner.invoke(group, ["list"]).output
    assert [item.item_id for item in items(folder) if isinstance(item, Given)] == [
        "broken.png",
        "cat.png",
    ]
