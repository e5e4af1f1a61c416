"""`sluice init` writes a file that three edits make the user's own."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from jobs import init, recipe
from jobs.runtime import config
from jobs.runtime.errors import ConfigError


@pytest.fixture
def written(tmp_path) -> Path:
    file = tmp_path / "config.yaml"
    init.write_config(file)
    return file


def test_it_holds_every_key_at_its_default(written):
    loaded = config.load(str(written))

    assert loaded.models == config.Models()
    assert loaded.quality == config.Quality()
    assert loaded.lineage == config.Lineage()
    assert loaded.spark == config.Spark()
    assert loaded.ingest == config.Ingest()
    assert loaded.fetch == config.Fetch()
    assert loaded.guard == config.Guard()
    assert loaded.breaker == config.Breaker()
    assert _keys(yaml.safe_load(written.read_text())) >= {*_leaves(config.Config)}


def test_three_edits_make_it_the_users_own(written, tmp_path):
    text = written.read_text()
    edits = {
        "path: path/to/tars": "path: /data/tars",
        "clip: demo-clip": "clip: ./clip",
        "min: card": "min: 0.28",
    }
    for before, after in edits.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    written.write_text(text)

    loaded = config.load(str(written))
    resolved = recipe.load(loaded.recipe.name, overrides=loaded.recipe.overrides, thresholds={})

    assert loaded.dumps[0].path == "/data/tars"
    assert loaded.models.clip == str(tmp_path / "clip")
    assert {rule.name: rule.min for rule in resolved.rules}["alignment"] == 0.28


def test_a_file_that_is_there_is_left_alone(written):
    written.write_text("mine")

    with pytest.raises(ConfigError, match="File exists; allowed a new file"):
        init.write_config(written)
    assert written.read_text() == "mine"


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file or directory"):
        init.write_config(tmp_path / "none" / "config.yaml")


def _leaves(model: type[BaseModel]):
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name}.{leaf}" for leaf in _leaves(field.annotation))


def _keys(tree, prefix=""):
    if not isinstance(tree, dict):
        return set()
    return {
        key
        for name, inner in tree.items()
        for key in {f"{prefix}{name}", *_keys(inner, f"{prefix}{name}.")}
    }
