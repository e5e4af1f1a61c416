"""Review a few, label many: `silver.pairs` -> `ops.reviews`.

`start` chooses the rows to look at: representatives of what lies near them, and a uniform sample
of all that is to take their labels over. `apply` takes the labels of exactly those and propagates
them. `report` says how often the sample disagreed.

A row is never labelled twice in place: every change is a row of the next revision.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import themes
from jobs.runtime import streams
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.streams import Batch, Outcome
from jobs.runtime.tables import Warehouse, counted
from jobs.themes import Learnt, Shape
from schemas import batches, image_signals, pairs, reviews, samples
from schemas.reviews import AUDIT, MEMBER, REPRESENTATIVE, UNCOVERED, UNPLACED
from udfs.identity import digest
from udfs.propagation import AUDIT_SHARE, ErrorRate, audit_size, audited
from udfs.review_clusters import RADIUS, ROUNDING

NAME: Final = "review"
# Rows that a review stands for, where nobody says how many there may be. Chosen: 500 times fewer
# is what makes a person or a large model affordable; at least one sitting, at most a week.
ROWS_A_REVIEW: Final = 500
LEAST_REVIEWS: Final = 100
MOST_REVIEWS: Final = 2_000
# Times that representatives are learnt. Chosen: a theme too rare for a sample of all rows is not
# rare among those that the first ones leave; each time is two passes over the embeddings.
ROUNDS: Final = 3
MAX_LABEL_CHARS: Final = 100  # chosen: a label is a word or two
ASKED: Final = (REPRESENTATIVE, AUDIT)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a review is started with.

    Attributes:
        signal_set: of the pairs.
        where: SQL condition on `silver.pairs`; null: all.
        radius: least cosine to the row whose label is taken over, in (0, 1].
        clusters: of k-means; null: by the number of rows.
        max_reviews: most representatives; null: by the number of rows.
        audit_share: of the rows that take labels over, in [0, 1]; 0: no audit.
    """

    signal_set: str
    where: str | None = None
    radius: float = RADIUS
    clusters: int | None = None
    max_reviews: int | None = None
    audit_share: float = AUDIT_SHARE

    @property
    def text(self) -> str:
        """As the table keeps them."""
        return json.dumps(asdict(self), sort_keys=True)

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: which option, and what is allowed.
        """
        if not 0 < self.radius <= 1:
            raise ConfigError(f"--radius got {self.radius}; allowed above 0 up to 1; try {RADIUS}")
        if not 0 <= self.audit_share <= 1:
            raise ConfigError(
                f"--audit-share got {self.audit_share}; allowed 0 to 1; try {AUDIT_SHARE}"
            )
        for option, value in (("--clusters", self.clusters), ("--max-reviews", self.max_reviews)):
            if value is not None and value < 1:
                raise ConfigError(f"{option} got {value}; allowed 1 or more")


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a review stands.

    Attributes:
        rows: in the review.
        representatives: to be reviewed for others.
        audits: to be reviewed to check what was propagated.
        members: that take a label over, audits included.
        uncovered: near to no representative: they get no label.
        unplaced: without usable embeddings: they get no label.
        reviewed: representatives and audits that have their labels.
        labels: label -> rows that carry it.
        factor: rows that a representative stands for, itself included, on average.
        factor_with_audit: the same, a review being one of the audit too.
        error: of all propagated labels; null before there are labels.
        error_by_label: the same of each propagated label.
    """

    rows: int
    representatives: int
    audits: int
    members: int
    uncovered: int
    unplaced: int
    reviewed: int
    labels: Mapping[str, int]
    factor: float
    factor_with_audit: float
    error: ErrorRate | None
    error_by_label: Mapping[str, ErrorRate]


