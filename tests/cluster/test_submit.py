from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from cluster.submit import follow, pack, submit
from pipelines.core import UserError
from tests.trainers.conftest import small_recipe
from trainers.recipe import load_recipe

# As on a node without the project: an editable installation would fill in what was not packed.
ELSEWHERE = """
import json, sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
import cluster.evaluation_worker, cluster.run, trainers.worker
from cluster.profile import load_profile
from trainers.recipe import load_recipe
ours = {
    name: module.__file__
    for name, module in sys.modules.items()
    if name.partition(".")[0] in ("pipelines", "trainers", "cluster")
}
name, workers = load_recipe("recipe.yaml").name, load_profile("profile.yaml").workers
print(json.dumps({"name": name, "workers": workers, "modules": ours}))
"""


def test_the_packed_folder_runs_by_itself(tmp_path: Path) -> None:
    pack(tmp_path, small_recipe(), "workers: 3\n")
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=tmp_path,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["name"], found["workers"]) == ("small", 3)
    modules = found["modules"]
    assert {"pipelines.reader", "trainers.worker", "cluster.evaluation_worker"} <= set(modules)
    # A folder of data without code of its own has no file.
    files = [Path(file) for file in modules.values() if file is not None]
    assert [file for file in files if not file.is_relative_to(tmp_path)] == []
    assert (tmp_path / "pipelines" / "datasets" / "emoji" / "emoji-train-00000.tar").exists()


def test_the_packed_folder_knows_the_project_where_it_is_not_installed(tmp_path: Path) -> None:
    pack(tmp_path, small_recipe(), "workers: 1\n")
    (found,) = metadata.distributions(name="eagleray", path=[str(tmp_path)])
    assert found.version == metadata.version("eagleray")
    assert found.requires == metadata.requires("eagleray")
    installed = metadata.distribution("eagleray")
    # Word for word: whether it can be written anew depends on what else was imported.
    assert found.read_text("METADATA") == (
        installed.read_text("METADATA") or installed.read_text("PKG-INFO")
    )


def test_a_relative_place_is_refused() -> None:
    with pytest.raises(UserError, match="relative path means another folder on the cluster"):
        submit(small_recipe(), "", "runs/x", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        (
            {"evaluations": [{"kind": "zero_shot", "name": "a", "data": "x.tar"}]},
            "evaluations.0.data",
        ),
        (
            {"evaluations": [{"kind": "proxy", "name": "a", "data": "x.tar"}]},
            "evaluations.0.data.url",
        ),
        ({"evaluations": [{"kind": "zero_shot", "name": "a", "data": "{x,/y}/a.tar"}]}, "data"),
        (
            {"data": {"source": {"kind": "webdataset", "url": "x/*.tar"}, "decode": {"size": 16}}},
            "data.source.url",
        ),
    ],
)
def test_data_at_a_relative_place_are_refused(changes: dict[str, object], place: str) -> None:
    with pytest.raises(UserError, match=rf"{place} x.*: a relative path means another folder"):
        submit(small_recipe(**changes), "", "/tmp/x", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "url",
    [
        *("{/d/a,/d/b}/x.tar", "{s3://a,s3://b}/x.tar", "local:///d/x.tar", "file:/d/x.tar"),
        *(
            "gs://bucket/x-{0..9}.tar",
            "file:///d/x*.tar",
            "/d/{a,b}*.tar",
            "hf://datasets/a/b/*.tar",
        ),
    ],
)
def test_data_that_only_the_cluster_reaches_are_sent(url: str) -> None:
    recipe = small_recipe(evaluations=[{"kind": "zero_shot", "name": "a", "data": url}])
    with pytest.raises(UserError, match="no Ray job server"):
        submit(recipe, "", "/tmp/x", "http://127.0.0.1:1")


def test_shipped_data_travel_along() -> None:
    for recipe in (load_recipe("clip-emoji"), load_recipe("clip-contrast-sprites")):
        with pytest.raises(UserError, match="no Ray job server"):
            submit(recipe, "", "/tmp/x", "http://127.0.0.1:1")


def test_a_cluster_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(UserError, match=r"no Ray job server at http://127\.0\.0\.1:1") as caught:
        submit(small_recipe(), "", "/tmp/x", "http://127.0.0.1:1")
    assert "\n" not in str(caught.value)


class Answers:
    """A job server that answers, or raises, as told."""

    def __init__(self, *told: JobStatus | Exception) -> None:
        self.told = list(told)
        self.logs: Exception | None = None

    def get_job_status(self, name: str) -> JobStatus:
        found = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if isinstance(found, Exception):
            raise found
        return found

    def get_job_logs(self, name: str) -> str:
        if self.logs is not None:
            raise self.logs
        return "one\ntwo\n"


def following(monkeypatch: pytest.MonkeyPatch, *told: JobStatus | Exception) -> list[str]:
    """What is said of a job, on a clock that only pauses move."""
    now, said = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("cluster.submit.client", lambda address: Answers(*told))
    monkeypatch.setattr("cluster.submit.time.monotonic", lambda: now[0])
    monkeypatch.setattr("cluster.submit.time.sleep", sleep)
    follow("job", "http://head:8265", said.append)
    return said


def test_a_network_that_fails_for_a_while_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [ConnectionError("reset"), ConnectionError("reset"), RuntimeError("502")]
    running, ended = JobStatus.RUNNING, JobStatus.SUCCEEDED
    said = following(monkeypatch, running, *faults, running, faults[0], ended)
    lost = "the cluster does not answer; asking on (reset)"
    assert said == ["one", "two", lost, lost]


def test_a_cluster_that_stays_away_is_told_and_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"not answered for 600 s; the job job may be going on"):
        following(monkeypatch, JobStatus.RUNNING, ConnectionError("reset"))


def test_a_job_that_failed_says_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="job job failed; two"):
        following(monkeypatch, JobStatus.FAILED)


def test_a_job_that_is_gone_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = RuntimeError("Request failed with status code 404: Job job does not exist")
    with pytest.raises(UserError, match="knows no job job any more"):
        following(monkeypatch, JobStatus.RUNNING, gone)


def test_how_a_job_ended_counts_where_its_log_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(JobStatus.FAILED)
    answers.logs = RuntimeError("500")
    monkeypatch.setattr("cluster.submit.client", lambda address: answers)
    with pytest.raises(UserError, match="job job failed; its log is empty"):
        follow("job", "http://head:8265", print)
