"""By which rules an index was built: kept as properties of its table, and held to."""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import reduce
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.runtime.config import Dedup
from jobs.runtime.errors import ConfigError
from jobs.runtime.tables import Warehouse
from schemas import (
    clip_index,
    crop_index,
    exact_index,
    minhash_index,
    page_index,
    phash_index,
    semantic_index,
)
from schemas.duplicate_kinds import BOILERPLATE, CROP, MINHASH, PHASH, SEMANTIC, VIDEO
from udfs import canonical_url, clip_hashes, clip_match, crop_match, normalised_text
from udfs.minhash import Scheme, optimal_bands
from udfs.shingles import Shingling

PREFIX: Final = "sluice."
LEARNED: Final = "learned."  # rules that no setting says, but the first batch
# Of the index that every search has: name of a kind -> when it was begun anew.
_BEGUN: Final = "begun."
KEEP: Final = "sluice.dedup.keep"


# Table -> property -> value.
Rules = Mapping[str, Mapping[str, str]]


def of_samples(settings: Dedup) -> Rules:
    """What the indexes of the kinds of samples must say."""
    said = {exact_index.TABLE: _of_contents(settings)}
    if PHASH in settings.kinds:
        radius = {"sluice.phash.radius": str(settings.phash.radius)}
        # Not said where it is off: as it was before there was a choice.
        mirrored = {"sluice.phash.mirrored": "yes"} if settings.phash.mirrored else {}
        said[phash_index.TABLE] = {KEEP: settings.keep, **radius, **mirrored}
    if CROP in settings.kinds:
        said[crop_index.TABLE] = {
            KEEP: settings.keep,
            "sluice.crop.radius": str(settings.crop.radius),
            "sluice.crop.match": crop_match.VERSION,
        }
    if MINHASH in settings.kinds:
        said[minhash_index.TABLE] = {KEEP: settings.keep, **minhash(settings).properties()}
    if SEMANTIC in settings.kinds:
        threshold = {"sluice.semantic.threshold": str(settings.semantic.threshold)}
        said[semantic_index.TABLE] = {KEEP: settings.keep, **threshold}
    if BOILERPLATE in settings.kinds:
        said[page_index.TABLE] = {
            "sluice.boilerplate.max_pages": str(settings.boilerplate.max_pages),
            "sluice.boilerplate.pages": canonical_url.VERSION,
        }
    return said


def of_clips(settings: Dedup, sample_fps: float) -> Rules:
    """What the indexes of the kinds of clips must say.

    Args:
        settings: the kinds, and the threshold.
        sample_fps: frames a second of which clips have hashes: by their number lengths are
            compared.
    """
    said = {exact_index.TABLE: _of_contents(settings)}
    if VIDEO in settings.clip_kinds:
        said[clip_index.TABLE] = {
            "sluice.video.threshold": str(settings.video.threshold),
            "sluice.video.sample_fps": str(sample_fps),
            "sluice.video.hashes": f"{clip_hashes.VERSION} within {clip_hashes.RADIUS}",
            "sluice.video.match": clip_match.VERSION,
        }
    return said


def _of_contents(settings: Dedup) -> dict[str, str]:
    """Both samples and clips have their contents in the one index."""
    # Not said of all: as it was before there was a choice.
    scope = {"sluice.dedup.text_scope": settings.text_scope} if settings.is_by_dump else {}
    return {KEEP: settings.keep, "sluice.dedup.text": normalised_text.VERSION, **scope}


def minhash(settings: Dedup) -> Scheme:
    """The scheme of the settings' MinHash."""
    asked = settings.minhash
    bands, rows = optimal_bands(asked.threshold, asked.num_perm)
    return Scheme(
        shingling=Shingling(unit=asked.unit, size=asked.shingle),
        permutations=asked.permutations,
        num_perm=asked.num_perm,
        seed=asked.seed,
        threshold=asked.threshold,
        bands=bands,
        rows=rows,
    )


def label(rules: Rules) -> str:
    """The rules as one text, for names that must differ where they do."""
    return json.dumps(rules, sort_keys=True)


def hold(warehouse: Warehouse, rules: Rules) -> None:
    """Write the rules to those that have none, refuse one built by others.

    Raises:
        ConfigError: which rule, what the index was built with, what the configuration says.
    """
    for table, said in rules.items():
        hold_to(warehouse, table, said, PREFIX)


def hold_to(warehouse: Warehouse, table: str, said: Mapping[str, str], prefix: str) -> None:
    """Write rules to an index that has none, refuse one built by others.

    Args:
        warehouse: holds the index.
        table: the index.
        said: property -> value, all of the prefix that the table may have.
        prefix: of the properties.

    Raises:
        ConfigError: which rule, what the index was built with, what it should be.
    """
    properties = warehouse.properties(table)
    known = {name: properties[name] for name in properties if name.startswith(prefix)}
    if not known:
        warehouse.set_properties(table, said)
        return
    for name in sorted({*known, *said}):
        if known.get(name) != said.get(name):
            raise ConfigError(
                f"dedup got {name.removeprefix(prefix)} {said.get(name)}; {table} was built"
                f" with {known.get(name)}; set it back, or have duplicates found anew:"
                " `sluice duplicates rebuild`"
            )


def forget(warehouse: Warehouse, table: str) -> None:
    """Take the rules off an index; the next batch writes its own to it."""
    properties = warehouse.properties(table)
    rules = [name for name in properties if name.startswith((PREFIX, LEARNED))]
    warehouse.unset_properties(table, rules)


def begin(warehouse: Warehouse, kinds: Collection[str], at: datetime) -> None:
    """From now on verdicts of these kinds count if they are later than this."""
    said = {f"{_BEGUN}{kind}": at.isoformat() for kind in kinds}
    warehouse.set_properties(exact_index.TABLE, said)


def is_of_before(warehouse: Warehouse) -> Column | None:
    """Whether a verdict is older than its kind's search; none where no search was begun anew."""
    begun = {
        name.removeprefix(_BEGUN): datetime.fromisoformat(said)
        for name, said in warehouse.properties(exact_index.TABLE).items()
        if name.startswith(_BEGUN)
    }
    if not begun:
        return None
    return reduce(
        Column.__or__,
        ((F.col("kind") == kind) & (F.col("decided_at") <= at) for kind, at in begun.items()),
    )
