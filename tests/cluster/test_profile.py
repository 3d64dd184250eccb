from __future__ import annotations

import pytest

from cluster.profile import check_fit, load_profile, shipped
from cluster.session import logical_cpus
from pipelines.core import ConfigError
from tests.trainers.conftest import small_recipe


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_profile_is_valid(name: str) -> None:
    assert load_profile(name).workers >= 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("worker=3", "did you mean 'workers'"),
        ("engine.zero_stage=4", "engine.zero_stage"),
        ("evaluations.at_one=1", "did you mean 'at_once'"),
        ("cpus_per_worker=0", "greater than 0"),
        ("workers=0", "greater than or equal to 1"),
    ],
)
def test_a_mistake_names_its_path(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_profile("laptop", (override,))


def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="did you mean 'laptop'"):
        load_profile("laptp")


def test_workers_must_divide_the_global_batch() -> None:
    recipe = small_recipe()  # global batch 16
    check_fit(recipe, load_profile("laptop", ("workers=4",)))
    with pytest.raises(
        ConfigError, match=r"5 workers do not divide .* of 16; use --workers 4 or 8"
    ):
        check_fit(recipe, load_profile("laptop", ("workers=5",)))


def test_parts_must_divide_a_workers_share() -> None:
    recipe = small_recipe()  # global batch 16
    check_fit(recipe, load_profile("laptop", ("workers=2", "engine.accumulate=4")))
    with pytest.raises(
        ConfigError, match=r"accumulate: 3 parts do not divide a worker's 8 .* set it to 2 or 4, or"
    ):
        check_fit(recipe, load_profile("laptop", ("workers=2", "engine.accumulate=3")))
    with pytest.raises(ConfigError, match=r"a worker's 8 .* set it to 8, or"):
        check_fit(recipe, load_profile("laptop", ("workers=2", "engine.accumulate=16")))


def test_what_tells_the_best_commit_must_be_evaluated() -> None:
    evaluation = {"kind": "zero_shot", "name": "emoji", "data": "x.tar"}
    recipe = small_recipe(evaluations=[evaluation])
    check_fit(recipe, load_profile("laptop", ("keep.best=zero_shot/emoji",)))
    with pytest.raises(ConfigError, match=r"called 'zero_shot/emojis'; did you mean 'zero_shot/e"):
        check_fit(recipe, load_profile("laptop", ("keep.best=zero_shot/emojis",)))


def test_an_optimizer_must_work_under_the_stage() -> None:
    recipe = small_recipe(optimizer={"kind": "muon"})
    check_fit(recipe, load_profile("laptop"))
    with pytest.raises(ConfigError, match="muon needs whole tensors, and stage 2 splits them"):
        check_fit(recipe, load_profile("laptop", ("engine.zero_stage=2",)))


def test_a_cluster_of_ones_own_admits_workers_and_their_readers() -> None:
    profile = load_profile("laptop", ("workers=4", "reader.tasks_ahead=2", "reader.cpus=0.5"))
    assert logical_cpus(profile) >= 4 + 4
