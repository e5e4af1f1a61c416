import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from jobs import cycle, memory, plan
from jobs.memory import MB, Network, Task
from jobs.plan import Model, Planned
from jobs.runtime import cards
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError
from jobs.runtime.machine import Machine
from jobs.runtime.place import Place, place

GIB = 1 << 30
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
DEMO: Mapping[str, Any] = {"warehouse": "/w", "dumps": [{"name": "d", "path": "/d"}]}


def _stages(provider: str = CPU, **sections: object) -> dict[str, Planned]:
    config = Config.model_validate({**DEMO, **sections})
    return {stage.name: stage for stage in plan.stages(config, provider=provider)}


def _task(stage: Planned) -> Task:
    assert stage.task is not None
    return stage.task


@cache
def _usual() -> tuple[Planned, ...]:
    return tuple(_stages().values())


def _local(cores: int, gib: float) -> Place:
    sizes = {"spark.master": "local[*]", "spark.driver.memory": "1g"}
    return place(sizes, Machine(cores, int(gib * GIB)))


def _size(name: str, role: str) -> int:
    card, folder = cards.read(name)
    return Path(cards.local_path(card.file(role), folder)).stat().st_size


def test_every_stage_that_is_not_turned_off_is_planned() -> None:
    off = {"fetch", "dedup_clips", "curate_clips", "publish_clips"}
    bare = _stages(dedup={"clip_kinds": []}, video={"recipes": []})
    every = _stages(fetch={"contact": "mailto:a@b.org"})

    assert list(every) == list(cycle.STAGE_NAMES)
    assert list(bare) == [name for name in cycle.STAGE_NAMES if name not in off]


def test_a_stage_by_itself_has_no_networks_of_others() -> None:
    config = Config.model_validate(DEMO)
    (alone,) = plan.stages(config, ["score_text"], provider=CPU)
    after = next(stage for stage in _usual() if stage.name == "score_text")

    assert alone.models == after.models
    assert _task(alone).networks == tuple(model.network for model in alone.models)
    assert len(_task(alone).networks) < len(_task(after).networks)
    assert (_task(alone).children, len(_task(after).children)) == ((), 2)


def test_a_stage_has_its_networks_with_the_sizes_of_their_files() -> None:
    found = {
        stage.name: {model.name: model.network.file_bytes for model in stage.models}
        for stage in _usual()
    }
    images = {"demo-clip": _size("demo-clip", "image"), "open-nsfw": _size("open-nsfw", "model")}
    texts = {"demo-clip": _size("demo-clip", "text"), "lid-176": _size("lid-176", "model")}

    assert found["score_images"] == found["score_keyframes"] == images
    assert found["score_text"] == found["score_captions"] == texts
    assert found["score_videos"] == {"silero-vad": _size("silero-vad", "model")}
    assert found["ingest"] == found["dedup"] == {}


def test_the_first_tensor_is_that_of_a_batch() -> None:
    clip, nsfw = _stages()["score_images"].models

    assert clip.network.input_bytes == 32 * 3 * 96 * 96 * 4  # what the demo's CLIP looks at
    assert nsfw.network.input_bytes == 8 * 3 * 224 * 224 * 4


def test_a_worker_goes_on_with_the_networks_of_earlier_stages() -> None:
    by_name = {stage.name: stage for stage in _usual()}
    ingest, videos, images, texts, dedup = (
        _task(by_name[name])
        for name in ("ingest", "score_videos", "score_images", "score_text", "dedup")
    )
    own = {name: tuple(m.network for m in stage.models) for name, stage in by_name.items()}

    assert ingest.networks == videos.networks == ()
    assert images.networks == own["score_images"]
    assert texts.networks == dedup.networks == own["score_images"] + own["score_text"]
    assert (len(ingest.children), len(videos.children), len(images.children)) == (0, 1, 2)
    assert videos.children[0].networks == own["score_videos"]
    assert texts.children == dedup.children == images.children
    assert by_name["curate"].task is by_name["publish"].task is None


