from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from cluster.probe import _FIRST, _decode, _peak, _Runs, _Setting, probe
from cluster.profile import Profile, load_profile
from pipelines.core import ConfigError
from pipelines.views import Augmented
from pipelines.views.packed import pack
from tests.trainers.conftest import builder_of, reader_of, small_recipe
from trainers.core.engine import EngineConfig, OptimizerConfig
from trainers.flops import flops_per_sample
from trainers.kept import kept_per_sample
from trainers.model import build_objective
from trainers.recipe import Recipe
from trainers.torch_engine import TorchEngine


def rotation(**changes: object) -> Recipe:
    return small_recipe(objective={"kind": "rotation"}, tokenizer=None, **changes)


def setting_of(recipe: Recipe, local: int, processes: int = 1, **profile: object) -> _Setting:
    told = Profile.model_validate({"reader": {"samples_per_task": 1}, **profile})
    return _Setting(
        *(recipe, told, told.engine, True, reader_of(recipe), None, local, 1, processes)
    )


def decoded(setting: _Setting, rank: int = 0) -> tuple[list[pa.Table], int, float]:
    objective = build_objective(setting.recipe, None)
    return _decode(setting, rank, builder_of(setting.recipe, objective, None))


def runs_of(recipe: Recipe, local: int, parts: int = 1) -> _Runs:
    objective = build_objective(recipe, None)
    views = builder_of(recipe, objective, None)
    tables, *_ = _decode(setting_of(recipe, local), 0, views)
    engine = TorchEngine(objective, OptimizerConfig(), torch.device("cpu"), parts)
    return _Runs(engine, views, tables, 1e-3, parts)


def test_batches_double_up_to_a_workers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.probe._BUDGET", 0.0)
    monkeypatch.setattr("cluster.probe._LONG", 1e9)
    trials = list(runs_of(rotation(), 24).trials(24))
    assert [trial.batch for trial in trials] == [16, 24]
    assert all(trial.seconds > 0 for trial in trials)
    assert 0 < trials[0].peak <= trials[1].peak
    (lonely,) = runs_of(rotation(), 1).trials(1)
    assert lonely.batch == 1


def test_batches_of_trials_can_be_cut_into_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.probe._BUDGET", 0.0)
    monkeypatch.setattr("cluster.probe._LONG", 1e9)
    trials = runs_of(rotation(), 24, parts=6).trials(24)
    assert [trial.batch for trial in trials] == [12, 24]
    (trial,) = runs_of(rotation(), 6, parts=6).trials(6)
    assert trial.batch == 6


def test_no_larger_trial_follows_one_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.probe._BUDGET", 0.0)
    monkeypatch.setattr("cluster.probe._LONG", 0.0)
    trials = runs_of(rotation(), 64).trials(64)
    # Of one alone it could not be told what a further sample takes.
    assert [trial.batch for trial in trials] == [_FIRST, 2 * _FIRST]


def test_processes_read_different_samples_of_the_real_data() -> None:
    recipe = rotation()
    read = [decoded(setting_of(recipe, 8, 2), rank) for rank in range(2)]
    assert all(seconds > 0 for *_, seconds in read)
    first, second = ({n for t in tables for n in t["sample"].to_pylist()} for tables, *_ in read)
    assert len(first) == len(second) == 24
    assert not first & second


def test_views_that_readers_make_are_theirs_in_time_and_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]

    def slowly(self: Augmented, table: pa.Table) -> pa.Table:
        now[0] += 1.0
        return pack(table, self._views(table))

    monkeypatch.setattr("cluster.probe.Augmented.__call__", slowly)
    monkeypatch.setattr("cluster.probe.time", SimpleNamespace(perf_counter=lambda: now[0]))
    recipe = rotation()
    plain, row, alone = decoded(setting_of(recipe, 16))
    assert "image" in plain[0].column_names
    assert (row, alone) == (16 * 16 * 3, 0.0)

    made, row, both = decoded(setting_of(recipe, 16, augment="readers"))
    assert "image" not in made[0].column_names
    assert row > 16 * 16 * 3 * 2  # halves or wider, no whole numbers
    assert both == 1 / 16
    reader = {"samples_per_task": 1, "gpus": 1}
    *_, there = decoded(setting_of(recipe, 16, augment="readers", reader=reader))
    assert there == 0.0


def test_the_peak_rises_with_what_is_held() -> None:
    before = _peak()
    room = max(0, before - _resident())
    held = torch.ones(room + (64 << 20), dtype=torch.uint8)
    assert _peak() >= before + (32 << 20)
    del held


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def test_a_batch_that_does_not_fit_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="set global_batch to at most that"):
        probe(rotation(global_batch=128), Profile())
    with pytest.raises(ConfigError, match="3 workers do not divide"):
        probe(rotation(), Profile(workers=3))


@pytest.mark.slow
def test_trials_in_processes_of_their_own_tell_all_that_a_plan_needs() -> None:
    recipe, profile = rotation(), load_profile("laptop")
    found = probe(recipe, profile)
    objective = build_objective(recipe, None)
    assert found.sizes.trained == sum(p.numel() for p in objective.parameters())
    assert found.sizes.moments == 2 * found.sizes.trained
    assert found.trials[-1].batch in (4, 8)  # the smaller one where a step takes long
    assert found.workers == min(profile.workers, found.cores)
    assert found.row_bytes == 16 * 16 * 3
    assert found.decode_seconds > 0
    assert found.process > 200 << 20  # the libraries of a worker
    tables, *_ = decoded(setting_of(recipe, 16))
    batch = builder_of(recipe, objective, None)(tables[0])
    assert found.flops == pytest.approx(flops_per_sample(objective, batch))


@pytest.mark.slow
def test_a_trial_with_views_of_readers_takes_them_as_they_come() -> None:
    recipe = rotation()
    found = probe(recipe, Profile.model_validate({"augment": "readers"}))
    assert found.trials
    assert found.row_bytes > 16 * 16 * 3 * 2


@pytest.mark.slow
def test_for_another_device_operations_and_activations_are_counted_and_no_step_is_made() -> None:
    recipe = rotation()
    engine = EngineConfig.model_validate(
        {
            "zero_stage": 3,
            "precision": "bf16",
            "offload": {"optimizer": "cpu", "parameters": "cpu"},
            "compile": True,
        }
    )
    found = probe(recipe, Profile(device="cuda", engine=engine))
    assert found.trials == ()
    objective = build_objective(recipe, None)
    tables, *_ = decoded(setting_of(recipe, 16))
    batch = builder_of(recipe, objective, None)(tables[0])
    assert found.kept == pytest.approx(kept_per_sample(objective, batch, engine), rel=0.01)
    assert found.kept > found.whole >= 16 * 16 * 3 * 4
