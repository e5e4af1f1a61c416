import hashlib
from functools import partial
from pathlib import Path

import pytest

from udfs.model_file import ModelFile, ModelMismatch, in_package


def test_a_file_of_the_expected_digest_is_given(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"weights")
    file = ModelFile(hashlib.sha256(b"weights").hexdigest(), partial(str, path))
    assert file.verified_path() == str(path)


def test_a_file_of_another_digest_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"other weights")
    with pytest.raises(ModelMismatch, match=r"sha256 .* differs .*; restore the file"):
        ModelFile("0" * 64, partial(str, path)).verified_path()


def test_a_file_in_a_package_that_is_not_installed_is_refused_by_the_package() -> None:
    with pytest.raises(ModuleNotFoundError, match="package no_such_package is not installed"):
        ModelFile("0" * 64, partial(in_package, "no_such_package", "x")).verified_path()
