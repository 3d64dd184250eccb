from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from cluster import verify as module
from cluster.skipped import Skipped, write_skipped
from cluster.verify import Legs, Streamed, describe, verify, verify_run
from pipelines.core import ConfigError, DataError, StorageError
from pipelines.reader_config import ReaderConfig
from tests.trainers.conftest import make_commit, reader_of, small_recipe, tables_of
from tests.trainers.test_checkpoint import engine, state
from trainers.delivered import Delivered


def test_without_a_stop_there_is_one_leg() -> None:
    (leg,) = Legs(2).shares(8, 5)
    assert [(s.rank, s.world_size, s.start, s.stop) for s in leg] == [(0, 2, 0, 5), (1, 2, 0, 5)]


@pytest.mark.parametrize(
    ("stop_at", "legs"),
    [(0, [(4, 0, 5)]), (7, [(4, 0, 5)]), (17, [(2, 0, 2), (4, 2, 5)]), (400, [(2, 0, 5)])],
)
def test_the_second_leg_goes_on_where_the_first_stopped(stop_at: int, legs: object) -> None:
    found = Legs(2, stop_at, 4).shares(8, 5)
    assert [(s[0].world_size, s[0].start, s[0].stop) for s in found] == legs
    assert all([share.rank for share in s] == list(range(s[0].world_size)) for s in found)


@pytest.mark.parametrize("legs", [Legs(3), Legs(2, 8, 5)])
def test_workers_that_do_not_divide_the_batch_are_refused(legs: Legs) -> None:
    with pytest.raises(ConfigError, match="workers do not divide the global batch of 8"):
        legs.shares(8, 5)


def test_a_recipe_or_tars_can_be_named() -> None:
    recipe = describe("clip-emoji", ("global_batch=64", "data.decode.size=32"))
    assert (recipe.global_batch, recipe.data.decode.size) == (64, 32)
    tars = describe("x-*.tar", ("data.shuffle.window=3", "seed=5"))
    assert (tars.data.decode.size, tars.data.shuffle.window, tars.seed) == (None, 3, 5)
    with pytest.raises(ConfigError, match=r"verify: data\.shufle: unknown key; did you mean"):
        describe("x-*.tar", ("data.shufle.window=3",))


def tars(folder: Path, make_tar: object, bad: int = 0) -> Streamed:
    samples = {f"{n:03d}": {"txt": b"\xff" if n < bad else b"%d" % n} for n in range(90)}
    for shard in range(3):
        keys = sorted(samples)[30 * shard : 30 * shard + 30]
        make_tar(folder / f"{shard}.tar", {key: samples[key] for key in keys})  # type: ignore[operator]
    text = ("data.decode.text={number: txt}", "data.shuffle={chunk: 4, window: 3}")
    return describe(f"{folder}/*.tar", ("global_batch=16", *text))


RECIPE = small_recipe()
COMMITS = (80, 160)  # the second lies in the second epoch
Harm = Callable[[list[pa.Table]], list[pa.Table]]


def trained(
    run: Path, harm: Harm = lambda tables: tables, data: str = "", ledger: bool = True
) -> str:
    """A run as its workers leave it; returns its place."""
    (run / "recipe.yaml").write_text(RECIPE.to_yaml())
    delivered, tables = Delivered(0), iter(harm(list(tables_of(RECIPE))))
    for samples in COMMITS:
        assert list(delivered.noted(islice(tables, 5)))
        if ledger:
            delivered.write(str(run), samples)
        stands = state(samples).model_copy(update={"data": data or reader_of(RECIPE).source.digest})
        make_commit(str(run), engine(), stands, {})
    return str(run)


def with_last(change: Callable[[pa.Table], pa.Table]) -> Harm:
    return lambda tables: [*tables[:-1], change(tables[-1])]