@pytest.mark.parametrize(
    ("stage", "section", "key"),
    [("score_images", "scoring", "memory_bytes"), ("score_videos", "video", "memory_bytes")],
)
def test_a_limit_of_decoders_is_what_there_is_at_most(stage: str, section: str, key: str) -> None:
    less, more = (_task(_stages(**{section: {key: gib * GIB}})[stage]) for gib in (1, 2))
    decoders = {"score_images": 2, "score_videos": 1}[stage]
    assert memory.of_task(more).at_most - memory.of_task(less).at_most == decoders * GIB
    assert memory.of_task(more).expected == memory.of_task(less).expected


def test_fewer_pixels_are_expected_to_take_less() -> None:
    usual, small = (
        _task(_stages(ingest={"max_pixels": pixels})["score_images"]) for pixels in (10**8, 10**5)
    )

    assert memory.of_task(small).expected < memory.of_task(usual).expected


def test_weights_on_a_gpu_are_not_expected_here_but_those_of_children_are() -> None:
    cpu, gpu = _stages(CPU), _stages(CUDA)

    assert gpu["score_videos"] == cpu["score_videos"]
    assert gpu["score_images"].provider == CUDA
    for name in ("score_images", "score_text"):
        assert all(model.network.is_on_gpu for model in gpu[name].models)
        assert not any(model.network.is_on_gpu for model in cpu[name].models)


@pytest.mark.parametrize(("cores", "gib"), [(2, 24), (2, 3.5), (4, 3.8), (16, 16)])
def test_the_demo_is_not_refused_on_a_small_machine(cores: int, gib: float) -> None:
    assert plan.refusal(_usual(), _local(cores, gib)) is None


@pytest.mark.parametrize(("cores", "gib"), [(1, 1), (2, 2), (32, 8)])
def test_what_cannot_fit_is_refused_with_what_to_do(cores: int, gib: float) -> None:
    said = plan.refusal(_usual(), _local(cores, gib))

    assert said is not None
    assert f"this machine, {cores} at a time" in said
    assert f"allowed {int(gib * GIB):,}, which are there" in said
    assert "spark.master" in said
    assert f"open-nsfw of {_size('open-nsfw', 'model'):,}" in said


def test_a_model_that_fits_into_no_memory_is_named() -> None:
    huge = Model("vit-huge", Network(20 * 1000 * MB))
    stage = Planned("score_images", (huge,), CPU, Task((huge.network,)))

    assert "vit-huge of 20,000,000,000" in str(plan.refusal([stage], _local(2, 24)))
    assert plan.refusal([stage], _local(2, 96)) is None


def test_an_executor_that_is_held_to_its_memory_is_refused_and_one_that_is_not_is_not() -> None:
    def said(**settings: str) -> str | None:
        named = {f"spark.{key.replace('__', '.')}": value for key, value in settings.items()}
        return plan.refusal(_usual(), place(named, Machine(1, GIB)))

    assert "spark.executor.memoryOverhead" in str(said(master="yarn"))
    assert said(master="yarn", executor__memoryOverhead="2g") is None
    assert said(master="spark://h:7077", executor__cores="1") is None
    limited = {"master": "spark://h:7077", "executor__cores": "2"}
    assert "a process of Python" in str(said(**limited, executor__pyspark__memory="500m"))
    assert said(**limited, executor__pyspark__memory="4g") is None


def test_the_worst_case_is_told_where_it_does_not_fit() -> None:
    said = plan.warning(_usual(), _local(2, 4))

    assert said is not None
    assert "decoder_memory" in said
    assert "scoring.memory_bytes" in said
    assert plan.warning(_usual(), _local(2, 24)) is None


def test_a_refusal_is_an_error_and_a_warning_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sluice"):
        plan.require(_usual(), _local(2, 24))
        assert not caplog.records
        plan.require(_usual(), _local(2, 4))

    assert "decoder_memory" in caplog.text
    with pytest.raises(ConfigError, match="allowed 1,073,741,824"):
        plan.require(_usual(), _local(2, 1))
