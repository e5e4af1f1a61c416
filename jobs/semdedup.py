"""Score near copies among chosen pairs by SemDeDup's rule -> `gold.semdedup_<name>`.

Embeddings of images are assigned to cells and compared there by exact cosine. What is stored is
each row's greatest cosine to one that ranks before it, so that another eps is a query. A row has
two cells, where SemDeDup has one: the order is one for all cells (`udfs.semdedup.ranking`), or two
copies could go for each other.

Embeddings stay where they are: they are read by the pass that assigns them, and once more by the
tasks that compare them. To the driver come the centroids alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs import themes
from jobs.dedup.semantic import SAMPLE
from jobs.refilled import refill
from jobs.runtime.errors import ConfigError
from jobs.runtime.held import computed
from jobs.runtime.tables import Warehouse
from schemas import image_signals, semdedup
from udfs.centroids import ASSIGNMENTS, Centroids, centroids_for, nearest, readable, train
from udfs.embedding import unpack
from udfs.semdedup import KEEPS, Keep, nearest_earlier, ranking

NAME: Final = "semdedup"
COLUMNS: Final = ("sample_id", "clip_score", "embedding")
# Of the eps by which SemDeDup halved LAION-440M, 0.06 to 0.07, the one that removes fewer.
EPS: Final = 0.06

_CELLS: Final = pa.list_(pa.int32())
_PLACED: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("clip_score", pa.float32()),
        ("cells", _CELLS),  # the nearest first; null: no usable embedding
        ("cosine", pa.float32()),  # to the centroid of the first
    ]
)
_COMPARED: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("rank", pa.int32()),  # null: another cell is nearer
        ("most_similar", pa.float32()),
        ("nearest_id", pa.string()),
    ]
)
_Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """By what near copies are scored.

    Attributes:
        signal_set: of the pairs.
        where: SQL condition on `silver.pairs`; null: all.
        keep: which of those that are alike stays. `far`: the farthest from the centroid of its
            cell; `middle`: nearest to the median of its cell; `best-score`: of the highest
            `clip_score`; `first`: of the least id.
        eps: a row goes where 1 - eps is below its cosine to one that ranks before it.
        clusters: of k-means; null: by the number of rows.
    """

    signal_set: str
    where: str | None = None
    keep: Keep = "far"
    eps: float = EPS
    clusters: int | None = None

    @property
    def text(self) -> str:
        """As the table keeps them."""
        return json.dumps(asdict(self), sort_keys=True)

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: which option, and what is allowed.
        """
        if self.keep not in KEEPS:
            raise ConfigError(f"--keep got {self.keep}; allowed {', '.join(KEEPS)}")
        if not 0 < self.eps < 1:
            raise ConfigError(f"--eps got {self.eps:g}; allowed above 0 and below 1; e.g. {EPS:g}")
        if self.clusters is not None and self.clusters < 1:
            raise ConfigError(f"--clusters got {self.clusters}; allowed 1 or more")


def with_embeddings(warehouse: Warehouse, chosen: DataFrame) -> DataFrame:
    """`COLUMNS` of some rows of `silver.pairs`; null where there is no embedding.

    Args:
        warehouse: holds the signals.
        chosen: rows of `silver.pairs` of one signal set.
    """
    images = warehouse.read(image_signals.TABLE).select(
        "media_sha256",
        F.col("signal_set").alias("image_signal_set"),
        F.col("clip_embedding").alias("embedding"),
    )
    return chosen.join(images, ["media_sha256", "image_signal_set"], "left").select(*COLUMNS)


def run(
    warehouse: Warehouse, name: str, rows: DataFrame, settings: Settings, *, run_id: str
) -> bool:
    """Bring `gold.semdedup_<name>` to what the settings say of the rows, in one commit.

    Args:
        warehouse: where the table is.
        name: of the table.
        rows: `COLUMNS`.
        settings: how they are compared.
        run_id: of this run.

    Returns:
        Whether anything changed.

    Raises:
        ConfigError: a setting cannot be meant, there are no rows, or none has an embedding.
    """
    settings.check()
    return refill(
        warehouse,
        semdedup.table(name),
        lambda: scored(rows, learnt(rows, settings.clusters), settings),
        stage=NAME,
        name=name,
        run_id=run_id,
    )


