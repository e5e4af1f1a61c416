"""Quality checks of whole tables: aggregated in Spark, judged by Great Expectations.

A profile is one row of counts, shares and bounds, computed in one Spark pass; the suite runs on
that row. So a suite costs 0.1 s instead of several scans, and no caption can reach a result.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.runtime.config import Quality
from jobs.runtime.tables import counted

if TYPE_CHECKING:  # importing it takes 4 s: only the process that checks pays them
    from great_expectations.data_context.data_context.file_data_context import FileDataContext

Severity = Literal["critical", "warning"]

COSINE_LIMIT: Final = 1.001  # 1 and what float16 storage may add, as silver.pairs' own check
MAX_EMPTY_CAPTIONS: Final = 0.2  # chosen: above it the source hardly has captions
MAX_MIME_MISMATCHES: Final = 0.2  # chosen: above it the dump's extensions say nothing
MAX_UNKNOWN_LANGUAGE: Final = 0.2  # chosen: above it the language rule hardly acts
MIN_MEAN_CLIP_SCORE: Final = 0.0  # a random pair's expectation: below it the models do not match


@dataclass(frozen=True)
class Check:
    """What one figure of a profile must satisfy; bounds are inclusive, None is open."""

    figure: str
    expectation: str
    severity: Severity
    low: float | None = None
    high: float | None = None

    @property
    def bound(self) -> str:
        """The bounds as a reader says them.

        >>> Check("rows", "there are rows", "critical", low=1).bound
        '>= 1'
        """
        if self.low == self.high:
            return f"= {self.low:g}"
        if self.high is None:
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if self.low is None else f"in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class Result:
    """One check's outcome; `observed` is None where there was nothing to look at."""

    expectation: str
    severity: Severity
    is_met: bool
    observed: float | None
    bound: str


