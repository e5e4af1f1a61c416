import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest

from udfs.made_network import made
from udfs.onnx_session import Placement


def network():
    return made([("Add", ["x", "x"], ["y"], {})], {"x": ["n"]}, {}, ["y"])


def test_it_runs_where_it_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sent = pickle.loads(pickle.dumps(network()))

    opened = Placement(device="cpu").open(sent)

    assert opened.run(["y"], {"x": np.array([1, 2], np.float32)})[0].tolist() == [2.0, 4.0]
    assert sent == network()
    assert [file.name for file in tmp_path.iterdir()] == [f"sluice-{sent.sha256}.onnx"]


def test_an_unfinished_file_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sent = network()
    whole = Path(sent.locate()).read_bytes()
    Path(sent.locate()).write_bytes(whole[:5])

    assert Path(sent.locate()).read_bytes() == whole
    assert sent.verified_path() == sent.locate()
