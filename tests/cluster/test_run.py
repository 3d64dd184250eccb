from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

import cluster.run
from cluster.attempts import ask_for_what_is_missing
from cluster.facts import Facts
from cluster.prepare import Prepared
from cluster.profile import Profile, load_profile
from cluster.ray_jobs import beside_gpus
from cluster.session import Session
from pipelines.core import ConfigError
from pipelines.shards import storage, storage_faults
from tests.trainers.conftest import small_recipe
from tests.trainers.test_checkpoint import make
from trainers.checkpoint import commit_at
from trainers.recipe import Recipe, load_recipe
from trainers.requests import FileSink, Inbox, request_for


class Reached(Exception):
    pass


@pytest.mark.parametrize(
    ("recipe_changes", "profile_changes", "dashboard"),
    [
        (["evaluations=[]"], (), False),
        ([], (), True),
        (["evaluations=[]"], ("trackers=[{kind: prometheus}]",), True),
    ],
)
def test_a_dashboard_is_started_for_evaluations_and_for_prometheus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe_changes: list[str],
    profile_changes: tuple[str, ...],
    dashboard: bool,
) -> None:
    asked: list[bool] = []

    def connect(profile: Profile, address: str | None, dashboard: bool) -> None:
        asked.append(dashboard)
        raise Reached

    monkeypatch.setattr(cluster.run, "connect", connect)
    recipe = load_recipe("clip-emoji", recipe_changes)
    profile = load_profile("laptop", profile_changes)
    out = str(tmp_path / "run")
    with pytest.raises(Reached):
        cluster.run.train_run(recipe, profile, out, command="", watch=print, say=print)
    assert asked == [dashboard]


def test_a_tracker_that_cannot_open_ends_a_run_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster.run, "connect", lambda *_, **__: pytest.fail("Ray was started"))
    profile = load_profile("laptop", ("trackers=[{kind: jsonl}, {kind: mlflow}]",))
    out = "memory://untracked/run"
    with pytest.raises(ConfigError, match="mlflow keeps a file beside local runs only"):
        cluster.run.train_run(small_recipe(), profile, out, command="", watch=print, say=print)
    assert not storage.exists(f"{out}/recipe.yaml")


def test_a_driver_waits_out_an_outage_once_the_data_has_been_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience: dict[str, float] = {}

    def prepare(*_: object) -> Nothing:
        patience["prepare"] = storage_faults._here.get()
        return Nothing()

    def train(*_: object) -> None:
        patience["train"] = storage_faults._here.get()
        raise Reached

    monkeypatch.setattr(
        cluster.run, "connect", lambda *_, **__: nullcontext(Session("", mine=False))
    )
    monkeypatch.setattr(cluster.run, "prepare", prepare)
    monkeypatch.setattr(Facts, "prepared", lambda *_: None)
    monkeypatch.setattr(cluster.run, "train_to_the_end", train)
    recipe = load_recipe("clip-emoji", ["evaluations=[]"])
    profile = load_profile("laptop", ("reader.outage=77",))
    with pytest.raises(Reached):
        cluster.run.train_run(
            recipe, profile, str(tmp_path / "run"), command="", watch=_unwatched, say=print
        )
    assert patience == {"prepare": 0.0, "train": 77.0}
    assert storage_faults._here.get() == 0.0


def test_time_before_a_run_was_stopped_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> None:
        raise KeyboardInterrupt

    session = Session("", mine=False)
    monkeypatch.setattr(cluster.run, "connect", lambda *_, **__: nullcontext(session))
    monkeypatch.setattr(cluster.run, "prepare", lambda *_: Nothing())
    monkeypatch.setattr(Facts, "prepared", lambda *_: None)
    monkeypatch.setattr(cluster.run, "train_to_the_end", train)
    recipe, run = load_recipe("clip-emoji", ["evaluations=[]"]), tmp_path / "run"
    totals = [0.0]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            cluster.run.train_run(
                recipe, load_profile("laptop"), str(run), command="", watch=_unwatched, say=print
            )
        totals.append(json.loads((run / "run.json").read_text())["seconds"]["total"])
    assert totals == sorted(set(totals))