@dataclass(frozen=True)
class Verdict:
    """What a suite says of a table."""

    suite: str
    results: tuple[Result, ...]

    @property
    def is_passed(self) -> bool:
        """No critical check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """The critical checks that failed."""
        return tuple(r for r in self.results if r.severity == "critical" and not r.is_met)


def quarantined_share(samples: DataFrame, quarantined: DataFrame) -> float:
    """Share of everything met that no stage could judge, in [0, 1]; 0 when nothing was met.

    Args:
        samples: rows of `bronze.samples`.
        quarantined: rows of `ops.quarantine` that stand; those of ingest and fetch never became
            samples, the others are.
    """
    stands = counted(quarantined, all=F.lit(True), alone=F.col("stage").isin("ingest", "fetch"))
    met = samples.count() + stands["alone"]
    return stands["all"] / met if met else 0.0


def validate_samples(
    samples: DataFrame, *, share_quarantined: float, quality: Quality, docs: Path
) -> Verdict:
    """Check `bronze.samples` and write the outcome to `docs`.

    Args:
        samples: rows as of `schemas.samples`.
        share_quarantined: as `quarantined_share` gives it.
        quality: the configured bounds.
        docs: folder that gets Data Docs and `bronze.samples.json`.
    """
    required = ("media_sha256", "text_sha256", "caption")
    profile = _profile(
        samples,
        {
            **_key_figures("sample_id"),
            **_missing_figures(required),
            "caption_empty_share": F.mean((F.trim("caption") == "").cast("double")),
            "size_bytes_min": F.min("size_bytes"),
            "extension_mismatch_share": F.mean(F.col("is_extension_mismatch").cast("double")),
        },
        share_quarantined,
    )
    checks = (
        *_whole("sample_id", missing=required),
        _quarantine(quality, "warning"),
        Check("caption_empty_share", "few captions are empty", "warning", high=MAX_EMPTY_CAPTIONS),
        Check("size_bytes_min", "every media has bytes", "warning", low=1),
        Check(
            "extension_mismatch_share",
            "few extensions name another type than the bytes do",
            "warning",
            high=MAX_MIME_MISMATCHES,
        ),
    )
    return _validate("bronze.samples", profile, checks, docs)


def validate_gold(
    candidates: DataFrame, table: str, *, share_quarantined: float, quality: Quality, docs: Path
) -> Verdict:
    """Check a gold table as it would be after publishing and write the outcome to `docs`.

    Args:
        candidates: every row the table would hold, columns as of `schemas.gold`.
        table: the gold table, e.g. gold.default; also names the suite.
        share_quarantined: as `quarantined_share` gives it.
        quality: the configured bounds.
        docs: folder that gets Data Docs and `<table>.json`.
    """
    required = ("caption", "media_sha256", "width_px", "height_px")
    profile = _profile(
        candidates,
        {
            **_key_figures("sample_id"),
            **_missing_figures(required),
            **_score_figures("nsfw_score"),
            **_score_figures("clip_score"),
            "clip_score_mean": F.mean(_number("clip_score")),
            "language_missing_share": F.mean(F.isnull("language").cast("double")),
        },
        share_quarantined,
    )
    checks = (
        Check("rows", "there are enough rows", "critical", low=quality.min_rows),
        *_whole("sample_id", missing=(*required, "nsfw_score", "clip_score")),
        *_within("nsfw_score", 0, 1),
        *_within("clip_score", -COSINE_LIMIT, COSINE_LIMIT),
        _quarantine(quality, "critical"),
        _alignment("images and captions belong together on average"),
        Check(
            "language_missing_share",
            "the language of nearly every caption is known",
            "warning",
            high=MAX_UNKNOWN_LANGUAGE,
        ),
    )
    return _validate(table, profile, checks, docs)


def validate_gold_clips(
    candidates: DataFrame, table: str, *, share_quarantined: float, quality: Quality, docs: Path
) -> Verdict:
    """Check a gold table of clips as it would be after publishing and write the outcome to `docs`.

    Args:
        candidates: every row the table would hold, columns as of `schemas.gold_clips`.
        table: the gold table, e.g. gold.clips_all; also names the suite.
        share_quarantined: as `quarantined_share` gives it.
        quality: the configured bounds.
        docs: folder that gets Data Docs and `<table>.json`.
    """
    required = (
        "video_sample_id",
        "clip_id",
        "media_sha256",
        "caption",
        "captions",
        "width_px",
        "height_px",
    )
    profile = _profile(
        candidates,
        {
            **_key_figures("sample_id"),
            "clip_repeated": F.count(F.lit(1)) - F.count_distinct("video_sample_id", "clip_id"),
            **_missing_figures(required),
            "length_ms_min": F.min(F.col("end_ms") - F.col("start_ms")),
            "frames_min": F.min(F.col("end_frame") - F.col("start_frame")),
            **_score_figures("nsfw_score_max"),
            **_score_figures("clip_score"),
            **_score_figures("motion_score"),
            "clip_score_mean": F.mean(_number("clip_score")),
        },
        share_quarantined,
    )
    checks = (
        Check("rows", "there are enough rows", "critical", low=quality.min_rows),
        # A clip may come without a text, and so without a clip_score.
        *_whole("sample_id", missing=(*required, "nsfw_score_max")),
        Check("clip_repeated", "each clip of a sample is there once", "critical", low=0, high=0),
        Check("length_ms_min", "every clip has a length", "critical", low=1),
        Check("frames_min", "every clip has frames", "critical", low=1),
        *_within("nsfw_score_max", 0, 1),
        *_within("clip_score", -COSINE_LIMIT, COSINE_LIMIT),
        Check("motion_score_min", "no clip moves less than not at all", "critical", low=0),
        _quarantine(quality, "critical"),
        _alignment("clips and captions belong together on average"),
    )
    return _validate(table, profile, checks, docs)


def _number(name: str) -> Column:
    return F.nanvl(F.col(name).cast("double"), F.lit(None))  # NaN is no score


def _key_figures(key: str) -> dict[str, Column]:
    rows = F.count(F.lit(1))
    return {"rows": rows, f"{key}_repeated": rows - F.count_distinct(key)}


def _missing_figures(names: Sequence[str]) -> dict[str, Column]:
    return {f"{name}_missing": F.count_if(F.isnull(name)) for name in names}


def _score_figures(name: str) -> dict[str, Column]:
    score = _number(name)
    return {
        f"{name}_missing": F.count_if(F.isnull(score)),
        f"{name}_min": F.min(score),
        f"{name}_max": F.max(score),
    }


def _profile(
    frame: DataFrame, figures: Mapping[str, Column], share_quarantined: float
) -> pd.DataFrame:
    """One row of figures, in one Spark aggregation."""
    profile = frame.agg(*(column.alias(name) for name, column in figures.items())).toPandas()
    return profile.assign(quarantined_share=share_quarantined)


def _whole(key: str, *, missing: Sequence[str]) -> tuple[Check, ...]:
    return (
        Check(f"{key}_repeated", f"{key} is unique", "critical", low=0, high=0),
        *(
            Check(f"{name}_missing", f"{name} is never missing", "critical", low=0, high=0)
            for name in missing
        ),
    )


def _within(name: str, low: float, high: float) -> tuple[Check, ...]:
    return (
        Check(f"{name}_min", f"{name} is not below its range", "critical", low=low),
        Check(f"{name}_max", f"{name} is not above its range", "critical", high=high),
    )


def _alignment(expectation: str) -> Check:
    return Check("clip_score_mean", expectation, "warning", low=MIN_MEAN_CLIP_SCORE)


def _quarantine(quality: Quality, severity: Severity) -> Check:
    return Check(
        "quarantined_share",
        "little of the input is quarantined",
        severity,
        high=quality.max_quarantined_share,
    )


def _validate(suite: str, profile: pd.DataFrame, checks: Sequence[Check], docs: Path) -> Verdict:
    met = _met(suite, profile, checks, docs)
    row = profile.iloc[0]
    verdict = Verdict(
        suite,
        tuple(
            Result(
                expectation=check.expectation,
                severity=check.severity,
                is_met=met[check.figure],
                observed=None if pd.isna(row[check.figure]) else float(row[check.figure]),
                bound=check.bound,
            )
            for check in checks
        ),
    )
    (docs / f"{suite}.json").write_text(
        json.dumps({**asdict(verdict), "is_passed": verdict.is_passed}, indent=1)
    )
    return verdict


def _met(suite: str, profile: pd.DataFrame, checks: Sequence[Check], docs: Path) -> dict[str, bool]:
    """Run the checks as a Great Expectations suite: figure -> whether it is met."""
    context = _context(docs)
    import great_expectations as gx
    from great_expectations.checkpoint.actions import UpdateDataDocsAction
    from great_expectations.expectations.core.expect_column_values_to_be_between import (
        ExpectColumnValuesToBeBetween,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    expectations = gx.ExpectationSuite(
        name=suite,
        expectations=[
            ExpectColumnValuesToBeBetween(
                column=check.figure,
                min_value=check.low,
                max_value=check.high,
                severity=FailureSeverity(check.severity),
                notes=check.expectation,
            )
            for check in checks
        ],
    )
    asset = context.data_sources.add_or_update_pandas("profiles").add_dataframe_asset(suite)
    validation = gx.ValidationDefinition(
        name=suite,
        data=asset.add_batch_definition_whole_dataframe(suite),
        suite=context.suites.add_or_update(expectations),
    )
    checkpoint = gx.Checkpoint(
        name=suite,
        validation_definitions=[context.validation_definitions.add_or_update(validation)],
        actions=[UpdateDataDocsAction(name="docs")],
        result_format="SUMMARY",
    )
    outcome = context.checkpoints.add_or_update(checkpoint).run({"dataframe": profile})
    (results,) = outcome.run_results.values()
    return {
        config.kwargs["column"]: bool(result.success)
        for result in results.results
        if (config := result.expectation_config)
    }


def _context(docs: Path) -> "FileDataContext":
    """A Great Expectations project in `docs` that says nothing to the terminal or the network."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read on import
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    docs.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=docs)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context
