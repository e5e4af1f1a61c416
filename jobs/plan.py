"""What a cycle will run where, and whether there is memory for it; nothing is started for that."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs import curate, cycle, ingest, memory, publish, score_images, score_text, score_videos
from jobs.fetch import stage as fetch
from jobs.fetch.body import LARGE_BYTES
from jobs.fetch.client import LARGE_AT_A_TIME
from jobs.memory import Bytes, Children, Network, Task
from jobs.models.card import HEAD_COLUMNS, Card
from jobs.runtime import cards, machine, models, profiles
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError
from jobs.runtime.place import Place, place
from jobs.runtime.profiles import Setting
from jobs.runtime.session import ARROW_BYTES, sizes
from jobs.runtime.signals import Shelf
from udfs import classifier, faces, image_signals, nsfw, text_area, text_signals, token_batches
from udfs.onnx_session import CPU, CUDA

log: Final = logging.getLogger("sluice")

_IN_THE_JVM: Final = (curate.NAME, cycle.CURATE_CLIPS, publish.NAME, cycle.PUBLISH_CLIPS)
# An everyday item. Chosen: images of web crawls and videos of 720p; what is larger takes more.
_PICTURE_PIXELS: Final = 2**20
_FRAME_PIXELS: Final = 1280 * 720
# Of a pixel, while it is decoded. Measured: JPEGs of 89 megapixels take 0.75 GiB, videos of 4K a
# third of 1.5 GiB.
_PICTURE_BYTES: Final = 9
_FRAME_BYTES: Final = 54
_FLOAT_BYTES: Final = 4
_USUAL: Final = Setting()
_OF_VIDEOS: Final = ("speech", "shots")


@dataclass(frozen=True)
class Model:
    """A network of a stage.

    Attributes:
        name: on its card.
        network: its sizes.
    """

    name: str
    network: Network


@dataclass(frozen=True)
class Planned:
    """A stage that will run.

    Attributes:
        name: of the stage.
        models: its networks.
        provider: what runs them; empty: there are none.
        task: what a task does beside Spark; null: the stage runs in the JVM alone.
    """

    name: str
    models: tuple[Model, ...]
    provider: str
    task: Task | None

    def on(self, at: Place, tasks: int) -> Bytes:
        """Memory of a machine that works on so many tasks at a time."""
        return memory.of_machine(self.task, tasks, at.heap_bytes, has_driver=at.has_driver)


def stages(
    config: Config,
    names: Collection[str] | None = None,
    *,
    provider: str,
    setting: Setting = _USUAL,
) -> tuple[Planned, ...]:
    """Stages that will run, in order.

    Args:
        config: names signals, models and limits.
        names: of those that do; null: all of a cycle.
        provider: of networks that a worker opens; those in children run on the CPU.
        setting: what images are scored with.

    Raises:
        ModelProblem: a model is missing or not what its card says.
        ConfigError: none is named for a signal.
    """
    shelf = Shelf(config, None)
    is_on_gpu = provider != CPU
    asked, batch = config.signals, setting.batch_size
    of_images = _models(config, shelf, asked.image, "image", batch, is_on_gpu=is_on_gpu)
    of_texts = _models(
        config, shelf, asked.text, "text", text_signals.BATCH_SIZE, is_on_gpu=is_on_gpu
    )
    own_of = {
        score_videos.NAME: _models(config, shelf, _OF_VIDEOS),
        score_images.NAME: of_images,
        score_images.OF_KEYFRAMES: of_images,
        score_text.NAME: of_texts,
        score_text.OF_CAPTIONS: of_texts,
    }
    # Workers go on from stage to stage, with the networks that they have opened and their children.
    opened: dict[Model, None] = {}
    warm: dict[Children, None] = {}
    found = []
    for name in cycle.will_run(config) if names is None else names:
        own = own_of.get(name, ())
        children = _children(name, config, own, setting.decoders)
        warm |= dict.fromkeys(children)
        if name == score_videos.NAME:  # its networks run in the children
            found.append(Planned(name, own, CPU, _task(name, config, opened, warm)))
            continue
        opened |= dict.fromkeys(own)
        task = None if name in _IN_THE_JVM else _task(name, config, opened, warm)
        found.append(Planned(name, own, provider if own else "", task))
    return tuple(found)


def _task(name: str, config: Config, opened: Iterable[Model], warm: Iterable[Children]) -> Task:
    networks = tuple(model.network for model in opened)
    return Task(networks, Bytes(ARROW_BYTES, _in_flight(name, config)), tuple(warm))


def _in_flight(name: str, config: Config) -> int:
    """The most bytes of items that a task of a stage holds at a time."""
    batches = 2 * ARROW_BYTES  # in and out
    item = config.ingest.max_member_bytes
    if name in (score_images.NAME, score_images.OF_KEYFRAMES):
        return batches + image_signals.PREFETCH_BYTES + item  # a larger one goes alone
    if name == ingest.NAME:
        return batches + 2 * item  # as it is read, and as it is written
    if name == fetch.NAME:
        asked = config.fetch
        return batches + asked.concurrency * LARGE_BYTES + LARGE_AT_A_TIME * asked.max_bytes
    return batches


def _children(
    name: str, config: Config, models: Iterable[Model], decoders: int
) -> tuple[Children, ...]:
    if name == score_videos.NAME:
        pixels = min(config.video.max_pixels, _FRAME_PIXELS)
        networks = tuple(model.network for model in models)
        return (Children(1, _FRAME_BYTES * pixels, config.video.memory_bytes, networks),)
    if name == score_images.NAME:
        pixels = min(config.ingest.max_pixels, _PICTURE_PIXELS)
        limit = config.scoring.memory_bytes
        return (Children(decoders, _PICTURE_BYTES * pixels, limit),)
    return ()


def _models(
    config: Config,
    shelf: Shelf,
    asked: Collection[str],
    of_clip: str = "",
    batch_size: int = 1,
    *,
    is_on_gpu: bool = False,
) -> tuple[Model, ...]:
    """The networks of the signals that are asked for; of a CLIP, one side."""
    found = []
    for task in config.models_in_use():
        if task in asked:
            card, folder = shelf.card(task)
            role = of_clip if task == "clip" else "model"
            size = Path(cards.local_path(card.file(role), folder)).stat().st_size
            input_bytes = _FLOAT_BYTES * _input_values(role, card, batch_size)
            found.append(Model(card.name, Network(size, input_bytes, is_on_gpu)))
    return tuple(found)


def _input_values(role: str, card: Card, batch_size: int) -> int:
    """Numbers in the tensor of one batch; of texts a vector a token, as long as the embedding."""
    picture = 3 * card.preprocessing.size_px**2
    text = card.tokenizer.context_length * (card.dimension or 1)
    by_task = {
        "clip": batch_size * (picture if role == "image" else text),
        "nsfw": nsfw.AT_ONCE * picture,
        "watermark": classifier.AT_ONCE * picture,
        "text_area": 3 * text_area.LONGEST_PX**2,  # a picture at a time
        "faces": 3 * faces.LONGEST_PX**2,
        "sentence": token_batches.AT_ONCE * text,
        "toxicity": token_batches.AT_ONCE * text,
        **dict.fromkeys(HEAD_COLUMNS, batch_size * (card.dimension or 1)),
    }
    return by_task.get(card.task, 0)  # of sound and small frames it is next to nothing


def resolved(
    config: Config, names: Collection[str] | None = None
) -> tuple[tuple[Planned, ...], Place]:
    """What will run, and where, as far as the driver knows.

    Args:
        config: says so.
        names: of the stages that will; null: all of a cycle.

    Raises:
        ModelProblem: a model is missing or not what its card says.
        ConfigError: a size or a number among Spark's settings is none.
    """
    at = place(sizes(config), machine.here())
    shelf = Shelf(config, None)
    asked = shelf.placement
    if at.has_driver:
        provider = asked.provider()
    else:
        provider = CUDA if at.has_gpu and asked.device != "cpu" else CPU
    networks = models.networks(config.signals.image, shelf)
    found = profiles.find(config, networks, sizes(config)["spark.master"])
    return stages(config, names, provider=provider, setting=found.setting or _USUAL), at


def refusal(planned: Sequence[Planned], at: Place) -> str | None:
    """Why stages cannot run at a place; null: they can, as far as anybody knows."""
    by_worker = [stage for stage in planned if stage.task]
    if at.worker_bytes is not None and by_worker:
        largest = max(by_worker, key=_of_worker)
        if _of_worker(largest) > at.worker_bytes:
            takes = f"{_of_worker(largest):,} bytes of memory a process of Python"
            return _lacking(planned, largest, at, takes, at.worker_bytes)
    if at.room_bytes is not None and at.tasks is not None:
        tasks = at.tasks
        largest = max(planned, key=lambda stage: stage.on(at, tasks).expected)
        expected = largest.on(at, tasks).expected
        if expected > at.room_bytes:
            takes = f"{expected:,} bytes of memory"
            return _lacking(planned, largest, at, takes, at.room_bytes)
    return None


def warning(planned: Sequence[Planned], at: Place) -> str | None:
    """What a place lacks if all goes as badly as it may; null: nothing, as far as anybody knows."""
    if at.room_bytes is None or at.tasks is None:
        return None
    most = max(stage.on(at, at.tasks).at_most for stage in planned)
    if most <= at.room_bytes:
        return None
    return (
        f"memory: {most:,} bytes if every process is at its limit, {at.room_bytes:,} are there:"
        " images and videos that blow up at one time could be refused as decoder_memory; lower"
        " scoring.memory_bytes and video.memory_bytes, or run fewer tasks at a time"
    )


def require(planned: Sequence[Planned], at: Place) -> None:
    """Refuse what cannot fit; tell of what may not.

    Raises:
        ConfigError: a stage takes more memory than there is.
    """
    refused = refusal(planned, at)
    if refused is not None:
        raise ConfigError(refused)
    if (said := warning(planned, at)) is not None:
        log.warning("%s", said)


def _of_worker(stage: Planned) -> int:
    return memory.worker(stage.task).expected if stage.task else 0


def _lacking(
    planned: Sequence[Planned], stage: Planned, at: Place, takes: str, room_bytes: int
) -> str:
    models = [model for one in planned for model in one.models]
    largest = max(models, key=lambda model: model.network.file_bytes, default=None)
    named = "" if largest is None else f" than {largest.name} of {largest.network.file_bytes:,}"
    return (
        f"{stage.name} on {at.name} takes {takes}; allowed {room_bytes:,}, which are there;"
        f" {at.remedy}, or name smaller models{named}"
    )
