"""A model is found where it lies, and copied once."""

import shutil
from pathlib import Path

import mlflow
import pytest

from jobs.runtime import cards, lineage, model_places
from jobs.runtime.config import Config, Dump
from jobs.runtime.errors import ModelProblem
from jobs.runtime.signals import Shelf

MODEL = cards.REPOSITORY_MODELS / "demo_clip"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(model_places, "CACHE", tmp_path / "cache")
    return Config(warehouse=str(tmp_path / "w"), dumps=(Dump(name="d", path=str(tmp_path)),))


def at(config: Config, address: str) -> Config:
    return config.model_copy(update={"models": config.models.model_copy(update={"clip": address})})


def test_a_model_at_an_address_is_copied_once_and_anew_when_its_card_changes(
    config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "far"
    shutil.copytree(MODEL, folder)
    address = f"file://{folder}"
    copy = model_places.fetch(config, address)
    (copy / "left").touch()

    assert Shelf(at(config, address), None).clip().image.verified_path().startswith(str(copy))
    assert (model_places.fetch(config, address) / "left").is_file()
    with (folder / "model.yaml").open("a") as card:
        card.write("# changed\n")
    assert not (model_places.fetch(config, address) / "left").exists()
    assert not list((tmp_path / "cache").glob(".*"))


@pytest.mark.parametrize(
    "address", ["file:///no/such/folder", "models:/nobody/1", "models:/demo@best", "gopher://x/y"]
)
def test_an_address_that_gives_no_model_says_what_is_allowed(config: Config, address: str) -> None:
    with pytest.raises(ModelProblem, match="models:/NAME/VERSION"):
        model_places.fetch(config, address)


def test_a_registered_model_is_found_by_its_version(config: Config) -> None:
    uri = lineage.tracking_uri(config)
    client = lineage.connected(config)
    experiment = client.create_experiment("models", artifact_location=f"file://{config.warehouse}")
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(MODEL), "clip")
    client.create_registered_model("demo")
    version = client.create_model_version("demo", f"{run.info.artifact_uri}/clip", run.info.run_id)
    address = f"models:/demo/{version.version}"
    found = Shelf(at(config, address), None).clip()

    assert mlflow.get_tracking_uri() != uri  # nothing is set for the whole process
    assert Path(found.image.verified_path()).name == "image.onnx"
    assert found.dimension == 256
