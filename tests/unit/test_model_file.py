import hashlib
from functools import partial
from pathlib import Path

import pytest

from udfs.model_file import ModelFile, ModelMismatch


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
