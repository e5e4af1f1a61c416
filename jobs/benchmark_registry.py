"""The registry of benchmark items: add, list, remove, and what samples met of it."""

import hashlib
import re
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.benchmark_source import Given, Refused
from jobs.runtime import models, signals
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.models import Side
from jobs.runtime.signals import Shelf
from jobs.runtime.tables import Warehouse
from schemas import benchmark_items, contamination, error_classes
from udfs import contamination as rules
from udfs.contamination import Item, Registry, says_little
from udfs.identity import digest
from udfs.ngram_overlap import SHORT, words

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # safe in SQL, in file names, on terminals
_SIGNALS: Final = ("phash", models.CLIP)  # what an image is known by
_IMAGES: Final = 32  # images handed to the operator at a time: the batch of its networks
_SCHEMA: Final = to_arrow_schema(benchmark_items.SCHEMA)
_VERSION_CHARS: Final = 16  # 64 bits, as a signal set's name

_Known = dict[str, tuple[str | None, str | None, str | None]]


class Version(NamedTuple):
    """The registry as it is at some moment.

    Attributes:
        digest: of its items and of the rules by which they are met.
        table_version: of `ops.benchmark_items`.
    """

    digest: str
    table_version: int


@dataclass
class Added:
    """What became of the items that were given.

    Attributes:
        added: were not there.
        refreshed: were there, with an embedding of another network.
        known: were there.
        refused: could not be taken.
        short: of the added, texts of so few words that only equal ones are found.
        flat: of the added, images of so little detail that their hash is not compared.
    """

    added: int = 0
    refreshed: int = 0
    known: int = 0
    refused: list[Refused] = field(default_factory=list)
    short: int = 0
    flat: int = 0


@dataclass(frozen=True)
class _Row:
    """A row of the table to be."""

    benchmark: str
    item_id: str
    text: str | None
    text_sha256: str | None
    media_sha256: str | None
    added_at: datetime
    run_id: str
    phash: int | None = None
    embedding: bytes | None = None
    embedding_model: str | None = None


def side(config: Config) -> Side:
    """The signals that an image is known by, as the pipeline measures them.

    Raises:
        ModelProblem: the CLIP is missing, altered or not what its card says.
    """
    names = [n for n in _SIGNALS if n in config.signals.image or n != models.CLIP]
    shelf = Shelf(config, None)
    return models.image_side({n: signals.OF_IMAGES[n](shelf) for n in names}, config, shelf)


def add(
    warehouse: Warehouse,
    name: str,
    given: Iterable[Given | Refused],
    *,
    measure: Side,
    max_bytes: int,
    run_id: str,
) -> Added:
    """Put the items of a benchmark into the registry, in one commit; what is there stays.

    Args:
        warehouse: gets the table, if it has none.
        name: of the benchmark: a-z, 0-9, `.`, `_`, `-`.
        given: its items. Held are their texts and digests, of images one batch at a time.
        measure: gives an image's `phash` and `clip_embedding`.
        max_bytes: of one image.
        run_id: names this act.

    Raises:
        ConfigError: the name cannot be one, or nothing was given.
    """
    _check_name(name)
    warehouse.create(benchmark_items.TABLE)
    model = measure.models.get("clip_model")
    outcome = Added()
    known = _known(warehouse, name)
    were_there = frozenset(known)
    fresh = _fresh(name, given, known, model, max_bytes, run_id, outcome)
    rows: list[_Row] = []
    for row in _measured(fresh, measure, model):
        if isinstance(row, Refused):
            outcome.refused.append(row)
        else:
            rows.append(row)
    if not (rows or outcome.known or outcome.refused):
        raise ConfigError(f"benchmark {name} got no items; give a table or folder that has some")
    outcome.refreshed = sum(row.item_id in were_there for row in rows)
    outcome.added = len(rows) - outcome.refreshed
    outcome.short = sum(row.text is not None and len(words(row.text)) < SHORT for row in rows)
    outcome.flat = sum(row.phash is not None and says_little(row.phash) for row in rows)
    if rows:
        _write(warehouse, rows)
    return outcome


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"benchmark got name {name}; allowed a-z, 0-9, '.', '_' and '-', a letter or digit"
            " first, at most 64"
        )


