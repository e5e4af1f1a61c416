"""Find duplicates of new pairs among all history: `silver.pairs` -> `silver.duplicates`."""

from typing import Final

from jobs.dedup import schemes, verdicts
from jobs.dedup.verdicts import Judged
from jobs.runtime.config import Dedup
from jobs.runtime.streams import Stage
from schemas import pairs, samples

NAME: Final = "dedup"
VERSION: Final = 2


def judged(settings: Dedup) -> Judged:
    """What is judged, and by which kinds."""
    return Judged(
        stage=NAME,
        version=VERSION,
        source=pairs.TABLE,
        columns=("sample_id", "ingest_ordinal", "media_sha256", "text_sha256"),
        named=samples.TABLE,
        details=("url", "caption", "dump"),
        kinds=settings.kinds,
        keep=settings.keep,
        rules=schemes.of_samples(settings),
        settings=settings,
    )


def stage(settings: Dedup) -> Stage:
    """The stage by the kinds of samples."""
    return verdicts.stage(judged(settings))
