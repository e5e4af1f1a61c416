"""`sluice models bench`, its processes replaced by what they would say."""

import contextlib
import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.runtime import config, machine, models, profiles
from jobs.tuning import bench, crew, pictures
from jobs.tuning.search import Turn

runner = CliRunner()


class Fake:
    """What a machine with nothing else to do would say: batches of 8 are the fastest."""

    def __init__(self) -> None:
        self.others, self.refused, self.works = 0.0, 0, []

    @contextlib.contextmanager
    def crew(self, work, wanted):
        self.works.append(work)

        def measure(setting, _):
            rate = 100.0 * wanted.processes + (80 if setting.batch_size == 8 else 0)
            memory = 100.0 * wanted.processes + setting.decoders
            return Turn(rate, 7.0, memory, self.others, 100, self.refused, "FakeProvider")

        yield measure


@pytest.fixture
def fake(monkeypatch) -> Fake:
    given = Fake()
    monkeypatch.setattr(crew, "crew", given.crew)
    monkeypatch.setattr(pictures, "rendered", lambda: [b"jpeg"] * 5)
    return given


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    plain = {
        "warehouse": "w",
        "dumps": [{"name": "d", "path": "d"}],
        "spark": {"master": "local[2]"},
        "scoring": {"profile": "./profiles.yaml"},
    }
    path.write_text(yaml.safe_dump(plain))
    return path


def benched(written: Path, *more: str):
    return runner.invoke(app, ["models", "bench", "--config", str(written), *more])


def test_the_profile_is_what_the_run_takes_up(fake, written) -> None:
    answered = benched(written)
    loaded = config.load(str(written))
    (profile,) = profiles.read(written.parent / "profiles.yaml")
    side = models.scoring(loaded).images

    assert answered.exit_code == 0, answered.output
    assert "chosen: batch 8, processes 2, threads 1, decoders 1: 1.40 x" in answered.output
    assert profile.setting.model_dump() == {
        "batch_size": 8,
        "processes": 2,
        "intra_op_threads": 1,
        "decoders": 1,
    }
    assert side.build.keywords["batch_size"] == 8
    assert side.tasks is None  # one for each core
    assert profile.models == {
        "clip.image": side.models["clip_model"],
        "nsfw.model": side.models["nsfw_model"],
    }
    assert profile.machine == profiles.here(loaded, 2)
    assert profile.machine.cpu == machine.cpu()
    assert (profile.provider, profile.figures.gain) == ("FakeProvider", 1.4)
    assert set(profile.signals) == {s for s in loaded.signals.image if s != "aesthetic"}
    assert len(fake.works[0].signals) == len(profile.signals)
    assert fake.works[0].network_bytes > 10**6


@pytest.mark.usefixtures("fake")
def test_for_machines_it_is_json(written) -> None:
    answered = benched(written, "--json", "--seconds", "100")
    said = json.loads(answered.stdout)

    assert said["file"] == str(written.parent / "profiles.yaml")
    assert said["profile"]["setting"]["batch_size"] == 8
    assert [row["is_chosen"] for row in said["settings"]].count(True) == 1
    assert all(row["turns"] >= 3 for row in said["settings"])


@pytest.mark.usefixtures("fake")
def test_named_models_are_measured_alone(written) -> None:
    assert benched(written, "open-nsfw").exit_code == 0
    (profile,) = profiles.read(written.parent / "profiles.yaml")

    assert profile.signals == ("nsfw",)
    assert list(profile.models) == ["nsfw.model"]
    assert "other models" in models.scoring(config.load(str(written))).images.note


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["lid-176"], 6, "model lid-176 does language; allowed one that runs on an image"),
        (["demo-clip", "demo-clip"], 2, "both do clip"),
        (["nothing-like-it"], 6, "nothing-like-it"),
        (["--set", "scoring.profile=null"], 2, "no place for one"),
        (["--set", "signals.image=[phash]"], 2, "none runs a network"),
        (["--images", "/nowhere/at/all"], 2, "holds no image"),
        (["--seconds", "1"], 2, "--seconds"),
    ],
)
def test_what_cannot_be_measured_is_refused(fake, written, arguments, exit_code, message) -> None:
    answered = benched(written, *arguments)

    assert answered.exit_code == exit_code
    assert message in " ".join(answered.output.split())
    assert fake.works == []
    assert not (written.parent / "profiles.yaml").exists()


def test_a_bad_profile_is_said_before_anything_is_measured(fake, written) -> None:
    (written.parent / "profiles.yaml").write_text("profiles: 3")
    answered = benched(written)

    assert answered.exit_code == 2
    assert "allowed what `sluice models bench` writes" in " ".join(answered.output.split())
    assert fake.works == []


def test_beside_other_work_nothing_is_kept_unless_asked_for(fake, written) -> None:
    fake.others = 0.3
    answered = benched(written)

    assert answered.exit_code == 1
    assert "other work took 30% of the cores; allowed 10%" in " ".join(answered.output.split())
    assert not (written.parent / "profiles.yaml").exists()
    assert benched(written, "--busy").exit_code == 0
    assert (written.parent / "profiles.yaml").exists()


def test_images_that_are_mostly_refused_are_no_measure(fake, written) -> None:
    fake.refused = 60
    answered = benched(written)
    assert answered.exit_code == 2
    assert "60% are refused" in answered.output

    fake.refused = 40
    assert "40.0% of the images are refused" in benched(written).output


@pytest.mark.usefixtures("fake")
def test_on_a_cluster_it_says_that_no_run_takes_it_up(written) -> None:
    answered = benched(written, "--set", "spark.master=spark://host:7077")

    assert answered.exit_code == 0
    assert "no run on spark://host:7077 takes it up" in " ".join(answered.output.split())


def test_images_of_a_folder_are_taken_as_they_lie(tmp_path, monkeypatch) -> None:
    (tmp_path / "below").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "below" / "a.PNG")
    (tmp_path / "b.jpg").write_bytes(b"broken")
    (tmp_path / "c.txt").write_text("no image")

    assert pictures.in_folder(tmp_path) == [
        (tmp_path / "b.jpg").read_bytes(),
        (tmp_path / "below" / "a.PNG").read_bytes(),
    ]
    monkeypatch.setattr(pictures, "_MOST", 1)
    assert pictures.in_folder(tmp_path) == [b"broken"]


def test_drawn_images_are_the_same_again() -> None:
    first, second = pictures.rendered(2), pictures.rendered(2)

    assert first == second
    assert first[0] != first[1]
    assert all(content[:2] == b"\xff\xd8" for content in first)


def test_a_fixed_batch_holds_where_every_network_has_one(saved, networks) -> None:
    four, eight, free = (Path(saved(networks[0](batch=batch)).locate()) for batch in (4, 8, "N"))

    assert bench._fixed_batch([four, eight]) == 8
    assert bench._fixed_batch([four, free]) is None
    assert bench._fixed_batch([]) is None