def test_a_run_that_was_trained_on_every_sample_in_its_place_is_exact(tmp_path: Path) -> None:
    keys: list[str] = []
    found = verify_run(trained(tmp_path), keys.append)
    assert found["exact"]
    assert (found["samples"], found["delivered"], found["left_out"]) == (96, 160, 0)
    assert found["damaged_shards"] == []
    assert keys == [key for table in tables_of(RECIPE) for key in table["key"].to_pylist()]


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (with_last(lambda t: t.take([*range(15)])), (1, 0, 0)),
        (with_last(lambda t: t.take([1, 0, *range(2, 16)])), (0, 0, 2)),
        (with_last(lambda t: t.take([0, 0, *range(2, 16)])), (1, 1, 1)),
        (lambda tables: [*tables[:3], tables[4], tables[3], *tables[5:]], (0, 0, 32)),
    ],
    ids=["one is missing", "two are swapped", "one came twice", "two steps are swapped"],
)
def test_what_a_run_was_trained_on_is_audited(
    tmp_path: Path, harm: Harm, expected: tuple[int, int, int]
) -> None:
    found = verify_run(trained(tmp_path, harm), lambda key: None)
    assert not found["exact"]
    assert (found["missing"], found["repeated"], found["misplaced"]) == expected
    assert found["examples"]


def test_samples_of_batches_that_made_no_update_are_counted(tmp_path: Path) -> None:
    run = trained(tmp_path)
    write_skipped(run, Skipped().and_step(3, 16).and_step(11, 16))  # the last commit is of step 10
    found = verify_run(run, lambda key: None)
    assert found["exact"]
    assert found["left_out"] == 16


def test_a_run_that_cannot_be_audited_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no commit"):
        verify_run(str(tmp_path), print)
    trained(tmp_path, ledger=False)
    with pytest.raises(StorageError, match="train with the profile's ledger: true"):
        verify_run(str(tmp_path), print)
    trained(tmp_path, data="another")
    with pytest.raises(DataError, match="the data set changed since the run's last commit"):
        verify_run(str(tmp_path), print)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
class TestOnRay:
    """Through Ray Data, as training streams."""

    def test_an_epoch_is_exact_across_a_resume(self, tmp_path: Path, make_tar: object) -> None:
        streamed, keys, seen = tars(tmp_path, make_tar), [], []
        alone: list[str] = []
        config = ReaderConfig(batches_per_task=2, samples_per_task=1, tasks_ahead=1, cpus=0.1)
        first = verify(streamed, Legs(1), config, alone.append, lambda done, size: None)
        found = verify(
            streamed, Legs(2, 40, 4), config, keys.append, lambda *each: seen.append(each)
        )
        assert first["exact"]
        assert found["exact"]
        assert found["keys"] == first["keys"]
        assert keys == alone
        assert sorted(keys) == [f"{n:03d}" for n in range(90)]
        assert seen[-1] == (90, 90)
        assert (found["samples"], found["delivered"], found["shards"]) == (90, 90, 3)
        assert found["damaged_shards"] == []

    def test_harm_on_the_way_is_found(
        self, tmp_path: Path, make_tar: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        streamed = tars(tmp_path, make_tar)
        batches = module._batches

        def harmed(*given: object) -> Iterator[object]:
            tables = list(batches(*given))  # type: ignore[arg-type]
            yield from [*tables[1:2], *tables[:1], *tables[2:]]

        monkeypatch.setattr(module, "_batches", harmed)
        found = verify(streamed, Legs(1), ReaderConfig(), lambda key: None, lambda *_: None)
        assert not found["exact"]
        assert found["misplaced"] == 32
        assert found["examples"]

    def test_unreadable_samples_are_named_and_too_many_stop_it(
        self, tmp_path: Path, make_tar: object
    ) -> None:
        streamed = tars(tmp_path, make_tar, bad=2)
        with pytest.raises(DataError, match=r"^2 of 90 samples are unreadable, over .* in /.*tar"):
            verify(streamed, Legs(1), ReaderConfig(), lambda key: None, lambda *_: None)
        lenient = streamed.model_copy(
            update={"data": streamed.data.model_copy(update={"quarantine_limit": 0.1})}
        )
        found = verify(lenient, Legs(1), ReaderConfig(), lambda key: None, lambda *_: None)
        assert found["exact"]
        assert {fault["key"] for fault in found["faults"]} == {"000", "001"}
