import hashlib
import json
from pathlib import Path

import pytest

from jobs.runtime import cards
from jobs.runtime.cards import CardFile, find, local_path, model_file
from jobs.runtime.errors import ConfigError, ModelProblem
from udfs.model_file import ModelMismatch


def card(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(b"weights")
    written = {
        "name": "mine",
        "task": "nsfw",
        "files": {
            "model": {"path": "model.onnx", "sha256": hashlib.sha256(b"weights").hexdigest()}
        },
        **changes,
    }
    (folder / "model.yaml").write_text(json.dumps(written))
    return folder


@pytest.mark.parametrize(("name", "task"), [("open-nsfw", "nsfw"), ("lid-176", "language")])
def test_a_bundled_card_names_files_that_are_there_and_unaltered(name: str, task: str) -> None:
    found, folder = find(name, task)

    assert found.licence
    for file in found.files.values():
        assert model_file(file, folder).verified_path() == local_path(file, folder)


def test_a_card_is_found_on_the_search_path_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card(tmp_path / "my_model")
    monkeypatch.setenv(cards.SEARCH_VARIABLE, str(tmp_path))

    assert find("my-model", "nsfw")[1] == tmp_path / "my_model"


def test_a_model_that_is_nowhere_says_where_it_was_looked_for() -> None:
    with pytest.raises(ModelProblem, match=cards.SEARCH_VARIABLE):
        find("nowhere", "clip")


def test_a_model_for_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelProblem, match="does nsfw, not clip"):
        find(str(card(tmp_path / "m")), "clip")


def test_an_unknown_key_in_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="licence"):
        find(str(card(tmp_path / "m", license="MIT")), "nsfw")


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    folder = card(tmp_path / "m")
    found, _ = find(str(folder), "nsfw")
    (folder / "model.onnx").write_bytes(b"other")

    with pytest.raises(ModelMismatch, match="sha256"):
        model_file(found.file("model"), folder).verified_path()


def test_a_missing_role_and_a_missing_package_are_named(tmp_path: Path) -> None:
    found, folder = find(str(card(tmp_path / "m")), "nsfw")
    with pytest.raises(ModelProblem, match=r"files\.text"):
        found.file("text")
    with pytest.raises(ModelProblem, match="not installed"):
        local_path(CardFile(package="no_such_package", path="x", sha256="0" * 64), folder)


def test_a_folder_that_holds_no_model_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelProblem, match=r"vision_model.onnx"):
        find(str(tmp_path), "clip")