def learnt(rows: DataFrame, clusters: int | None) -> Centroids:
    """Centroids of a bounded sample of the rows, found in one task.

    Args:
        rows: `COLUMNS`.
        clusters: how many; null: by the number of rows. No more than the sample supports.

    Raises:
        ConfigError: there are no rows, or none has a usable embedding.
    """
    size = F.octet_length("embedding")
    # The length that most have: a broken one costs itself.
    (counted,) = rows.agg(
        F.count("*").alias("rows"),
        F.mode(F.when(size > 0, size), deterministic=True).alias("bytes"),
    ).collect()
    if not counted["rows"]:
        raise ConfigError(
            "0 pairs were chosen; allowed 1 or more; widen --where or run `sluice run`"
        )
    k = centroids_for(counted["rows"]) if clusters is None else clusters
    learn = _learning((counted["bytes"] or 2) // 2, k)
    sample = themes.sampled(rows.select("sample_id", "embedding"), counted["rows"], SAMPLE)
    found = sample.repartition(1).mapInArrow(learn, "centroids binary").collect()
    if not found:
        raise ConfigError(
            f"none of {counted['rows']:,} pairs has a usable embedding of its image; add"
            " clip_embedding to the signals, or choose other pairs"
        )
    return Centroids.from_bytes(bytes(found[0]["centroids"]))


def scored(rows: DataFrame, centroids: Centroids, settings: Settings) -> DataFrame:
    """Rows of `gold.semdedup_<name>`, but for when and by which run they were published.

    Every row is there: one without a usable embedding is like no other, and kept.

    Args:
        rows: `COLUMNS`, distinct by `sample_id`.
        centroids: of the cells.
        settings: how they are compared.
    """
    placed = computed(_placed(rows, centroids))
    usable = placed.where("cells IS NOT NULL").withColumn("cell", F.col("cells")[0])
    # Of two in the middle the lesser, as `percentile_disc` has it.
    medians = usable.groupBy("cell").agg(
        F.expr("percentile_disc(0.5) WITHIN GROUP (ORDER BY cosine)").cast("float").alias("median")
    )
    met = (
        usable.join(F.broadcast(medians), "cell")
        .join(rows.select("sample_id", "embedding"), "sample_id")
        .withColumn("met", F.explode("cells"))
    )
    compared = met.groupBy("met").applyInArrow(
        _comparing(settings.keep), from_arrow_schema(_COMPARED)
    )
    found = compared.groupBy("sample_id").agg(
        F.max("rank").alias("rank"),
        F.max(F.struct("most_similar", "nearest_id")).alias("nearest"),
    )
    is_near = F.col("most_similar") > F.lit(1 - settings.eps)
    return (
        placed.select("sample_id", F.col("cells")[0].alias("cell"))
        .join(found, "sample_id", "left")
        .select("sample_id", "cell", "rank", "nearest.*")
        .withColumns(
            {
                "is_kept": ~F.coalesce(is_near, F.lit(False)),
                "settings": F.lit(settings.text),
            }
        )
    )


def _learning(dimension: int, k: int) -> Callable[[_Batches], Iterator[pa.RecordBatch]]:
    def learn(batches: _Batches) -> Iterator[pa.RecordBatch]:
        sample_ids: list[str] = []
        vectors = [np.empty((0, dimension), np.float32)]
        for batch in batches:
            usable, is_usable = readable(batch["embedding"].to_pylist(), dimension)
            vectors.append(usable)
            sample_ids += batch["sample_id"].filter(pa.array(is_usable)).to_pylist()
        if not sample_ids:
            return
        # By their ids, so that what is learnt does not depend on how they came.
        order = sorted(range(len(sample_ids)), key=sample_ids.__getitem__)
        content = train(np.concatenate(vectors)[order], k).to_bytes()
        yield pa.RecordBatch.from_pydict({"centroids": pa.array([content], pa.binary())})

    return learn


def _placed(rows: DataFrame, centroids: Centroids) -> DataFrame:
    def place(batches: _Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            vectors, is_usable = readable(batch["embedding"].to_pylist(), centroids.dimension)
            cells, cosines = nearest(vectors, centroids, ASSIGNMENTS)
            of_usable = pa.array(np.cumsum(is_usable) - 1, mask=~is_usable)
            found = pa.FixedSizeListArray.from_arrays(cells.ravel(), cells.shape[1])
            yield pa.RecordBatch.from_arrays(
                [
                    batch["sample_id"],
                    batch["clip_score"],
                    found.cast(_CELLS).take(of_usable),
                    pa.array(cosines[:, 0]).take(of_usable),
                ],
                schema=_PLACED,
            )

    return rows.select(*COLUMNS).mapInArrow(place, from_arrow_schema(_PLACED))


def _comparing(keep: Keep) -> Callable[[pa.Table], pa.Table]:
    def compare(rows: pa.Table) -> pa.Table:
        score = pc.fill_null(rows["clip_score"], np.nan).to_numpy()
        node = pc.rank(rows["sample_id"]).to_numpy()
        order = ranking(keep, node, rows["cosine"].to_numpy(), rows["median"].to_numpy(), score)
        rows = rows.take(order)
        vectors = unpack(rows["embedding"].to_pylist())
        most_similar, position = nearest_earlier(vectors)
        is_own = pc.equal(rows["cell"], rows["met"]).to_numpy()
        sample_ids = rows["sample_id"].combine_chunks()
        return pa.table(
            [
                sample_ids,
                pa.array(np.cumsum(is_own).astype(np.int32), mask=~is_own),
                most_similar,
                sample_ids.take(pa.array(position, mask=position < 0)),
            ],
            schema=_COMPARED,
        )

    return compare
