"""From a configuration to a profile: which pass is measured, on what, and what is written down."""

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import onnxruntime as ort

from jobs.models import network
from jobs.runtime import cards, machine, model_places, models, place, profiles, signals
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError, ModelProblem
from jobs.runtime.profiles import Figures, Profile, Setting
from jobs.runtime.signals import Shelf
from jobs.tuning import crew, pictures, search
from jobs.tuning.search import Result, Search

# Networks that take a batch; the others take one picture at a time, whatever the batch.
_BATCHED: Final = ("clip", "nsfw", "watermark")
# Of the cores, by other work; chosen: what a machine does by itself. Measured on two cores that
# others kept busy: turns of one setting gave 72 to 146 images a second.
MOST_OTHERS: Final = 0.1
_WORST_REFUSED: Final = 0.5  # chosen: of images that mostly fail the speed says nothing


@dataclass(frozen=True)
class Benched:
    """What was measured.

    Attributes:
        results: of each setting that had its turns, the fastest first.
        standing: of them, a run without a profile.
        chosen: of them, the one to take.
        skipped: settings that were not looked at: there was no time.
        failed: what could not be had, in words.
        images: distinct ones.
        refused: of those that were scored, the share that gave no signals.
        others: share of the cores that other work took, the median over all turns.
        profile: what was chosen, for a file.
        is_taken_up: whether a run of the configuration would take it up: not on a cluster.
    """

    results: list[Result]
    standing: Result
    chosen: Result
    skipped: list[Setting]
    failed: list[str]
    images: int
    refused: float
    others: float
    profile: Profile
    is_taken_up: bool


def narrowed(config: Config, names: Sequence[str]) -> Config:
    """A configuration that measures no more than what some models say of an image.

    Args:
        config: to be narrowed.
        names: of models, their folders or addresses; none: all of the configuration.

    Raises:
        ModelProblem: one is missing, or says nothing of an image.
        ConfigError: two do the same.
    """
    if not names:
        return config
    tasks: dict[str, str] = {}
    for name in names:
        card, _ = cards.read(name, partial(model_places.fetch, config))
        if card.task not in signals.NETWORKS:
            raise ModelProblem(
                f"model {name} does {card.task}; allowed one that runs on an image: "
                f"{', '.join(signals.NETWORKS)}; name another, or none for the configuration's"
            )
        if card.task in tasks:
            raise ConfigError(
                f"bench got {tasks[card.task]} and {name}, which both do {card.task}; allowed one "
                "a task; measure them one after another"
            )
        tasks[card.task] = name
    return config.model_copy(
        update={
            "models": config.models.model_copy(update=tasks),
            "signals": config.signals.model_copy(update={"image": tuple(tasks)}),
        }
    )


def run(
    config: Config,
    *,
    seconds: float,
    deadline_s: float,
    images: Path | None = None,
    said: Callable[[float, str], None] = lambda *_: None,
) -> Benched:
    """Measure the pass over images that a configuration asks for.

    Args:
        config: see `narrowed`.
        seconds: for all turns.
        deadline_s: the most that a process may take to start or to answer.
        images: a folder of them; null: drawn ones.
        said: told of each turn: the seconds so far, and in words what was measured.

    Raises:
        ConfigError: no signal runs a network, a signal is not known, there are no images, or the
            seconds do not suffice.
        ModelProblem: a model is missing or does not run.
    """
    shelf = Shelf(config, None)
    names = [name for name in config.signals.image if name not in signals.DERIVED]
    chosen = models.chosen("signals.image", names, signals.IMAGE, shelf)
    networks = models.networks(names, shelf)
    if not networks:
        raise ConfigError(
            f"signals.image got {', '.join(names)}, of which none runs a network; allowed one of "
            f"{', '.join(signals.NETWORKS)}; there is nothing to tune"
        )
    this = machine.here()
    slots = place.slots(config.spark.master, this)
    where = profiles.here(config, slots or this.cores)
    contents = pictures.in_folder(images) if images is not None else pictures.rendered()
    paths = {
        task: Path(shelf.network(task, role).locate())
        for task, role in signals.NETWORKS.items()
        if f"{task}.{role}" in networks
    }
    work = crew.Pass(
        signals=list(chosen.values()),
        contents=contents,
        max_pixels=config.ingest.max_pixels,
        limits=models.limits(config),
        network_bytes=sum(path.stat().st_size for path in paths.values()),
        deadline_s=deadline_s,
    )
    looking = Search(
        cores=where.cores,
        fixed_batch=_fixed_batch([paths[task] for task in _BATCHED if task in paths]),
        has_gpu=where.gpu is not None,
        seconds=seconds,
        start=partial(crew.crew, work),
        clock=time.monotonic,
        said=said,
    )
    try:
        results = looking.run()
    except search.TooShort:
        raise ConfigError(
            f"--seconds got {seconds:g}; allowed enough for {search.ROUNDS} turns of what may be "
            f"the fastest, which that was not; try {4 * seconds:g}"
        ) from None
    best = search.chosen(results)
    return Benched(
        results=results,
        standing=looking.standing(results),
        chosen=best,
        skipped=looking.skipped,
        failed=[str(problem) for problem in looking.failed.values()],
        images=len(contents),
        refused=_refused(results),
        others=median(turn.others for result in results for turn in result.turns.values()),
        profile=Profile(
            machine=where,
            provider=next(iter(best.turns.values())).provider,
            onnxruntime=ort.__version__,
            measured=datetime.datetime.now(datetime.UTC).date(),
            signals=tuple(names),
            models=networks,
            setting=best.setting,
            figures=Figures(
                images_per_s=round(best.median("images_per_s"), 1),
                cpu_ms_per_image=round(best.median("cpu_ms_per_image"), 2),
                memory_mb=round(best.memory_mb),
                gain=round(best.ratio, 3),
            ),
        ),
        is_taken_up=slots is not None,
    )


def _fixed_batch(paths: Sequence[Path]) -> int | None:
    """Images that the networks take at once, where each has a number of its own; the greatest."""
    first = [network.signature(path).inputs[0].shape[:1] for path in paths]
    fixed = [shape[0] for shape in first if shape and shape[0] is not None]
    return max(fixed) if fixed and len(fixed) == len(paths) else None


def _refused(results: Sequence[Result]) -> float:
    """Share of images that gave no signals.

    Raises:
        ConfigError: they are the most.
    """
    turns = [turn for result in results for turn in result.turns.values()]
    share = sum(turn.refused for turn in turns) / sum(turn.images for turn in turns)
    if share > _WORST_REFUSED:
        raise ConfigError(
            f"--images got a folder of which {share:.0%} are refused; allowed images that can be "
            "decoded; give another folder, or none for drawn ones"
        )
    return share
