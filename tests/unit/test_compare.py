import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.models import compare, heads
from jobs.models.compare import Drift, Values, beyond, drifts
from jobs.models.heads import HeadSpec, Layer, to_onnx
from jobs.runtime import cards, model_store, trials
from jobs.runtime.errors import ModelProblem
from tests import model_layouts as made

runner = CliRunner()


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch) -> None:
    """A process for each model takes a second; that it is one is tested in test_model_store."""
    monkeypatch.setattr(trials, "within", lambda _, __, function, *args: function(*args))
    monkeypatch.setattr(compare, "_SCENES", 8)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def head(folder: Path, weight: np.ndarray, bias: float, threshold: float | None = 0.0) -> str:
    folder.mkdir()
    spec = HeadSpec((Layer(weight[:, None], np.array([bias])),))
    (folder / "head.onnx").write_bytes(to_onnx(spec).SerializeToString())
    card = {
        "name": folder.name,
        "task": "aesthetic",
        "files": {"model": {"path": "head.onnx", "sha256": cards.sha256(folder / "head.onnx")}},
        "embedding": {"dimension": len(weight)},
        "threshold": {} if threshold is None else {"aesthetic_score": threshold},
    }
    (folder / "model.yaml").write_text(json.dumps(card))
    return f"{folder}/"


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 50), st.integers(0, 99), st.floats(0, 0.5))
def test_drift_is_by_its_definition(rows: int, seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    a = unit(rng.normal(size=(rows, 6)))
    b = unit(a + noise * rng.normal(size=(rows, 6)))
    scores = rng.normal(size=rows)
    moved = scores + noise
    image, score = drifts(
        Values({"image": a}, {"s": scores}), Values({"image": b}, {"s": moved}), {"s": 0.1}
    )

    cosines = np.sort((a.astype(np.float64) * b).sum(axis=1))
    assert image.agreement[:2] == pytest.approx((cosines[0], cosines.mean()), abs=1e-5)
    assert image.drift == pytest.approx(1 - np.percentile(cosines, 1), abs=1e-5)
    assert score.drift == pytest.approx(noise, abs=1e-9)
    turned = sum(x < 0.1 <= y for x, y in zip(scores, moved, strict=True))
    assert score.flips == pytest.approx(turned / rows)


def test_a_number_that_is_none_is_past_every_bound() -> None:
    nan = float("nan")
    said = beyond([Drift("s", 1, None, nan, nan, 0.5)], max_drift=9, max_flips=1)
    assert len(said) == 2


def test_a_head_that_drifts_is_refused_with_its_flips(tmp_path: Path) -> None:
    weight = heads.probes(16, seed=3)[0]
    a = head(tmp_path / "a", weight, 0.0)
    near, far = head(tmp_path / "near", weight, 1e-4), head(tmp_path / "far", weight, 0.1)

    same = runner.invoke(app, ["models", "compare", a, near, "--json"])
    assert same.exit_code == 0, same.output
    (row,) = json.loads(same.output)
    assert (row["what"], row["threshold"], row["rows"]) == ("aesthetic_score", 0, 1000)
    assert row["drift"] == pytest.approx(1e-4, abs=1e-6)

    refused = runner.invoke(app, ["models", "compare", a, far])
    assert refused.exit_code == 6
    said = refused.output.replace("\n", " ")
    assert "drift 0.1; allowed 0.02" in said
    assert "of decisions at 0 turn; allowed 1 %" in said
    allowed = [*("--max-drift", "0.2"), *("--max-flips", "0.5")]
    assert runner.invoke(app, ["models", "compare", a, far, *allowed]).exit_code == 0
    moved = ["--threshold", "aesthetic_score=9", "--max-drift", "1"]
    assert runner.invoke(app, ["models", "compare", a, far, *moved]).exit_code == 0
    wrong = runner.invoke(app, ["models", "compare", a, far, "--threshold", "x"])
    assert wrong.exit_code == 2


def test_clips_are_compared_on_scenes_or_on_a_folder(tmp_path: Path) -> None:
    a = model_store.add(made.two_files(tmp_path / "a"), store=tmp_path / "s").folder
    b = model_store.add(made.visual_textual(tmp_path / "b"), store=tmp_path / "s").folder
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("one", "two"):
        Image.new("RGB", (40, 30), "red").save(pictures / f"{name}.png")
    (pictures / "one.txt").write_text("a red picture")
    (pictures / "broken.jpg").write_text("no picture")

    by_scenes = model_store.compared(f"{a}/", f"{b}/", thresholds={"clip_score": 0.0})
    by_folder = model_store.compared(f"{a}/", f"{b}/", examples=pictures)
    assert [drift.rows for drift in by_scenes] == [8, 8, 16]
    assert [drift.rows for drift in by_folder] == [2, 2, 4]
    assert not beyond(by_scenes, max_drift=1e-5, max_flips=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelProblem, match="no picture"):
        model_store.compared(f"{a}/", f"{b}/", examples=tmp_path / "empty")


def test_models_that_are_no_variants_of_one_are_refused(tmp_path: Path) -> None:
    clip = model_store.add(made.two_files(tmp_path / "a"), store=tmp_path / "s").folder
    aesthetic = head(tmp_path / "h", np.ones(4), 0, None)
    with pytest.raises(ModelProblem, match=r"does clip, .* does aesthetic"):
        model_store.compared(f"{clip}/", aesthetic)
    with pytest.raises(ModelProblem, match="does language; allowed"):
        model_store.compared("lid-176", "lid-176")
    with pytest.raises(ModelProblem, match="6 and 5 values"):
        drifts(Values({"i": np.ones((1, 6))}, {}), Values({"i": np.ones((1, 5))}, {}), {})
    with pytest.raises(ModelProblem, match="give i and s"):
        drifts(Values({"i": np.ones((1, 6))}, {}), Values({}, {"s": np.ones(1)}), {})


def test_the_nsfw_network_is_its_own_variant() -> None:
    (drift,) = model_store.compared("open-nsfw", "open-nsfw")
    assert (drift.what, drift.rows, drift.drift, drift.flips) == ("nsfw_score", 8, 0, 0)
