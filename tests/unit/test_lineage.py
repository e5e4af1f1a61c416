"""Runs are recorded in full where MLflow answers, and cost nothing where it does not."""

import json
import logging
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

from jobs import recipe as recipes
from jobs.runtime import lineage
from jobs.runtime.config import Config, Dump, Lineage

RECIPE = recipes.load("default", overrides={}, thresholds={"clip_score": 0.21})
START = datetime(2026, 1, 1, tzinfo=UTC)


def config(folder, **lineage_settings):
    return Config(
        warehouse=str(folder / "warehouse"),
        dumps=[Dump(name="d", path="dumps")],
        lineage=Lineage(**lineage_settings),
    )


def batch(stage, batch_id, **changes):
    return {
        "stage": stage,
        "checkpoint": "c",
        "batch_id": batch_id,
        "rows_in": 10,
        "rows_kept": 7,
        "rows_rejected": 2,
        "rows_quarantined": 1,
        "rows_reused": 3,
        "input_versions": {"bronze.samples": batch_id},
        "output_versions": {"silver.pairs": batch_id + 1},
        "started_at": START + timedelta(seconds=batch_id),
        "duration_s": 2.0,
        "batch": f"{batch_id}.{stage}",
        "run_id": "r",
        **changes,
    }


def record(run, settings, *, outcome="finished", batches=(), artifacts=()):
    lineage.record(
        run,
        settings,
        batches=batches,
        reasons={"nsfw": 4},
        quarantined={"empty_media": 1},
        models={"clip": "ab" * 32},
        recipe=RECIPE,
        artifacts=artifacts,
        outcome=outcome,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A finished cycle: the client that reads it, its parent run and its children by stage."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("lineage")
    settings = config(folder)
    plot = folder / "funnel.svg"
    plot.write_text("<svg/>")
    run = lineage.start(settings, command="run")
    batches = [batch("pair", 1), batch("pair", 0), batch("dedup", 0, input_versions={})]
    record(run, settings, batches=batches, artifacts=[plot])
    client = MlflowClient(lineage.tracking_uri(settings))
    parent = client.get_run(run.run_id)
    query = f"tags.`mlflow.parentRunId` = '{run.run_id}'"
    children = client.search_runs([parent.info.experiment_id], query)
    return client, parent, {child.data.params["stage"]: child for child in children}, settings


def test_a_tracked_run_has_an_id_of_32_hex_digits(recorded):
    _, parent, _, _ = recorded
    assert len(parent.info.run_id) == 32
    assert int(parent.info.run_id, 16) >= 0


def test_the_cycle_is_one_parent_with_one_child_per_stage(recorded):
    _, parent, children, _ = recorded
    assert parent.info.status == "FINISHED"
    assert set(children) == {"pair", "dedup"}
    assert all(child.info.status == "FINISHED" for child in children.values())


def test_a_child_sums_its_batches_and_keeps_each_as_a_step(recorded):
    client, _, children, _ = recorded
    pair = children["pair"]
    assert pair.data.metrics["rows_in"] == 20
    assert pair.data.metrics["rows_reused"] == 6
    assert pair.data.metrics["rows_per_s"] == 5.0
    history = client.get_metric_history(pair.info.run_id, "batch.rows_kept")
    assert sorted((point.step, point.value) for point in history) == [(0, 7.0), (1, 7.0)]


def test_version_zero_of_a_table_is_recorded_as_tag_and_as_dataset(recorded):
    _, _, children, _ = recorded
    client, settings = recorded[0], recorded[3]
    zero = lineage.start(settings, command="stage pair")
    record(zero, settings, batches=[batch("pair", 0)])
    experiment = children["pair"].info.experiment_id
    (child,) = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{zero.run_id}'")
    assert child.data.tags["input.bronze.samples.version"] == "0"
    (dataset,) = child.inputs.dataset_inputs
    assert dataset.dataset.name == "bronze.samples"
    assert json.loads(dataset.dataset.source) == {
        "path": f"{settings.warehouse}/bronze/samples",
        "delta_table_version": 0,
    }


def test_the_newest_version_of_several_batches_is_recorded(recorded):
    _, parent, children, _ = recorded
    for run in (parent, children["pair"]):
        assert run.data.tags["input.bronze.samples.version"] == "1"
        assert run.data.tags["output.silver.pairs.version"] == "2"


def test_the_parent_names_config_recipe_models_reasons_and_error_classes(recorded):
    _, parent, _, settings = recorded
    assert parent.data.params == {
        "config": lineage.digest(settings),
        "recipe": RECIPE.name,
        "recipe_version": RECIPE.version,
    }
    assert parent.data.tags["model.clip.sha256"] == "ab" * 32
    assert parent.data.tags["sluice.outcome"] == "finished"
    assert parent.data.metrics == {"rejected.nsfw": 4.0, "quarantined.empty_media": 1.0}


def test_artifacts_config_and_recipe_are_kept_with_the_run(recorded):
    client, parent, _, _ = recorded
    names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert names == {"config.json", "recipe.json", "funnel.svg"}


def test_more_metrics_than_one_call_takes_are_all_recorded(recorded):
    client, _, _, settings = recorded
    run = lineage.start(settings, command="run")
    record(run, settings, batches=[batch("pair", number) for number in range(400)])
    experiment = client.get_run(run.run_id).info.experiment_id
    (child,) = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    assert len(client.get_metric_history(child.info.run_id, "batch.rows_in")) == 400


@pytest.mark.parametrize("outcome", ["failed", "gate_failed"])
def test_a_cycle_that_did_not_finish_is_marked_failed(recorded, outcome):
    client, _, _, settings = recorded
    run = lineage.start(settings, command="run")
    record(run, settings, outcome=outcome)
    stored = client.get_run(run.run_id)
    assert stored.info.status == "FAILED"
    assert stored.data.tags["sluice.outcome"] == outcome


@pytest.fixture
def dead_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return port


def test_a_server_that_is_down_costs_a_warning_and_seconds(tmp_path, dead_port, caplog):
    settings = config(tmp_path, tracking_uri=f"http://127.0.0.1:{dead_port}")
    clock = time.monotonic()
    with caplog.at_level(logging.WARNING):
        run = lineage.start(settings, command="run")
    assert time.monotonic() - clock < 10
    assert not run.is_tracked
    assert len(run.run_id) == 32
    assert "this run is not tracked" in caplog.text


def test_an_untracked_run_is_not_recorded(tmp_path, dead_port, caplog):
    settings = config(tmp_path, tracking_uri=f"http://127.0.0.1:{dead_port}")
    record(lineage.Run("0" * 32, is_tracked=False), settings)
    assert caplog.text == ""


def test_a_server_that_dies_during_the_cycle_costs_a_warning(tmp_path, dead_port, caplog):
    settings = config(tmp_path, tracking_uri=f"http://127.0.0.1:{dead_port}")
    record(lineage.Run("0" * 32, is_tracked=True), settings, batches=[batch("pair", 0)])
    assert "is not tracked to its end" in caplog.text


def test_an_answer_that_never_comes_is_waited_for_no_longer_than_the_deadline(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(lineage, "DEADLINE_S", 0.1)
    monkeypatch.setattr(lineage, "connected", lambda _: time.sleep(5))
    clock = time.monotonic()
    assert not lineage.start(config(tmp_path), command="run").is_tracked
    assert time.monotonic() - clock < 2
    assert "no answer in 0.1 s" in caplog.text


def test_a_login_never_reaches_the_log(tmp_path, monkeypatch, caplog):
    def refuse(_):
        raise OSError("cannot reach http://ann:hunter2@host:5000/api")

    monkeypatch.setattr(lineage, "connected", refuse)
    lineage.start(config(tmp_path), command="run")
    assert "hunter2" not in caplog.text
    assert "http://<login>@host:5000/api" in caplog.text


def test_a_remote_warehouse_without_a_server_is_explained(caplog):
    settings = Config(warehouse="s3://bucket/w", dumps=[Dump(name="d", path="s3://bucket/d")])
    assert not lineage.start(settings, command="run").is_tracked
    assert "set lineage.tracking_uri" in caplog.text


def test_without_git_the_run_carries_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert lineage._revision() == {}


def test_a_checkout_that_merely_surrounds_the_code_is_not_its_commit(tmp_path, monkeypatch):
    inner = tmp_path / "release"
    inner.mkdir()
    lineage.subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(lineage, "ROOT", inner)
    assert lineage._git("rev-parse", "--git-dir") is None
