"""A profile is obeyed where it was measured, left aside elsewhere, and refused where it is none."""

import contextlib
import datetime
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import onnxruntime as ort
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import score_images
from jobs.runtime import machine, models, profiles, signals
from jobs.runtime.config import Config, Dump, Models, Scoring, Spark
from jobs.runtime.errors import ConfigError
from jobs.runtime.profiles import Figures, Found, Machine, Profile, Setting
from jobs.tuning import pictures

DEMO = {"clip.image": "a" * 64, "nsfw.model": "b" * 64}
SETTING = Setting(batch_size=8, intra_op_threads=2, processes=1, decoders=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "here" / "profiles.yaml"


def config(profile: Path | str | None, *, master: str = "local[2]", **signals) -> Config:
    return Config(
        warehouse="w",
        dumps=(Dump(name="d", path="d"),),
        scoring=Scoring(profile=profile and str(profile)),
        spark=Spark(master=master),
        **signals,
    )


def measured(**changed) -> Profile:
    plain = {
        "machine": Machine(cpu=machine.cpu(), cores=2),
        "provider": "CPUExecutionProvider",
        "onnxruntime": ort.__version__,
        "measured": datetime.date(2026, 11, 23),
        "signals": ("clip", "nsfw"),
        "models": DEMO,
        "setting": SETTING,
        "figures": Figures(images_per_s=60.5, cpu_ms_per_image=30, memory_mb=900, gain=1.1),
    }
    return Profile(**(plain | changed))


def found(path: Path, networks=DEMO, master: str = "local[2]") -> Found:
    return profiles.find(config(path, master=master), networks, master)


def test_what_was_measured_here_for_these_models_is_obeyed(path) -> None:
    profiles.write(path, measured())

    assert profiles.read(path) == (measured(),)
    assert found(path).setting == SETTING
    assert found(path).tasks == 1
    assert "2026-11-23: batch 8, processes 1, threads 2, decoders 3" in found(path).said


def test_a_process_for_each_core_leaves_the_dealing_to_spark(path) -> None:
    profiles.write(path, measured(setting=Setting(processes=2)))

    assert found(path) == Found(Setting(processes=2), None, found(path).said)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"machine": Machine(cpu="Abacus", cores=2)}, "another machine, 2 cores of Abacus"),
        ({"machine": Machine(cpu=machine.cpu(), cores=4)}, "another machine, 4 cores of"),
        ({"machine": Machine(cpu=machine.cpu(), cores=2, gpu="H1")}, "another machine, .* with H1"),
        ({"onnxruntime": "1.2.3"}, f"onnxruntime 1.2.3, here is {ort.__version__}"),
        ({"models": DEMO | {"clip.image": "c" * 64}}, "other models"),
        ({"models": {"clip.image": "a" * 64}}, "other models"),
    ],
)
def test_what_was_measured_for_something_else_is_left_aside(path, changed, why) -> None:
    profiles.write(path, measured(**changed))

    assert (found(path).setting, found(path).tasks) == (None, None)
    assert re.search(why, found(path).said)
    assert "sluice models bench" in found(path).said


def test_another_number_of_cores_is_another_machine(path) -> None:
    profiles.write(path, measured())

    assert found(path, master="local[1]").setting is None
    assert "here are 1 cores" in found(path, master="local[1]").said


def test_on_a_cluster_no_profile_holds(path) -> None:
    profiles.write(path, measured())

    assert found(path, master="spark://host:7077") == Found(
        said=f"profiles in {path} are left aside: the workers are on other machines"
    )


def test_where_there_is_none_it_is_said_only_of_a_file_that_was_named(path, monkeypatch) -> None:
    monkeypatch.setattr(profiles, "PLACE", path)

    assert "is not there yet" in found(path).said
    assert profiles.find(config("auto"), DEMO, "local[2]") == Found()


def test_null_looks_at_nothing(path, monkeypatch) -> None:
    profiles.write(path, measured())
    monkeypatch.setattr(profiles, "PLACE", path)

    assert profiles.find(config("auto"), DEMO, "local[2]").setting == SETTING
    assert profiles.find(config(None), DEMO, "local[2]") == Found()


def test_measured_again_it_takes_the_place_of_the_old_and_leaves_others(path) -> None:
    other = measured(models={"clip.image": "c" * 64})
    for profile in (measured(), other, measured(onnxruntime="9"), measured(setting=Setting())):
        profiles.write(path, profile)

    assert profiles.read(path) == (other, measured(setting=Setting()))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def _plain(**changed) -> dict:
    plain = measured().model_dump() | {"signals": ["clip"]}
    return {"profiles": [plain | changed]}


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ([], "allowed keys and their values"),
        ({}, "profiles got nothing"),
        (_plain(note="x"), "profiles.0 got note"),
        (_plain(setting={"batch_size": -1}), "batch_size got -1; allowed greater than or equal"),
        (_plain(setting={"batch_size": 10**9}), "batch_size got 1000000000; allowed less than"),
        (_plain(setting={"decoders": True}), "decoders got True; allowed a valid integer"),
        (_plain(setting={"processes": 2.5}), "processes got 2.5; allowed a valid integer"),
        (_plain(setting={"processes": "2"}), "processes got '2'; allowed a valid integer"),
        (_plain(setting={"processes": 2, "intra_op_threads": 2}), "2 threads on 2 cores; allowed"),
        (_plain(setting={"batchsize": 1}), "did you mean batch_size?"),
        (_plain(models={}), "models got {}"),
        (_plain(models={"clip.image": "x"}), "allowed match pattern"),
        (_plain(provider="CPU\x1b[2J"), "provider got"),
        (_plain(machine={"cpu": "a\nb", "cores": 2}), "cpu got"),
        (_plain(figures={"images_per_s": float("nan")}), "images_per_s got nan"),
        (_plain(measured="yesterday"), "measured got 'yesterday'"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(path, tree, problem) -> None:
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(tree))

    with pytest.raises(ConfigError) as refused:
        found(path)
    assert problem in str(refused.value)
    assert str(path) in str(refused.value)
    assert "set scoring.profile to null" in str(refused.value)
    assert str(refused.value).isprintable() or "\n" in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"profiles: [",
        b"[" * 600,
        b"profiles: []\nprofiles: []",
        b"a: 2026-13-45",
        b"? [a]\n: b",
        b"a: !!python/object/apply:os.system [ls]",
        b"#" * (2**20 + 1),
        b"a: &a [" + b"x," * 9 + b"]\nb: &b [" + b"*a," * 9 + b"]\nprofiles: [" + b"*b," * 9 + b"]",
    ],
)
def test_a_hostile_file_is_refused_in_a_line(path, content) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(ConfigError, match="allowed what `sluice models bench` writes"):
        profiles.read(path)
    with pytest.raises(ConfigError):  # and it is not written over
        profiles.write(path, measured())
    assert path.read_bytes() == content


