"""What the two score stages share: every distinct key is scored once by a signal set.

A signal set is complete: a row has the values of all its signals. Of those that an earlier set
has computed by the same version, for the same key, the values are taken over, so that a new
signal, or a new model for one, costs that signal alone.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Final

from pyspark.resource import ResourceProfile
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.runtime.held import held
from jobs.runtime.models import Operator, Side
from jobs.runtime.streams import Batch, Outcome
from jobs.runtime.tables import belonging, contract, counted
from schemas import error_classes, signal_sets

# Rows of a batch, an operator, what its tasks ask Spark for -> its rows of signals.
Score = Callable[[DataFrame, Operator, ResourceProfile | None], DataFrame]
# Signal set -> names of ours that it has too.
Shared = Mapping[str, Sequence[str]]
_LACKING: Final = "lacking"


def score_once(batch: Batch, side: Side, score: Score) -> Outcome:
    """Score the keys of a batch that the signal set has not met yet.

    Args:
        batch: its frame holds the side's key and what `score` asks for.
        side: the signals, and the table that gets a row for every key that has none.
        score: runs an operator over rows of the batch's frame, each key once.
    """

    def known() -> DataFrame:
        return batch.warehouse.read(side.table).where(F.col("signal_set") == side.signal_set)

    keys = held(batch.frame.dropDuplicates([side.key]))
    done = belonging(known(), keys.frame, side.key).select(side.key)
    unknown = held(keys.frame.join(F.broadcast(done), side.key, "left_anti"))
    if unknown.rows:
        shared = _shared(batch, side)
        rows = scored(side, unknown.frame, batch.warehouse.read(side.table), shared, score)
        rows = rows.withColumns(side.stamp())
        batch.append(batch.stamped(rows, at="scored_at"), side.table)
    return _outcome(batch, keys.rows, belonging(known(), keys.frame, side.key))


def _shared(batch: Batch, side: Side) -> Shared:
    """Earlier sets that can be taken from; enters our own set where it is not described yet."""
    described: dict[str, list[str]] = {}
    versions = {name: side.version(name) for name in side.signals}
    rows = batch.warehouse.read(signal_sets.TABLE).where(F.col("table") == side.table)
    for row in rows.select("signal_set", "signal", "version").distinct().collect():
        names = described.setdefault(row.signal_set, [])
        if versions.get(row.signal) == row.version:
            names.append(row.signal)
    if side.signal_set not in described:
        _describe(batch, side)
    return {
        name: sorted(names)
        for name, names in described.items()
        if names and name != side.signal_set
    }


def _describe(batch: Batch, side: Side) -> None:
    signals = {name: (side.version(name), signal.columns) for name, signal in side.signals.items()}
    enter(batch, side.signal_set, side.table, signals)


def enter(
    batch: Batch, signal_set: str, table: str, signals: Mapping[str, tuple[str, Sequence[str]]]
) -> None:
    """Describe a signal set in `ops.signal_sets`.

    Args:
        batch: the first that computes the set.
        signal_set: its name.
        table: where its values are.
        signals: name of a signal -> its version, and the columns that it fills.
    """
    rows = [
        {
            "signal_set": signal_set,
            "table": table,
            "signal": name,
            "version": version,
            "columns": list(columns),
        }
        for name, (version, columns) in signals.items()
    ]
    described = batch.warehouse.local(rows, signal_sets.SCHEMA)
    batch.append(batch.stamped(described, at="described_at"), signal_sets.TABLE)


def scored(
    side: Side, todo: DataFrame, stored: DataFrame, shared: Shared, score: Score
) -> DataFrame:
    """Rows of the set: each signal taken over where it can be, else computed.

    Args:
        side: the signals.
        todo: the keys, each once, with what `score` asks for.
        stored: rows of the side's table, of all sets.
        shared: earlier sets that can be taken from.
        score: runs an operator over rows of `todo`.

    Returns:
        what the operator emits, and `computed`: the names of the signals that ran for the row.
    """
    everything = tuple(side.signals)
    if not shared:
        return _computed(side, todo, everything, score)
    is_donor = F.col("signal_set").isin(*shared) & (F.col("status") == error_classes.OK)
    donors = belonging(stored.where(is_donor), todo, side.key)
    met = donors.groupBy(side.key).agg(F.collect_set("signal_set").alias("sets"))
    divided = (
        todo.join(met, side.key, "left")
        .withColumn(_LACKING, _lacking(everything, shared))
        .localCheckpoint()
    )
    # As many as there are combinations of earlier sets: few.
    combinations = [
        tuple(row[_LACKING])
        for row in divided.select(_LACKING).distinct().orderBy(_LACKING).collect()
    ]
    rows = []
    for lacking in combinations:
        some = divided.where(F.col(_LACKING) == _names(lacking)).drop(_LACKING, "sets")
        if lacking == everything:
            rows.append(_computed(side, some, everything, score))
        else:
            taken = _taken(side, belonging(donors, some, side.key), shared)
            rows.append(_completed(side, some, lacking, taken, score))
    return reduce(DataFrame.unionByName, rows)


def _lacking(names: Sequence[str], shared: Shared) -> Column:
    """Names of the signals that none of a key's earlier rows has."""
    lacking = []
    for name in names:
        having = _names([set_name for set_name, theirs in shared.items() if name in theirs])
        has = F.coalesce(F.arrays_overlap("sets", having), F.lit(False))
        lacking.append(F.when(~has, F.lit(name)))
    return F.array_compact(F.array(*lacking))