def judged_recipe(**changes: object) -> Recipe:
    """Commits are due after 48, 96, 144 and 160 samples."""
    evaluations = [{"kind": "zero_shot", "name": "a", "data": "x.tar"}]
    return small_recipe(**{"evaluations": evaluations, "commit_every": 48, **changes})


def test_commits_that_no_worker_asked_for_are_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = str(tmp_path / "run"), judged_recipe()
    for samples in (48, 64, 96, 160):  # at 64 the workers left to make room
        make(run, samples)
    worker = request_for(run, "/of/a/worker", commit_at(run, 48), recipe.evaluations)
    FileSink(run).submit(worker)
    monkeypatch.chdir(tmp_path)
    ask_for_what_is_missing(run, recipe)
    found = Inbox(run).look()
    assert [request.samples for request in found] == [48, 96, 160]
    assert found[0] == worker
    for request in found[1:]:
        commit = commit_at(run, request.samples)
        assert (request.checkpoint, request.digest) == (commit.url, commit.digest)
        assert (request.folder, request.evaluations) == (str(tmp_path), worker.evaluations)
    monkeypatch.chdir("/")
    ask_for_what_is_missing(run, recipe)
    assert Inbox(run).look() == found


def test_without_evaluations_nothing_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path, 48)
    ask_for_what_is_missing(str(tmp_path), judged_recipe(evaluations=[]))
    assert Inbox(str(tmp_path)).look() == []


def test_what_is_missing_is_asked_for_before_the_last_evaluations_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe, waited = str(tmp_path), judged_recipe(), list[int]()

    class Manager:
        faults = ("one failed",)

        def start(self) -> None: ...

        def finish(self, patience: float) -> bool:
            waited.extend(request.samples for request in Inbox(run).look())
            return True

    monkeypatch.setattr(cluster.run, "_manager", lambda *_: Manager())
    monkeypatch.setattr(cluster.run, "train_to_the_end", lambda *_: make(run, 160))
    faults = cluster.run._train(
        run,
        recipe,
        Profile(),
        Prepared(None, 0, 0),  # type: ignore[arg-type]
        Facts(run, recipe, Profile(), ""),
        Session("", mine=False),
        _unwatched,
        print,
    )
    assert waited == [160]
    assert faults == ("one failed",)


def test_evaluation_jobs_have_the_environment_of_the_job_that_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"working_dir": "gcs://x.zip", "env_vars": {"AWS_ENDPOINT_URL": "http://minio"}}
    context = SimpleNamespace(runtime_env={**given, "pip": ["gcsfs"], "config": {}, "conda": None})
    monkeypatch.setattr(cluster.run.ray, "get_runtime_context", lambda: context)
    seen: list[object] = []
    monkeypatch.setattr(cluster.run, "RayJobs", lambda url, carried, *_: seen.append(carried))
    cluster.run._manager(str(tmp_path), Profile(), Session("", mine=False))
    assert seen == [{**given, "pip": ["gcsfs"]}]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ((), dict),
        (("device=cuda",), beside_gpus),
        (("device=cuda", "evaluations.gpus=1"), dict),
        (("evaluations.gpus=1",), dict),
    ],
)
def test_evaluation_jobs_without_gpus_of_their_own_are_where_training_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...], where: object
) -> None:
    context = SimpleNamespace(runtime_env={})
    monkeypatch.setattr(cluster.run.ray, "get_runtime_context", lambda: context)
    seen: list[object] = []
    monkeypatch.setattr(cluster.run, "RayJobs", lambda *given: seen.append(given[-1]))
    profile = load_profile("laptop", changes)
    cluster.run._manager(str(tmp_path), profile, Session("", mine=False))
    assert seen == [where]


class Nothing:
    reader = None


def _unwatched(run: str, planned: int) -> nullcontext[None]:
    return nullcontext()
