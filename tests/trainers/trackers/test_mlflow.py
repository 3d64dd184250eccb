from __future__ import annotations

import json
import logging
import shutil
import socket
import sys
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from cluster.profile import load_profile
from pipelines.core import ConfigError, StorageError, validate
from tests.trainers.conftest import small_recipe
from trainers.trackers.mlflow import Mlflow


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with MLflow's tables: making them takes a second."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def run(tmp_path: Path, empty: Path) -> Path:
    shutil.copy(empty, tmp_path)
    (tmp_path / "recipe.yaml").write_text(small_recipe().to_yaml())
    return tmp_path


def tracker(run: Path, samples: int = 0, **options: object) -> Mlflow:
    config = Mlflow.Config.model_validate({"interval": 0.0, **options})
    return Mlflow(config, run=str(run), samples=samples)


def client_of(run: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{run}/mlflow.db")


def found(run: Path) -> Run:
    return client_of(run).get_run(json.loads((run / "mlflow.json").read_text())["run_id"])


def history(run: Path, name: str) -> list[tuple[int, float]]:
    rows = client_of(run).get_metric_history(found(run).info.run_id, name)
    return [(row.step, row.value) for row in rows]


def test_metrics_are_by_samples_and_the_recipe_is_the_parameters(run: Path) -> None:
    made = tracker(run)
    made.log({"loss": 1.0}, samples=80)
    made.log({"loss": 0.5}, samples=160)
    made.close()
    assert history(run, "loss") == [(80, 1.0), (160, 0.5)]
    told = found(run)
    assert (told.info.run_name, told.info.status) == ("small", "FINISHED")
    assert told.data.params["objective.kind"] == "clip"
    assert told.data.params["data.source.kind"] == "synthetic"
    assert told.data.params["optimizer.learning_rate"] == "0.003"
    assert told.data.params["optimizer.betas"] == "[0.9, 0.98]"
    assert told.data.tags["eagleray.run"] == str(run)


def test_a_value_of_the_recipe_that_was_changed_stops_no_metrics(run: Path) -> None:
    first = tracker(run)
    first.log({"loss": 2.0}, samples=16)
    first.close()
    (run / "recipe.yaml").write_text(small_recipe(log_every=7).to_yaml())
    again = tracker(run, samples=16)
    again.log({"loss": 1.0}, samples=24)
    again.close()
    assert history(run, "loss") == [(16, 2.0), (24, 1.0)]
    assert found(run).data.params["log_every"] == "1"
    assert found(run).data.tags["eagleray.now.log_every"] == "7"
    (run / "recipe.yaml").write_text(small_recipe().to_yaml())
    back = tracker(run, samples=24)
    back.log({"loss": 0.5}, samples=32)
    back.close()
    assert found(run).data.tags["eagleray.now.log_every"] == "1"


def test_what_a_user_adds_lies_beside_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = run / "worker"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    tracker(run).close()
    client_of(run).log_text(found(run).info.run_id, "seen", "note.txt")
    assert [file.read_text() for file in (run / "mlflow-artifacts").rglob("note.txt")] == ["seen"]
    assert not list(elsewhere.iterdir())


def test_a_resumed_run_goes_on_with_the_same_run_and_its_later_points_stay(run: Path) -> None:
    first = tracker(run)
    for samples in (8, 16, 24):
        first.log({"loss": 1.0}, samples=samples)
    first.close()
    before = found(run)
    assert before.info.status == "FAILED"  # it did not come to the recipe's end
    second = tracker(run, samples=16)
    assert found(run).info.status == "RUNNING"
    second.log({"loss": 2.0}, samples=24)
    second.close()
    assert found(run).info.run_id == before.info.run_id
    assert history(run, "loss") == [(8, 1.0), (16, 1.0), (24, 1.0), (24, 2.0)]
    assert len(client_of(run).search_runs([before.info.experiment_id])) == 1


def test_points_wait_for_the_interval_and_a_flush_sends_them(run: Path) -> None:
    made = tracker(run, interval=3600.0)
    made.log({"loss": 1.0}, samples=8)
    assert history(run, "loss") == []
    made.flush()
    assert history(run, "loss") == [(8, 1.0)]
    made.close()


def test_a_server_that_is_not_there_is_told_of_once(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with caplog.at_level(logging.WARNING, "trainers.trackers.mlflow"):
            made = tracker(run, uri=f"http://127.0.0.1:{taken.getsockname()[1]}")
            for samples in (8, 16):
                made.log({"loss": 1.0}, samples=samples)
            made.close()
    told = [r for r in caplog.records if r.name == "trainers.trackers.mlflow"]
    assert len(told) == 1
    assert "training goes on" in told[0].message


def test_what_a_server_missed_it_gets_when_it_is_back(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tracker(run)
    real = MlflowClient.log_batch

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(MlflowClient, "log_batch", refuse)
    made.log({"loss": 1.0}, samples=8)
    monkeypatch.setattr(MlflowClient, "log_batch", real)
    made.log({"loss": 0.5}, samples=16)
    made.close()
    assert history(run, "loss") == [(8, 1.0), (16, 0.5)]


def test_no_credential_is_taken_or_logged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="must not hold credentials"):
        tracker(run, uri="https://me:hunter2@mlflow.example")
    monkeypatch.setenv("SOME_SECRET", "synthetic")
    tracker(run).close()
    assert found(run).data.params["data.source.kind"] == "***"


def test_without_the_package_the_error_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(ConfigError, match="pip install alembic mlflow-skinny") as caught:
        tracker(run)
    assert "\n" not in str(caught.value)


def test_a_run_in_a_bucket_needs_a_server(memory: str) -> None:
    with pytest.raises(ConfigError, match="set its uri to a tracking server"):
        Mlflow(Mlflow.Config(), run=memory, samples=0)


def test_a_profile_that_holds_a_credential_is_refused_before_it_goes_anywhere(
    tmp_path: Path,
) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text("trackers: [{kind: mlflow, uri: 'https://me:hunter2@mlflow.example'}]\n")
    with pytest.raises(StorageError, match="must not hold credentials") as error:
        load_profile(str(file))
    assert "hunter2" not in str(error.value)


def test_a_run_in_a_bucket_is_refused_before_it_starts_unless_there_is_a_server() -> None:
    with pytest.raises(
        ConfigError, match=r"local runs only, and memory://run is none; set its uri"
    ):
        Mlflow.Config().check("memory://run")
    Mlflow.Config(uri="http://localhost:5000").check("memory://run")


def test_a_missing_package_is_named_before_a_run_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.trackers.mlflow._PACKAGES", ("mlflow", "no_such_package"))
    with pytest.raises(ConfigError, match=r"'no_such_package'.*; pip install alembic"):
        Mlflow.Config().check(str(tmp_path))


@pytest.mark.parametrize(
    "uri", ["sqlite:///mlflow.db", "sqlite:///a/mlflow.db", "mlruns", "file:mlruns", "./mlruns"]
)
def test_a_store_at_a_relative_place_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"profile: uri: .* is relative to a worker's folder"):
        validate(Mlflow.Config, {"uri": uri}, "profile")


@pytest.mark.parametrize(
    "uri",
    [
        *("http://localhost:5000", "databricks", "databricks://work", "postgresql://host/db"),
        *("sqlite:////data/mlflow.db", "file:///data/mlruns", "file:/data/mlruns", "/data/mlruns"),
    ],
)
def test_a_store_at_one_place_for_all_is_taken(uri: str) -> None:
    assert validate(Mlflow.Config, {"uri": uri}, "profile").uri == uri
