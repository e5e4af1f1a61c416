"""Rows of a table of signals that somebody chooses by an SQL condition."""

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.tables import Warehouse
from schemas import gold


def chosen(warehouse: Warehouse, table: str, signal_set: str, where: str | None) -> DataFrame:
    """The rows of a signal set that an SQL condition holds for; it may ask any table.

    Args:
        warehouse: holds the table.
        table: its name; it has a column `signal_set`.
        signal_set: whose rows.
        where: the condition; without it all rows.

    Raises:
        NotFound: the table is not there yet.
        ConfigError: Spark cannot make sense of the condition.
    """
    if not warehouse.exists(table):
        what = table.split(".")[1]
        raise NotFound(f"no {what} in {warehouse.root} yet; run `sluice run` first")
    found = warehouse.read(table).where(F.col("signal_set") == signal_set)
    if where is None:
        return found
    warehouse.register(where)
    try:
        return found.where(where)
    except (AnalysisException, ParseException) as error:
        said = str(error).split("\n\nJVM stacktrace")[0].split("\n")[0]
        raise ConfigError(
            f"--where got {where}; allowed an SQL condition on columns of {table}; {said}"
        ) from None


def published_unless(where: str | None, warehouse: Warehouse, recipe: str) -> str:
    """The condition on `silver.pairs` that somebody gave, else the one for what is published.

    Args:
        where: the condition; none was given.
        warehouse: holds the table of the recipe.
        recipe: its name.

    Raises:
        NotFound: no condition, and nothing is published yet.
    """
    if where is not None:
        return where
    table = gold.table(recipe)
    if not warehouse.exists(table):
        raise NotFound(f"no {table} yet; run `sluice run`, or choose rows with --where")
    return f"sample_id IN (SELECT sample_id FROM gold.`{recipe}`)"