def test_a_folder_is_no_file_of_profiles(tmp_path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        profiles.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can be written"):
        profiles.write(tmp_path / "file" / "profiles.yaml", measured())


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_break_the_reading(tmp_path_factory, content) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        assert profiles.read(path) == ()


def test_a_place_is_auto_null_or_a_path() -> None:
    with pytest.raises(ValueError, match="allowed auto, null or a path"):
        Scoring(profile="on")


@pytest.fixture
def tuned(path) -> Config:
    """The default signals, under a profile of this machine."""
    profiles.write(path, measured(models=_networks()))
    return config(path)


def _networks() -> dict[str, str]:
    plain = models.scoring(config(None)).images
    return {"clip.image": plain.models["clip_model"], "nsfw.model": plain.models["nsfw_model"]}


def test_a_run_takes_the_profile_up_and_every_version_stays(tuned) -> None:
    plain, found = models.scoring(config(None)), models.scoring(tuned)

    assert found.images.build.keywords["batch_size"] == 8
    assert found.images.build.keywords["decoders"] == 3
    assert found.images.tasks == 1
    assert "by the profile of 2026-11-23" in found.images.note
    threads = {
        name: signal.placement.intra_op_threads
        for name, signal in found.images.signals.items()
        if hasattr(signal, "placement")
    }
    assert threads == {"clip": 2, "nsfw": 2}
    assert found.texts.signals["clip"].placement.intra_op_threads == 1  # it was not measured
    assert found.signal_set == plain.signal_set
    for name in plain.images.signals:
        assert found.images.version(name) == plain.images.version(name)
    assert plain.images.tasks is plain.images.note is None


def test_other_signals_without_a_network_do_not_matter(tuned) -> None:
    fewer = tuned.model_copy(
        update={"signals": tuned.signals.model_copy(update={"image": ("nsfw", "clip", "codes")})}
    )

    assert models.scoring(fewer).images.tasks == 1


def test_a_backfill_of_another_network_has_none(tuned) -> None:
    alone = tuned.model_copy(
        update={"signals": tuned.signals.model_copy(update={"image": ("nsfw",)})}
    )

    assert models.scoring(alone).images.tasks is None
    assert "other models" in models.scoring(alone).images.note


def test_nothing_is_logged_by_looking(tuned, caplog) -> None:
    with caplog.at_level(logging.DEBUG, logger="sluice"):
        models.scoring(tuned)
    assert caplog.records == []


def test_the_stage_says_by_which_profile_and_runs_no_more_tasks(tuned, monkeypatch, caplog) -> None:
    asked = []
    monkeypatch.setattr(score_images, "transform", lambda *_, tasks: asked.append(tasks))
    monkeypatch.setattr(score_images, "score_once", lambda *given: given[-1](None, None, None))
    batch = SimpleNamespace(stage="score_images")

    for of in (tuned, config(None)):
        with caplog.at_level(logging.INFO, logger="sluice"):
            side = models.scoring(of).images
            score_images._process(batch, side=side, content_of=lambda *_: None)

    assert asked == [1, None]
    (line,) = caplog.messages
    assert line.startswith("score_images: by the profile of 2026-11-23")


@pytest.mark.parametrize(
    "setting",
    [
        Setting(batch_size=1, intra_op_threads=2, decoders=1),
        Setting(batch_size=64, intra_op_threads=2, decoders=3),
    ],
)
def test_every_profile_gives_the_same_scores(path, setting) -> None:
    """Bit for bit with the bundled networks, which is more than their runtime promises."""
    contents = pictures.rendered(9)
    profiles.write(path, measured(models=_networks(), setting=setting))
    batch = pa.RecordBatch.from_pydict(
        {"media_sha256": [str(n) for n in range(9)], "content": pa.array(contents, pa.binary())}
    )
    plain, tuned = (models.scoring(config(profile)).images for profile in (None, path))
    rows = [
        [row for scored in side.operator([batch]) for row in scored.to_pylist()]
        for side in (plain, tuned)
    ]

    assert tuned.note is not None
    assert rows[0] == rows[1]
    assert all(row["status"] == "ok" and row["nsfw_score"] is not None for row in rows[0])


def test_networks_on_pixels_are_all_known() -> None:
    tasks = Models.model_fields.keys() & signals.IMAGE.keys()

    assert tasks == signals.NETWORKS.keys()