def reviews_for(rows: int) -> int:
    """Most representatives, where nobody says.

    >>> reviews_for(200_000), reviews_for(50), reviews_for(10**9)
    (400, 100, 2000)
    """
    return min(max(rows // ROWS_A_REVIEW, LEAST_REVIEWS), MOST_REVIEWS)


def start(
    warehouse: Warehouse, name: str, rows: DataFrame, settings: Settings, *, run_id: str
) -> bool:
    """Choose what is to be reviewed and say of every row what stands for it.

    Args:
        warehouse: where `ops.reviews` is.
        name: of the review.
        rows: columns of `jobs.themes.COLUMNS`.
        settings: which rows and how.
        run_id: of this run.

    Returns:
        Whether it is new; a review that was started with these settings is left as it is.

    Raises:
        ConfigError: no row can be placed, or the name is that of another review.
    """
    settings.check()
    warehouse.create(reviews.TABLE)
    with streams.exclusive(_folder(warehouse, name)):
        if _ledgered(warehouse, name):
            known = _settings(warehouse, name)
            if known != settings.text:
                raise ConfigError(
                    f"review {name} was started with {known}, not with {settings.text}; choose"
                    " another name"
                )
            return False
        batch = _batch(warehouse, name, 0, rows, run_id)
        streams.process(
            batch,
            lambda batch: _start(batch, name, settings),
            inputs=(pairs.TABLE,),
            outputs=(reviews.TABLE,),
        )
    return True


def _start(batch: Batch, name: str, settings: Settings) -> Outcome:
    if batch.has_appended(reviews.TABLE):
        # An attempt that was killed since; what it read may have moved on.
        written = batch.count_written(reviews.TABLE)
        return Outcome(rows_in=written, rows_kept=written)
    shape = themes.measured(batch.frame)
    most = settings.max_reviews or reviews_for(shape.rows)
    placed, learnt = cover(batch.frame, shape, settings, most=most)
    told = with_audit(
        roles(placed, learnt, radius=settings.radius), name=name, share=settings.audit_share
    ).withColumns(
        {
            "review": F.lit(name),
            "label": F.lit(None),
            "label_source": F.lit(None),
            "revision": F.lit(0),
            "settings": F.lit(settings.text),
        }
    )
    batch.append(batch.stamped(told, at="reviewed_at"), reviews.TABLE)
    return Outcome(rows_in=shape.rows, rows_kept=batch.count_written(reviews.TABLE))


def cover(
    rows: DataFrame, shape: Shape, settings: Settings, *, most: int
) -> tuple[DataFrame, Learnt]:
    """Representatives, and which of them each row is nearest to.

    They are learnt from a sample of all rows, then of what those leave uncovered, and so on.

    Args:
        rows: columns of `jobs.themes.COLUMNS`.
        shape: of the rows.
        settings: radius and clusters.
        most: largest number of representatives.

    Raises:
        ConfigError: no row can be placed.
    """
    left, count = rows, shape.rows
    learnt = themes.nothing(shape)
    for _ in range(ROUNDS):
        learnt = learnt.joined(
            themes.learn_representatives(
                left,
                replace(shape, rows=count),
                most=most - len(learnt.vectors),
                radius=settings.radius,
                clusters=settings.clusters,
            )
        )
        if not len(learnt.vectors):
            raise ConfigError(
                f"none of {shape.rows:,} pairs has usable embeddings of image and text; allowed"
                " finite ones that are not zero; score them again, or choose other pairs"
            )
        placed = themes.placed(rows, learnt, shape).localCheckpoint()
        is_seen = count <= themes.TRAINING_ROWS
        beyond = placed.where(F.col("cosine") < settings.radius - ROUNDING).select("sample_id")
        count = beyond.count()
        if not count or is_seen or len(learnt.vectors) >= most:
            break
        left = rows.join(beyond, "sample_id", "left_semi")
    return placed, learnt


def roles(placed: DataFrame, learnt: Learnt, *, radius: float) -> DataFrame:
    """`sample_id`, `role`, `representative_id` and `distance` of every row.

    Args:
        placed: columns of `jobs.themes.PLACED`.
        learnt: the representatives.
        radius: least cosine.
    """
    spark = placed.sparkSession
    names = spark.createDataFrame(
        list(enumerate(learnt.sample_ids)), "nearest int, nearest_id string"
    )
    own = names.select(F.col("nearest_id").alias("sample_id"), F.lit(True).alias("is_own"))
    is_own = F.col("is_own").isNotNull()
    role = (
        F.when(is_own, REPRESENTATIVE)
        .when(F.col("cosine").isNull(), UNPLACED)
        .when(F.col("cosine") >= radius - ROUNDING, MEMBER)
        .otherwise(UNCOVERED)
    )
    return (
        placed.join(F.broadcast(names), "nearest", "left")
        .join(F.broadcast(own), "sample_id", "left")
        .withColumn("role", role)
        .select(
            "sample_id",
            "role",
            F.when(is_own, F.col("sample_id"))
            .when(F.col("role") == MEMBER, F.col("nearest_id"))
            .alias("representative_id"),
            F.when(is_own, F.lit(0.0)).otherwise(1 - F.col("cosine")).alias("distance"),
        )
    )


def with_audit(rows: DataFrame, *, name: str, share: float) -> DataFrame:
    """Make a uniform sample of the members the audit, the same one every time.

    Args:
        rows: `sample_id`, `role` and more.
        name: of the review: another one draws other rows.
        share: of the members.
    """
    members = rows.where(F.col("role") == MEMBER)
    size = audit_size(members.count(), share=share)
    drawn = (
        members.orderBy(F.xxhash64(F.lit(f"audit of {name}"), "sample_id"), "sample_id")
        .limit(size)
        .select("sample_id", F.lit(True).alias("is_drawn"))
    )
    return (
        rows.join(F.broadcast(drawn), "sample_id", "left")
        .withColumn("role", F.when(F.col("is_drawn"), AUDIT).otherwise(F.col("role")))
        .drop("is_drawn")
    )


def current(warehouse: Warehouse, name: str) -> DataFrame:
    """The newest revision of each row of a review.

    Raises:
        NotFound: there is no such review.
    """
    if not warehouse.exists(reviews.TABLE) or not _ledgered(warehouse, name):
        raise NotFound(f"no review {name} in {warehouse.root}; `sluice review start` starts one")
    columns = [n for n in reviews.SCHEMA.names if n not in ("sample_id", *reviews.VOLATILE)]
    return (
        warehouse.read(reviews.TABLE)
        .where(F.col("review") == name)
        .groupBy("sample_id")
        .agg(F.max_by(F.struct(*columns), "revision").alias("newest"))
        .select("sample_id", "newest.*")
    )


def asked(warehouse: Warehouse, name: str) -> list[dict[str, object]]:
    """What is to be looked at, in an order that says nothing of what is which.

    A reviewer who knew a representative from an audited row could not be held against the other.

    Returns:
        `sample_id`, `caption`, `url`, `media_sha256`, `nsfw_score` and `label` of each.
    """
    rows = current(warehouse, name).where(F.col("role").isin(*ASKED)).select("sample_id", "label")
    items = warehouse.read(samples.TABLE).select("sample_id", "caption", "url", "media_sha256")
    found = items.join(F.broadcast(rows), "sample_id").localCheckpoint()
    media = found.select("media_sha256").distinct()
    unsafe = (
        warehouse.read(image_signals.TABLE)
        .join(F.broadcast(media), "media_sha256", "left_semi")
        .groupBy("media_sha256")
        .agg(F.max("nsfw_score").alias("nsfw_score"))
    )
    ordered = found.join(F.broadcast(unsafe), "media_sha256", "left").orderBy(
        F.xxhash64(F.lit(name), "sample_id"), "sample_id"
    )
    return [row.asDict() for row in ordered.collect()]


def apply(warehouse: Warehouse, name: str, labels: Mapping[str, str], *, run_id: str) -> int:
    """Take the labels of everything that was asked, and give them to what lies near.

    Args:
        warehouse: where `ops.reviews` is.
        name: of the review.
        labels: sample id -> label, of each row that was asked and of no other.
        run_id: of this run.

    Returns:
        Rows whose label changed; each has a row of the next revision.

    Raises:
        NotFound: there is no such review.
        ConfigError: a label is missing, or is of a row that nobody asked about.
    """
    with streams.exclusive(_folder(warehouse, name)):
        now = current(warehouse, name)
        wanted = now.where(F.col("role").isin(*ASKED)).select("sample_id").collect()
        check_labels(labels, {row["sample_id"] for row in wanted})
        revision = _ledgered(warehouse, name)
        batch = _batch(warehouse, name, revision, now, run_id)
        if batch.has_appended(reviews.TABLE):
            # The labels of an attempt that was killed before its ledger row.
            streams.process(batch, _written, inputs=(), outputs=(reviews.TABLE,))
            revision += 1
        given = warehouse.spark.createDataFrame(
            list(labels.items()), "sample_id string, given string"
        )
        changed = relabelled(now, given).withColumn("revision", F.lit(revision)).localCheckpoint()
        if changed.isEmpty():
            return 0
        batch = _batch(warehouse, name, revision, changed, run_id)
        streams.process(batch, _apply, inputs=(), outputs=(reviews.TABLE,))
        return changed.count()


def _apply(batch: Batch) -> Outcome:
    batch.append(batch.stamped(batch.frame, at="reviewed_at"), reviews.TABLE)
    return Outcome(rows_in=batch.frame.count(), rows_kept=batch.count_written(reviews.TABLE))


def _written(batch: Batch) -> Outcome:
    written = batch.count_written(reviews.TABLE)
    return Outcome(rows_in=written, rows_kept=written)


def check_labels(labels: Mapping[str, str], wanted: set[str]) -> None:
    """Refuse labels that are not exactly those that were asked for.

    Raises:
        ConfigError: how many are wrong in which way, with some of them.

    >>> check_labels({"a": "good"}, {"a"})
    """
    unknown = sorted(set(labels) - wanted)
    if unknown:
        raise ConfigError(
            f"{len(unknown):,} labels are of rows that were not asked, {_some(unknown)}; allowed"
            " the ids of the review's own list; remove the others"
        )
    missing = sorted(key for key in wanted if not labels.get(key, "").strip())
    if missing:
        raise ConfigError(
            f"{len(missing):,} of {len(wanted):,} rows have no label, {_some(missing)}; all need"
            " one; label them"
        )
    long = sorted(key for key, label in labels.items() if len(label) > MAX_LABEL_CHARS)
    if long:
        raise ConfigError(
            f"{len(long):,} labels are longer than {MAX_LABEL_CHARS} characters, {_some(long)};"
            " shorten them"
        )


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def relabelled(rows: DataFrame, given: DataFrame) -> DataFrame:
    """The rows whose label changes, with their new ones.

    What was reviewed keeps its own label, an audited row too; a member has that of its
    representative.

    Args:
        rows: columns of `ops.reviews`, each sample once.
        given: `sample_id`, `given`: labels of what was asked.
    """
    taken = given.select(
        F.col("sample_id").alias("representative_id"), F.col("given").alias("taken")
    )
    is_member = F.col("role") == MEMBER
    label = F.when(F.col("role").isin(*ASKED), F.col("given")).when(is_member, F.col("taken"))
    source = F.when(F.col("role").isin(*ASKED), reviews.REVIEWED).when(
        is_member, reviews.PROPAGATED
    )
    return (
        rows.join(F.broadcast(given), "sample_id", "left")
        .join(F.broadcast(taken), "representative_id", "left")
        .withColumns({"new": label, "new_source": F.when(label.isNotNull(), source)})
        .where(~F.col("new").eqNullSafe(F.col("label")))
        .withColumns({"label": F.col("new"), "label_source": F.col("new_source")})
        .drop("given", "taken", "new", "new_source")
    )


def report(warehouse: Warehouse, name: str) -> Report:
    """Count a review, and estimate how many of its propagated labels are wrong.

    Raises:
        NotFound: there is no such review.
    """
    rows = current(warehouse, name).localCheckpoint()
    met = counted(
        rows,
        all=F.lit(True),
        **{role: F.col("role") == role for role in reviews.ROLES},
        reviewed=F.col("label_source") == reviews.REVIEWED,
    )
    labels = Counter(
        {row["label"]: row["count"] for row in rows.groupBy("label").count().collect()}
    )
    labels.pop(None, None)
    covered = met[REPRESENTATIVE] + met[MEMBER] + met[AUDIT]
    whole, by_label = audited(_checked(rows))
    return Report(
        rows=met["all"],
        representatives=met[REPRESENTATIVE],
        audits=met[AUDIT],
        members=met[MEMBER] + met[AUDIT],
        uncovered=met[UNCOVERED],
        unplaced=met[UNPLACED],
        reviewed=met["reviewed"],
        labels=dict(sorted(labels.items())),
        factor=covered / met[REPRESENTATIVE],
        factor_with_audit=covered / (met[REPRESENTATIVE] + met[AUDIT]),
        error=whole if met["reviewed"] else None,
        error_by_label=by_label,
    )


def _checked(rows: DataFrame) -> list[tuple[str, str]]:
    """What each audited row would have taken over, and what it was found to be."""
    reviewed = rows.where(F.col("label_source") == reviews.REVIEWED)
    found = reviewed.select("sample_id", "role", "representative_id", "label").collect()
    labels = {row["sample_id"]: row["label"] for row in found if row["role"] == REPRESENTATIVE}
    return [
        (labels[row["representative_id"]], row["label"]) for row in found if row["role"] == AUDIT
    ]


def _folder(warehouse: Warehouse, name: str) -> str:
    return f"{warehouse.root}/_checkpoints/{NAME}/{name}"


def _ledgered(warehouse: Warehouse, name: str) -> int:
    """Batches of the review that are done: its start, and every change of labels."""
    ledger = warehouse.read(batches.TABLE)
    return ledger.where((F.col("stage") == NAME) & (F.col("checkpoint") == name)).count()


def _settings(warehouse: Warehouse, name: str) -> str:
    of_review = warehouse.read(reviews.TABLE).where(F.col("review") == name)
    row = of_review.select("settings").first()
    return str(row["settings"]) if row else ""


def _batch(warehouse: Warehouse, name: str, batch_id: int, frame: DataFrame, run_id: str) -> Batch:
    return Batch(
        warehouse=warehouse,
        stage=NAME,
        checkpoint=name,
        generation=digest(NAME, name),
        batch_id=batch_id,
        run_id=run_id,
        frame=frame,
    )


def percent(rate: ErrorRate) -> str:
    """A rate as people read it.

    >>> from udfs.propagation import error_rate
    >>> percent(error_rate(0, 60))
    '0 of 60 wrong: 0.00 %, 95 % interval 0.00 to 5.96 %'
    """
    share = "unknown" if math.isnan(rate.rate) else f"{100 * rate.rate:.2f} %"
    return (
        f"{rate.errors:,} of {rate.checked:,} wrong: {share}, 95 % interval"
        f" {100 * rate.low:.2f} to {100 * rate.high:.2f} %"
    )