def _known(warehouse: Warehouse, name: str) -> _Known:
    rows = warehouse.read(benchmark_items.TABLE).where(F.col("benchmark") == name)
    rows = rows.select("item_id", "text_sha256", "media_sha256", "embedding_model")
    return {row[0]: (row[1], row[2], row[3]) for row in rows.collect()}


def _fresh(
    name: str,
    given: Iterable[Given | Refused],
    known: _Known,
    model: str | None,
    max_bytes: int,
    run_id: str,
    outcome: Added,
) -> Iterator[tuple[_Row, bytes | None] | Refused]:
    """Items that are to be written, each with its image; `known` and `outcome` are kept up."""
    now = datetime.now(UTC)
    for item in given:
        if isinstance(item, Refused):
            yield item
            continue
        try:
            content = _content(item.image, max_bytes)
        except OSError as error:
            yield Refused(item.item_id, f"its image cannot be read: {_said(error)}")
            continue
        text = item.text if item.text is not None and words(item.text) else None
        try:
            text_sha256 = None if text is None else _sha256(text.encode())
        except UnicodeEncodeError:
            yield Refused(item.item_id, "its text is not UTF-8")
            continue
        if text is None and content is None:
            yield Refused(item.item_id, "has neither words nor an image")
            continue
        media_sha256 = None if content is None else _sha256(content)
        new = (text_sha256, media_sha256, None if content is None else model)
        old = known.get(item.item_id)
        if old is not None and old[:2] != new[:2]:
            yield Refused(
                item.item_id,
                "is there with other content; give it another id, or remove the benchmark first",
            )
            continue
        if old is not None and (old == new or new[2] is None):
            outcome.known += 1
            continue
        known[item.item_id] = new
        yield _Row(name, item.item_id, text, text_sha256, media_sha256, now, run_id), content


def _content(image: Path | bytes | None, max_bytes: int) -> bytes | None:
    if isinstance(image, Path):
        with image.open("rb") as file:
            image = file.read(max_bytes + 1)
    if image is not None and len(image) > max_bytes:
        raise OSError(f"more than {max_bytes} bytes; raise ingest.max_member_bytes to take it")
    return image


def _said(error: OSError) -> str:
    return error.strerror or str(error)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _measured(
    fresh: Iterator[tuple[_Row, bytes | None] | Refused], measure: Side, model: str | None
) -> Iterator[_Row | Refused]:
    """The rows with what their images are known by; an image that gives no picture is refused."""
    waiting: deque[_Row] = deque()
    aside: deque[_Row | Refused] = deque()

    def images() -> Iterator[pa.RecordBatch]:
        while chunk := list(islice(fresh, _IMAGES)):
            contents = []
            for item in chunk:
                if isinstance(item, Refused):
                    aside.append(item)
                elif item[1] is None:
                    aside.append(item[0])
                else:
                    waiting.append(item[0])
                    contents.append(item[1])
            if contents:
                keys = [row.media_sha256 for row in list(waiting)[-len(contents) :]]
                yield pa.RecordBatch.from_pydict({"media_sha256": keys, "content": contents})

    for batch in measure.operator(images()):
        yield from _drained(aside)
        for signal in batch.to_pylist():
            row = waiting.popleft()
            if signal["status"] != error_classes.OK:
                yield Refused(row.item_id, f"{signal['status']}: {signal['detail']}")
                continue
            yield replace(
                row,
                phash=signal["phash"],
                embedding=signal["clip_embedding"],
                embedding_model=model,
            )
    yield from _drained(aside)


def _drained(aside: "deque[_Row | Refused]") -> Iterator[_Row | Refused]:
    while aside:
        yield aside.popleft()


