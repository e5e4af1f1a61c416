"""Find duplicates of new clips among all history: `silver.clip_pairs` -> `silver.duplicates`.

Clips are told apart from samples by their kinds and by their ordinals. The first of a cluster
stands for it, whatever `dedup.keep` says: that is a signal of images or texts.
"""

from typing import Final

from jobs.dedup import schemes, verdicts
from jobs.dedup.scores import FIRST
from jobs.dedup.verdicts import Judged
from jobs.runtime.config import Dedup
from jobs.runtime.streams import Stage
from schemas import clip_pairs

NAME: Final = "dedup_clips"
VERSION: Final = 1


def judged(settings: Dedup, sample_fps: float) -> Judged:
    """What is judged, and by which kinds.

    Args:
        settings: the kinds, and how clips are compared.
        sample_fps: frames a second of which clips have hashes.
    """
    return Judged(
        stage=NAME,
        version=VERSION,
        source=clip_pairs.TABLE,
        columns=("sample_id", "ingest_ordinal", "media_sha256", "clip_id", "clip_signal_set"),
        named=clip_pairs.TABLE,
        kinds=settings.clip_kinds,
        keep=FIRST,
        rules=schemes.of_clips(settings, sample_fps),
        settings=settings,
    )


def stage(settings: Dedup, sample_fps: float) -> Stage:
    """The stage by the kinds of clips."""
    return verdicts.stage(judged(settings, sample_fps))