def _names(names: Sequence[str]) -> Column:
    return F.array(*(F.lit(name) for name in names)).cast("array<string>")


def _taken(side: Side, donors: DataFrame, shared: Shared) -> DataFrame:
    """What a key's earlier rows hold of our signals, and of the facts."""
    of_columns = {
        column: [set_name for set_name, theirs in shared.items() if name in theirs]
        for name, signal in side.signals.items()
        for column in signal.columns
    }
    of_columns |= {column: list(shared) for column in side.facts}
    return donors.groupBy(side.key).agg(
        *(
            F.first(F.when(F.col("signal_set").isin(*sets), F.col(column)), ignorenulls=True).alias(
                column
            )
            for column, sets in of_columns.items()
            if sets
        )
    )


def _computed(side: Side, todo: DataFrame, names: Sequence[str], score: Score) -> DataFrame:
    """Signals that need no earlier row."""
    seen = [name for name in names if name not in side.derived]
    rows = score(todo, side.operator_of(seen), side.asks(seen))
    return _derived(side, rows, names).withColumn("computed", _names(names))


def _completed(
    side: Side, todo: DataFrame, lacking: Sequence[str], taken: DataFrame, score: Score
) -> DataFrame:
    """What is lacking computed, the rest taken over; a row that is refused now has nothing."""
    seen = [name for name in lacking if name not in side.derived]
    fresh = {column for name in seen for column in side.signals[name].columns}
    emitted = [f.name for f in contract(side.table).SIGNALS]
    theirs = [column for column in taken.columns if column != side.key]
    renamed = taken.select(side.key, *(F.col(column).alias(f"_{column}") for column in theirs))
    if seen:
        rows = score(todo, side.operator_of(seen), side.asks(seen))
        rows = rows.join(renamed, side.key, "left")
    else:
        nothing = {column: F.lit(None) for column in emitted if column != side.key}
        rows = todo.select(side.key).join(renamed, side.key).withColumns(nothing)
        rows = rows.withColumn("status", F.lit(error_classes.OK))
    is_ok = F.col("status") == error_classes.OK
    kept = {
        column: F.when(is_ok, F.coalesce(column, f"_{column}"))
        for column in theirs
        if column not in fresh
    }
    types = {f.name: f.dataType for f in contract(side.table).SIGNALS}
    rows = rows.withColumns(kept).select(*(F.col(c).cast(types[c]) for c in emitted))
    return _derived(side, rows, lacking).withColumn("computed", _names(lacking))


def _derived(side: Side, rows: DataFrame, names: Sequence[str]) -> DataFrame:
    derived = [name for name in names if name in side.derived]
    if not derived:
        return rows
    schema = contract(side.table).SIGNALS
    return rows.mapInArrow(side.deriving(derived), schema, profile=side.asks(derived))


def _outcome(batch: Batch, rows_in: int, signals: DataFrame) -> Outcome:
    """Count what became of the keys from their signals, whoever wrote them."""
    is_ok = F.col("status") == error_classes.OK
    is_old = (F.col("batch") != batch.name) | (F.size("computed") == 0)
    counts = counted(
        signals,
        rows_kept=is_ok,
        rows_quarantined=~is_ok,
        rows_reused=is_ok & is_old,
    )
    return Outcome(rows_in=rows_in, **counts)