def _write(warehouse: Warehouse, rows: Sequence[_Row]) -> None:
    spark = warehouse.spark
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=_SCHEMA)
    view = f"benchmark_items_{uuid.uuid4().hex}"
    spark.createDataFrame(table, benchmark_items.SCHEMA).createOrReplaceTempView(view)
    on = " AND ".join(f"old.{key} = new.{key}" for key in benchmark_items.KEY)
    try:
        # Insert and refresh are one commit: nobody meets half a benchmark.
        spark.sql(
            f"MERGE INTO {_table(warehouse)} AS old USING {view} AS new ON {on}"
            " WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        )
    finally:
        spark.catalog.dropTempView(view)


def _table(warehouse: Warehouse) -> str:
    path = warehouse.path(benchmark_items.TABLE).replace("`", "``")
    return f"delta.`{path}`"


def remove(warehouse: Warehouse, name: str) -> int:
    """Take a benchmark out of the registry; what samples met of it no longer counts.

    Returns:
        how many items it had.

    Raises:
        ConfigError: the name cannot be one.
        NotFound: there is no such benchmark.
    """
    _check_name(name)
    names = {str(row["benchmark"]): int(row["items"]) for row in listed(warehouse)}
    if name not in names:
        there = ", ".join(names) or "none"
        raise NotFound(f"no benchmark {name}; there are {there}; `sluice bench-items list`")
    warehouse.spark.sql(f"DELETE FROM {_table(warehouse)} WHERE benchmark = '{name}'")
    return names[name]


def listed(warehouse: Warehouse, model: str | None = None) -> list[dict[str, Any]]:
    """Each benchmark: its items, texts, images, and embeddings of the network `model`."""
    if not warehouse.exists(benchmark_items.TABLE):
        return []
    is_ours = F.col("embedding").isNotNull() & (F.col("embedding_model") == F.lit(model))
    rows = (
        warehouse.read(benchmark_items.TABLE)
        .groupBy("benchmark")
        .agg(
            F.count("*").alias("items"),
            F.count("text").alias("texts"),
            F.count("media_sha256").alias("images"),
            F.count_if(is_ours).alias("embeddings"),
            F.max("added_at").alias("added_at"),
        )
        .orderBy("benchmark")
    )
    return [row.asDict() for row in rows.collect()]


def version(warehouse: Warehouse) -> Version | None:
    """The registry as it is now; null where nothing is registered."""
    if not warehouse.exists(benchmark_items.TABLE):
        return None
    table_version = warehouse.version(benchmark_items.TABLE)
    if not table_version:  # version 0 only creates the table
        return None
    contents = ("benchmark", "item_id", "text_sha256", "media_sha256", "embedding_model")
    # JSON: a null column is left out, not run into its neighbour.
    named = F.sha2(F.to_json(F.struct(*contents)), 256)
    halves = [F.bit_xor(F.conv(F.substring(named, at, 15), 16, 10).cast("long")) for at in (1, 16)]
    rows = warehouse.read(benchmark_items.TABLE, table_version)
    (row,) = rows.agg(F.count("*"), *halves).collect()
    if not row[0]:
        return None
    name = digest(rules.VERSION, row[0], row[1], row[2])[:_VERSION_CHARS]
    return Version(name, table_version)


def load(warehouse: Warehouse, table_version: int, model: str | None) -> Registry:
    """The registry to be met: small, for the driver and every worker hold it.

    Args:
        warehouse: has the table.
        table_version: of `ops.benchmark_items`.
        model: sha256 of the network that gives the samples' embeddings; others are left out.
    """
    is_ours = F.col("embedding_model") == F.lit(model)
    rows = warehouse.read(benchmark_items.TABLE, table_version).select(
        "benchmark",
        "item_id",
        "text",
        "media_sha256",
        "phash",
        F.when(is_ours, F.col("embedding")).alias("embedding"),
    )
    batches = rows.toArrow().to_batches()
    return Registry.of(Item(**row) for batch in batches for row in batch.to_pylist())


def report(warehouse: Warehouse, model: str | None = None) -> list[Mapping[str, Any]]:
    """Each benchmark: its items, those that were met, the samples that met one, by method."""
    now = version(warehouse)
    totals = listed(warehouse, model)
    if now is None or not warehouse.exists(contamination.TABLE):
        return [{**total, "items_hit": 0, "samples_hit": 0} for total in totals]
    sample = F.col("sample_id")
    rows = (
        warehouse.read(contamination.TABLE)
        .where(F.col("registry") == now.digest)
        .groupBy("benchmark")
        .agg(
            F.count_distinct("item_id").alias("items_hit"),
            F.count_distinct(sample).alias("samples_hit"),
            *(
                F.count_distinct(F.when(F.col("method") == method, sample)).alias(method)
                for method in contamination.METHODS
            ),
        )
    )
    met = {row["benchmark"]: row.asDict() for row in rows.collect()}
    none = dict.fromkeys(("items_hit", "samples_hit", *contamination.METHODS), 0)
    return [{**total, **none, **met.get(total["benchmark"], {})} for total in totals]
