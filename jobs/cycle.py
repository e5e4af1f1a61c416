"""One cycle: every stage once over what is new, the gate, the record, the report."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import (
    benchmark_registry,
    curate,
    decontaminate,
    ingest,
    pair,
    pair_clips,
    publish,
    recipe,
    report,
    score_images,
    score_text,
    score_videos,
)
from jobs.dedup import clips as dedup_clips
from jobs.dedup import rebuild as dedup_rebuild
from jobs.dedup import stage as dedup
from jobs.fetch import stage as fetch
from jobs.judged import Judged
from jobs.judged_clips import Clips
from jobs.judged_pairs import Pairs
from jobs.recipe import Recipe
from jobs.runtime import compaction, dumps, lineage, models, quality, signals, streams, strict_yaml
from jobs.runtime.config import Config, RecipeRef
from jobs.runtime.errors import CheckpointBusy, ConfigError, GateFailed, NotFound
from jobs.runtime.lineage import Outcome, Run
from jobs.runtime.models import Scoring
from jobs.runtime.streams import Stage
from jobs.runtime.tables import Warehouse, create_all
from jobs.score_videos import VideoSide
from schemas import batches, clip_pairs, decisions, duplicates, samples, urls

log: Final = logging.getLogger("sluice")
# The least time between two reports of cycles that repeat (chosen: a report reads all that was
# ever decided, a cycle only what is new).
REPORT_EVERY_S: Final = 600.0


@dataclass(frozen=True)
class Plan:
    """Everything a cycle needs, resolved and checked before it starts."""

    config: Config
    warehouse: Warehouse
    scoring: Scoring
    videos: VideoSide
    recipe: Recipe
    clip_recipes: tuple[Recipe, ...]

    @property
    def pairs(self) -> Pairs:
        """What the recipe judges."""
        return Pairs(self.scoring)

    @property
    def clips(self) -> Clips:
        """What the recipes of clips judge."""
        return Clips(self.scoring, self.videos.signal_set)

    @property
    def quality_folder(self) -> Path:
        """Where the suites leave their results."""
        return Path(self.warehouse.root) / "_quality"

    @property
    def report_folder(self) -> Path:
        """Where the report is written."""
        return Path(self.warehouse.root) / "_report"

    @property
    def unreported(self) -> Path:
        """A file that is there while the tables hold what the report does not say yet."""
        return self.report_folder / "unreported"


def plan(config: Config, spark: SparkSession) -> Plan:
    """Resolve the models, the recipes and the dumps of a configuration.

    Raises:
        ModelProblem: a model is missing or altered.
        ConfigError: a recipe, or an option of a dump, is not usable.
    """
    dumps.check(config.dumps)
    scoring = models.scoring(config, spark)
    warehouse = Warehouse(spark, config.warehouse)
    return Plan(
        config=config,
        warehouse=warehouse,
        scoring=scoring,
        videos=score_videos.side(config, spark),
        recipe=against_benchmarks(resolve_recipe(config, scoring), warehouse),
        clip_recipes=resolve_clip_recipes(config, scoring),
    )


def resolve_recipe(config: Config, scoring: Scoring) -> Recipe:
    """The configuration's recipe with its overrides and the cards' thresholds, no registry."""
    return _resolved("recipe", config.recipe, Pairs, config, scoring)


def resolve_clip_recipes(config: Config, scoring: Scoring) -> tuple[Recipe, ...]:
    """The configuration's recipes of clips, likewise.

    Raises:
        ConfigError: one is not usable, or two have the same name, and so the same table of gold.
    """
    found: dict[str, Recipe] = {}
    for number, ref in enumerate(config.video.recipes):
        key = f"video.recipes.{number}"
        resolved = _resolved(key, ref, Clips, config, scoring)
        if resolved.name in found:
            raise ConfigError(f"{key} got name {resolved.name} again; allowed each name once")
        found[resolved.name] = resolved
    return tuple(found.values())


def _resolved(
    key: str, ref: RecipeRef, judged: type[Judged], config: Config, scoring: Scoring
) -> Recipe:
    resolved = recipe.load(
        ref.name,
        overrides=ref.overrides,
        thresholds=scoring.thresholds,
        levels=ref.levels,
        key=key,
    )
    if resolved.of != judged.of:
        raise ConfigError(
            f"{key} got {ref.name}, a recipe of {resolved.of}; allowed one of {judged.of}"
        )
    recipe.require_searches(resolved, config.dedup)
    return resolved


def recipe_named(name: str, among: Sequence[Recipe]) -> Recipe:
    """The recipe of clips of a name.

    Raises:
        ConfigError: it is none of them.
    """
    for found in among:
        if found.name == name:
            return found
    allowed = [found.name for found in among]
    raise ConfigError(strict_yaml.unknown("recipe of clips", name, allowed))


def against_benchmarks(resolved: Recipe, warehouse: Warehouse) -> Recipe:
    """The recipe by the benchmarks as they are now; they are looked at only if a rule asks."""
    if not recipe.asks_for_benchmarks(resolved):
        return resolved
    registered = benchmark_registry.version(warehouse)
    return recipe.against(resolved, registered.digest if registered is not None else None)


def stages(planned: Plan) -> dict[str, Stage]:
    """The streaming stages in their order; those that a configuration turns off are left out.

    Without decontaminate: what it is follows from the benchmarks as they are when it runs. Without
    those of clips: see `clip_stages`.
    """
    config, scoring, videos = planned.config, planned.scoring, planned.videos
    built = (
        ingest.stage(config),
        *((fetch.stage(config),) if config.fetch.contact is not None else ()),
        score_videos.stage(videos),
        score_images.stage(scoring.images),
        score_images.keyframes_stage(scoring.images),
        score_text.stage(scoring.texts),
        score_text.captions_stage(scoring.texts),
        pair.stage(scoring),
        pair_clips.stage(scoring, videos.signal_set),
        dedup.stage(config.dedup),
        *(
            (dedup_clips.stage(config.dedup, config.video.sample_fps),)
            if config.dedup.clip_kinds
            else ()
        ),
        curate.stage(planned.recipe, planned.pairs),
    )
    return {stage.name: stage for stage in built}


def clip_stages(planned: Plan) -> dict[str, Stage]:
    """The stage that decides on clips by each of their recipes: name of the recipe -> stage."""
    return {found.name: curate.stage(found, planned.clips) for found in planned.clip_recipes}


CURATE_CLIPS: Final = curate.NAME + Clips.suffix
PUBLISH_CLIPS: Final = publish.NAME + Clips.suffix
STAGE_NAMES: Final = (
    ingest.NAME,
    fetch.NAME,
    score_videos.NAME,
    score_images.NAME,
    score_images.OF_KEYFRAMES,
    score_text.NAME,
    score_text.OF_CAPTIONS,
    pair.NAME,
    pair_clips.NAME,
    dedup.NAME,
    dedup_clips.NAME,
    decontaminate.NAME,
    curate.NAME,
    CURATE_CLIPS,
    # Behind all that decides: what is published is of the version of the decisions that it saw.
    publish.NAME,
    PUBLISH_CLIPS,
)


def will_run(config: Config) -> tuple[str, ...]:
    """The stages of a cycle, less those that a configuration turns off."""
    is_off = {
        fetch.NAME: config.fetch.contact is None,
        dedup_clips.NAME: not config.dedup.clip_kinds,
        CURATE_CLIPS: not config.video.recipes,
        PUBLISH_CLIPS: not config.video.recipes,
    }
    return tuple(name for name in STAGE_NAMES if not is_off.get(name))


# What scores the same by another table.
_ALSO: Final = {
    score_images.NAME: (score_images.NAME, score_images.OF_KEYFRAMES),
    score_text.NAME: (score_text.NAME, score_text.OF_CAPTIONS),
}


def run_stage(planned: Plan, name: str, *, run_id: str) -> None:
    """Run one stage over what it has not seen.

    Raises:
        NotFound: there is no stage of that name.
        GateFailed: `publish`, or `publish_clips` of a recipe, was refused.
        BreakerOpen: too much of a batch went wrong in one way.
    """
    if name not in STAGE_NAMES:
        raise NotFound(f"no stage {name}; there are {', '.join(STAGE_NAMES)}")
    if name == publish.NAME:
        _publish(planned, planned.recipe, planned.pairs, run_id)
        return
    if name in (CURATE_CLIPS, PUBLISH_CLIPS):
        # Made when the first clip is paired: most warehouses have none.
        if _has_clips(planned):
            decide = _curate_clips if name == CURATE_CLIPS else _publish_clips
            decide(planned, run_id)
        return
    if name == decontaminate.NAME:
        decontaminate.run(planned.warehouse, planned.scoring, run_id=run_id)
        return
    if name == fetch.NAME and planned.config.fetch.contact is None:
        if planned.warehouse.version(urls.TABLE):  # version 0 only creates the table
            log.warning("fetch: urls wait; set fetch.contact to a page or address of yours")
        return
    if name == ingest.NAME:
        dumps.discover(planned.warehouse, planned.config, run_id=run_id)
    if name == dedup_clips.NAME and not planned.config.dedup.clip_kinds:
        return
    batches_done = 0
    # Until nothing is new: of a large shard each run reads a part, and enters the rest.
    while done := streams.run(planned.warehouse, stages(planned)[name], run_id=run_id):
        batches_done += done
    if name in (ingest.NAME, fetch.NAME) and batches_done:
        _check_samples(planned)
    if name in (dedup.NAME, dedup_clips.NAME) and batches_done:
        _compact(planned)
    if name == curate.NAME:
        _decide_again(planned, [planned.recipe], planned.pairs, run_id)


def _compact(planned: Plan) -> None:
    """Merge what batches have added to the tables that the next ones ask."""
    try:
        compaction.compact(planned.warehouse)
    except CheckpointBusy as busy:
        log.info("compaction: left to whoever is at it: %s", busy)


def _has_clips(planned: Plan) -> bool:
    return planned.warehouse.exists(clip_pairs.TABLE)


def _curate_clips(planned: Plan, run_id: str) -> None:
    for stage in clip_stages(planned).values():
        streams.run(planned.warehouse, stage, run_id=run_id)
    _decide_again(planned, planned.clip_recipes, planned.clips, run_id)


def _decide_again(planned: Plan, recipes: Iterable[Recipe], judged: Judged, run_id: str) -> None:
    """Follow verdicts that have changed; where none ever has, no stream is started."""
    revised = planned.warehouse.read(duplicates.TABLE).where(curate.is_revised(judged))
    if not revised.isEmpty():
        for found in recipes:
            streams.run(planned.warehouse, curate.revisions(found, judged), run_id=run_id)


def _check_samples(planned: Plan) -> None:
    """Bring the suite of `bronze.samples` up to date, for the report."""
    items = planned.warehouse.read(samples.TABLE)
    refused = planned.warehouse.standing()
    quality.validate_samples(
        items,
        share_quarantined=quality.quarantined_share(items, refused),
        quality=planned.config.quality,
        docs=planned.quality_folder,
    )


def _publish_clips(planned: Plan, run_id: str) -> None:
    _past_refusals(
        partial(_publish, planned, found, planned.clips, run_id) for found in planned.clip_recipes
    )


def _past_refusals(steps: Iterable[Callable[[], object]]) -> None:
    """Take each step, whatever the gate refuses in another.

    Raises:
        GateFailed: naming all that it refused.
    """
    refused = []
    for step in steps:
        try:
            step()
        except GateFailed as refusal:
            refused.append(str(refusal))
    if refused:
        raise GateFailed("\n".join(refused))


def _publish(planned: Plan, found: Recipe, judged: Judged, run_id: str) -> None:
    publish.run(
        planned.warehouse,
        planned.config,
        found,
        judged,
        run_id=run_id,
        docs=planned.quality_folder,
    )


def run(planned: Plan, *, command: str, report_every_s: float = 0.0) -> Run:
    """One cycle from discovery to report.

    Args:
        planned: what to run.
        command: as it is recorded.
        report_every_s: a report that is younger stays as it is, until a later cycle.

    Raises:
        GateFailed: gold stays at its last good version; the report says why.
        SluiceError: a stage stopped; what was done before it stays done.
    """
    with _tracked(planned, command, report_every_s=report_every_s) as run:
        _past_refusals(partial(run_stage, planned, name, run_id=run.run_id) for name in STAGE_NAMES)
    return run


def run_alone(planned: Plan, *names: str) -> None:
    """Some stages as a run of their own, recorded but not reported."""
    with _tracked(planned, f"stage {' '.join(names)}") as run:
        for name in names:
            run_stage(planned, name, run_id=run.run_id)


def rebuild(planned: Plan, kinds: Sequence[str]) -> int:
    """Find duplicates anew, as a run of its own; nothing is decided by them yet.

    Args:
        planned: by whose rules.
        kinds: of duplicates, as `jobs.dedup.rebuild.chosen` gives them.

    Returns:
        how many verdicts came out otherwise than before.

    Raises:
        CheckpointBusy: a live driver works on the warehouse.
    """
    with _tracked(planned, " ".join(("duplicates rebuild", *kinds))) as run:
        dedup_rebuild.begin(planned.warehouse, kinds, run_id=run.run_id)
        for name in (dedup.NAME, dedup_clips.NAME):
            run_stage(planned, name, run_id=run.run_id)
        verdicts = planned.warehouse.read(duplicates.TABLE)
        return verdicts.where((F.col("run_id") == run.run_id) & (F.col("revision") > 0)).count()


def backfill(config: Config, spark: SparkSession, names: Sequence[str]) -> Plan:
    """Measure some signals on all that is stored; what has them by the same version is left alone.

    A configuration that lists them later takes the values over and runs nothing.

    Args:
        config: names the models.
        spark: the session.
        names: signals of images, of texts, or both.

    Raises:
        ConfigError: one is not known.
    """
    asked, stages = backfilling(config, names)
    # The recipe is the configuration's: it may ask for thresholds of models that do not run here.
    planned = replace(plan(config, spark), config=asked, scoring=models.scoring(asked, spark))
    run_alone(planned, *stages)
    return planned


def backfilling(config: Config, names: Sequence[str]) -> tuple[Config, tuple[str, ...]]:
    """The configuration that measures some signals alone, and the stages that do.

    Args:
        config: names the models.
        names: signals of images, of texts, or both.

    Raises:
        ConfigError: one is not known.
    """
    known = {score_images.NAME: signals.OF_IMAGES, score_text.NAME: signals.TEXT}
    for name in names:
        if not any(name in of_side for of_side in known.values()):
            allowed = [*signals.IMAGE, *signals.TEXT]
            raise ConfigError(strict_yaml.unknown("--signals", name, dict.fromkeys(allowed)))
    chosen = {
        stage: tuple(name for name in of_side if name in names) for stage, of_side in known.items()
    }
    if any(name in signals.DERIVED for name in names) and models.CLIP not in names:
        chosen[score_images.NAME] += (models.CLIP,)
    narrowed = config.signals.model_copy(
        update={
            "image": chosen[score_images.NAME] or config.signals.image,
            "text": chosen[score_text.NAME] or config.signals.text,
        }
    )
    stages = tuple(stage for side, of_side in chosen.items() if of_side for stage in _ALSO[side])
    return config.model_copy(update={"signals": narrowed}), stages


@contextmanager
def _tracked(planned: Plan, command: str, *, report_every_s: float | None = None) -> Iterator[Run]:
    """Open a run over tables that exist; tell MLflow, and the report, how it ended."""
    run = lineage.start(planned.config, command=command)
    result: Outcome = "failed"
    try:
        create_all(planned.warehouse, planned.recipe.name)
        yield run
        result = "finished"
    except GateFailed:
        result = "gate_failed"
        raise
    finally:
        _close(planned, run, result, report_every_s=report_every_s)


def _close(planned: Plan, run: Run, result: Outcome, *, report_every_s: float | None) -> None:
    # Of a failed run the error is the news: nothing is asked of the tables any more.
    if result == "failed":
        _record(planned, run, result, done=[], artifacts=())
        return
    done = _done(planned, run)
    # A run that found nothing new leaves the report as it is, unless an earlier one had news.
    if done or result == "gate_failed":
        planned.unreported.parent.mkdir(parents=True, exist_ok=True)
        planned.unreported.touch()
    is_due = report_every_s is not None and _is_due(planned, report_every_s)
    _record(planned, run, result, done=done, artifacts=_reported(planned, run) if is_due else ())


def _is_due(planned: Plan, every_s: float) -> bool:
    """Whether there is no report, or one that lacks news and is old enough."""
    try:
        report.stored(planned.report_folder, planned.recipe)
    except NotFound:
        return True
    written_s = (planned.report_folder / report.NUMBERS).stat().st_mtime
    return planned.unreported.exists() and time.time() - written_s >= every_s


def _done(planned: Plan, run: Run) -> list[dict[str, Any]]:
    rows = planned.warehouse.read(batches.TABLE).where(F.col("run_id") == run.run_id)
    return [row.asDict() for row in rows.collect()]


def report_again(planned: Plan) -> Path:
    """Write the report of the tables as they are, under the run that wrote last."""
    last = planned.warehouse.read(batches.TABLE).orderBy(F.desc("started_at")).first()
    run_id = last.run_id if last is not None else ""
    return _report(planned, Run(run_id, is_tracked=bool(run_id)))


def _reported(planned: Plan, run: Run) -> list[Path]:
    page = _report(planned, run)
    return [path for path in page.parent.iterdir() if path.is_file()]


def _report(planned: Plan, run: Run) -> Path:
    page = report.write(
        planned.warehouse,
        planned.config,
        planned.recipe,
        run,
        folder=planned.report_folder,
        clip_recipes=planned.clip_recipes,
    )
    planned.unreported.unlink(missing_ok=True)
    return page


def _record(
    planned: Plan,
    run: Run,
    result: Outcome,
    *,
    done: Sequence[Mapping[str, Any]],
    artifacts: Sequence[Path],
) -> None:
    """Tell MLflow what the ledger and the tables say of this run."""
    lineage.record(
        run,
        planned.config,
        batches=done,
        reasons=_rejected(planned) if done else {},
        quarantined=_quarantined(planned) if done else {},
        models={**planned.scoring.digests, **planned.videos.digests},
        recipe=planned.recipe,
        artifacts=artifacts,
        outcome=result,
        clip_recipes=planned.clip_recipes if _has_clips(planned) else (),
    )


def _rejected(planned: Plan) -> dict[str, int]:
    decided = planned.warehouse.current(decisions.TABLE).where(
        (F.col("recipe_version") == planned.recipe.version) & ~F.col("is_kept")
    )
    return {row[0]: row[1] for row in decided.groupBy("first_reason").count().collect()}


def _quarantined(planned: Plan) -> dict[str, int]:
    refused = planned.warehouse.standing()
    return {row[0]: row[1] for row in refused.groupBy("error_class").count().collect()}


def repeat(planned: Plan, *, every_s: float, command: str, until: Callable[[], bool]) -> None:
    """Repeat the cycle until told to end; a cycle that fails at the gate does not end it.

    The benchmarks are those of each cycle's start; all else is as it was planned.
    """
    while True:
        started = time.monotonic()
        try:
            current = against_benchmarks(planned.recipe, planned.warehouse)
            run(replace(planned, recipe=current), command=command, report_every_s=REPORT_EVERY_S)
        except GateFailed as refusal:
            log.error("%s", refusal)
        while time.monotonic() - started < every_s:
            if until():
                return
            time.sleep(min(1.0, every_s))
        if until():
            return
