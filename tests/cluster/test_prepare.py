from __future__ import annotations

from pathlib import Path

import pytest

from cluster import prepare as module
from cluster.prepare import claim, prepare
from pipelines.core import ConfigError, DataError, StorageError, UserError
from pipelines.shards.index import scan_here
from tests.trainers.conftest import make_commit, small_recipe
from tests.trainers.test_checkpoint import engine, make, state
from trainers import worker
from trainers.checkpoint import latest
from trainers.job import Job
from trainers.model import TOKENIZER
from trainers.recipe import load_recipe


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "scan_on_cluster", scan_here)


def on(url: str, **changes: object):  # type: ignore[no-untyped-def]
    data = {
        "source": {"kind": "webdataset", "url": url},
        "decode": {"size": 16, "text": {"caption": "txt"}},
    }
    return small_recipe(data=data, **changes)


def test_a_folder_is_claimed_once_and_found_again(tmp_path: Path) -> None:
    url = claim(str(tmp_path / "run"), small_recipe())
    assert (Path(url) / "recipe.yaml").exists()
    assert claim(str(tmp_path / "run"), small_recipe()) == url


def test_a_run_of_another_recipe_is_refused_and_left_alone(tmp_path: Path) -> None:
    claim(str(tmp_path), small_recipe())
    make(tmp_path, 64)
    before = (tmp_path / "recipe.yaml").read_text()
    with pytest.raises(ConfigError, match=r"another recipe \(seed: 0 -> 7 and 1 more\).*--out"):
        claim(str(tmp_path), small_recipe(seed=7, samples=320))
    assert (tmp_path / "recipe.yaml").read_text() == before


def test_what_nothing_that_is_learned_depends_on_may_change_from_start_to_start(
    tmp_path: Path,
) -> None:
    claim(str(tmp_path), small_recipe())
    make(tmp_path, 64)
    data = small_recipe().data.model_dump() | {"quarantine_limit": 0.5}
    other = small_recipe(data=data, rewinds=9, log_every=7)
    claim(str(tmp_path), other)
    assert load_recipe(f"{tmp_path}/recipe.yaml") == other
    assert claim(str(tmp_path), other) == str(tmp_path)


def test_a_run_that_never_got_to_a_commit_is_taken_over(tmp_path: Path) -> None:
    claim(str(tmp_path), small_recipe())
    (tmp_path / "tokenizer.json").write_text("of other data")
    (tmp_path / "quarantine.parquet").write_text("of other data")
    claim(str(tmp_path), small_recipe(seed=7))
    assert "seed: 7" in (tmp_path / "recipe.yaml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_tokenizer_and_model_are_prepared(tmp_path: Path) -> None:
    recipe = small_recipe()
    prepared = prepare(str(tmp_path), recipe)
    assert prepared.reader.order.size == 96
    assert prepared.parameters > 1000
    text = (tmp_path / "tokenizer.json").read_text()
    prepare(str(tmp_path), recipe)
    assert (tmp_path / "tokenizer.json").read_text() == text


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("{}/nowhere/x-*.tar", StorageError, "no file matches; its folder does not exist either"),
        ("{}/mising.tar", StorageError, "does not exist; did you mean 'missing.tar'"),
        ("{}/empty.tar", DataError, "no sample in it"),
        ("{}/garbage.tar", DataError, "no sample in it; .*not a tar header"),
        ("s4://bucket/x.tar", StorageError, "unknown protocol 's4'; .*s3"),
    ],
)
def test_data_that_is_not_there(
    tmp_path: Path, url: str, error: type[UserError], message: str
) -> None:
    (tmp_path / "missing.tar").write_bytes(b"")
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    (tmp_path / "garbage.tar").write_bytes(b"garbage" * 2000)
    with pytest.raises(error, match=message) as caught:
        prepare(str(tmp_path / "run"), on(url.format(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_batch_larger_than_the_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only 96 samples"):
        prepare(str(tmp_path), small_recipe(global_batch=128))


def test_an_objective_that_needs_captions_says_so_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set data\.decode\.text"):
        prepare(str(tmp_path), small_recipe(tokenizer=None))


def test_data_that_changed_since_the_last_commit_is_refused(tmp_path: Path) -> None:
    make(tmp_path, 64)  # its state has another data set's digest
    with pytest.raises(UserError, match="data set changed"):
        prepare(str(tmp_path), small_recipe())


def test_a_run_goes_on_with_the_tokenizer_of_its_last_commit(tmp_path: Path) -> None:
    run, recipe = str(tmp_path), small_recipe()
    first = prepare(run, recipe)
    text = (tmp_path / "tokenizer.json").read_text()
    at = state(64).model_copy(update={"data": first.reader.source.digest})
    make_commit(run, engine(), at, {TOKENIZER: text})
    (tmp_path / "tokenizer.json").write_text("of another run")
    assert prepare(run, recipe).parameters == first.parameters
    job = Job(run=run, folder="/", recipe=recipe)
    of_the_worker = worker._tokenizer(job, latest(run))
    assert of_the_worker is not None
    assert of_the_worker.to_json() == text
