from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.core import DataError, UserError
from pipelines.core.batch import Batch
from pipelines.decode.tokenizer import Tokenizer
from pipelines.sources.synthetic import Synthetic
from tests.trainers.conftest import (
    AROUND,
    SMALL_TOWERS,
    builder_of,
    random_batch,
    small_recipe,
    tables_of,
)
from tests.trainers.objectives.test_contract import small
from tests.trainers.test_evaluate import write
from tests.trainers.test_model import committed_model
from trainers.core.evaluation import Answers
from trainers.core.objective import ComparingObjective, LossOutput, Objective
from trainers.evaluate import evaluate
from trainers.model import Model, build_objective, load_model
from trainers.objectives import OBJECTIVES
from trainers.proxy import judge
from trainers.recipe import EVALUATIONS, Recipe, load_recipe, shipped

DATA = {"kind": "synthetic", "samples": 50, "size": 16, "seed": 9}


def rotation() -> Recipe:
    objective = {"kind": "rotation", "image": SMALL_TOWERS["image"]}
    return small_recipe(objective=objective, tokenizer=None)


class Scripted(Objective):
    """Knows the first rows of every batch, and may leave out others."""

    chance = 0.25

    def __init__(self, right: list[int], usable: list[float] | None = None):
        super().__init__()
        self._right, self._usable = iter(right), iter(usable or [])

    def forward(self, batch: Batch) -> LossOutput:
        share = next(self._usable, None)
        count = len(batch) * (1 if share is None else share)
        metrics = {"accuracy": torch.tensor(next(self._right) / count)}
        if share is not None:
            metrics["usable"] = torch.tensor(share)
        return LossOutput(torch.zeros(()), metrics)

    def encoders(self):
        return {}


class SeveralAnswers(Objective):
    """Gives three answers a sample, of which one sample in two is asked; chance varies."""

    def __init__(self, right: list[int], chances: list[float]):
        super().__init__()
        self._right, self._chances = iter(right), iter(chances)

    def forward(self, batch: Batch) -> LossOutput:
        metrics = {
            "accuracy": next(self._right) / (1.5 * len(batch)),
            "chance": next(self._chances),
            "answers": 1.5,
            "usable": 0.5,
        }
        return LossOutput(torch.zeros(()), {n: torch.tensor(v) for n, v in metrics.items()})

    def encoders(self):
        return {}


def table(*keys: str) -> pa.Table:
    faults = [
        json.dumps([{"shard": "a.tar", "key": key, "reason": "torn"}]) if key else ""
        for key in keys
    ]
    return pa.table({"fault": pa.array(faults, pa.string())})


def build(rows: pa.Table) -> Batch:
    return Batch(torch.arange(rows.num_rows), torch.arange(rows.num_rows), {})


def test_answers_are_counted_over_batches_of_any_size() -> None:
    tables = [table(*[""] * 7), table(*[""] * 3)]
    assert judge(Scripted([5, 1]), build, tables) == Answers(6, 10, 0.25, 10)


def test_what_an_objective_leaves_out_does_not_count() -> None:
    tables = [table(*[""] * 8), table(*[""] * 4)]
    assert judge(Scripted([3, 1], [0.5, 0.25]), build, tables) == Answers(4, 5, 0.25, 5)


def test_several_answers_of_a_sample_count_each_and_chance_is_their_mean() -> None:
    tables = [table(*[""] * 8), table(*[""] * 4)]
    found = judge(SeveralAnswers([7, 2], [0.25, 0.5]), build, tables)
    assert (found.right, found.examples, found.samples) == (9, 18, 6)
    assert found.chance == pytest.approx((0.25 * 12 + 0.5 * 6) / 18)


def test_what_stands_in_for_unreadable_samples_does_not_count() -> None:
    tables = [table(*[""] * 198, "x"), table("y")]
    assert judge(Scripted([2]), build, tables) == Answers(2, 198, 0.25, 198)
    with pytest.raises(DataError, match=r"^3 of 201 samples are broken .* x of a.tar: torn; "):
        judge(Scripted([2]), build, [*tables, table("z")])
    with pytest.raises(DataError, match="no sample can be judged"):
        judge(Scripted([]), build, [])


def test_a_diverged_model_is_reported() -> None:
    class Diverged(Scripted):
        def forward(self, batch: Batch) -> LossOutput:
            return LossOutput(torch.tensor(float("nan")), {"accuracy": torch.tensor(0.5)})

    with pytest.raises(UserError, match="diverged"):
        judge(Diverged([]), build, [table("")])


def naive(recipe: Recipe, seed: int, samples: int) -> int:
    """Right answers, by the objective's own metric over batches as training makes them."""
    again = recipe.model_copy(update={"seed": seed})
    data = recipe.data.model_copy(update={"source": Synthetic.Config(samples=50, size=16, seed=9)})
    again = again.model_copy(update={"data": data, "samples": samples})
    objective = build_objective(recipe, None).eval()
    views = builder_of(again, objective, None)
    batches = [views(rows) for rows in tables_of(again)]
    with torch.no_grad():
        return round(sum(float(objective(b).metrics["accuracy"]) * len(b) for b in batches))


def test_a_model_is_asked_as_in_training() -> None:
    recipe = rotation()
    model = Model(build_objective(recipe, None), recipe, None)
    data = EVALUATIONS.parse({"kind": "proxy", "name": "x", "data": DATA}).data
    found = model.proxy(data, 32, 3)
    assert (found.right, found.examples, found.chance) == (naive(recipe, 3, 32), 32, 0.25)
    assert model.proxy(data, 32, 3) == found
    assert model.proxy(data, 10_000, 3).examples == 50  # all, each of them once


def test_read_only_data_are_scanned_once_for_all_commits_of_a_run(
    tmp_path: Path, scanned: list[str]
) -> None:
    recipe, url = rotation(), write(tmp_path / "data" / "a.tar", 20)
    source = {"kind": "webdataset", "url": url}
    data = EVALUATIONS.parse({"kind": "proxy", "name": "x", "data": source}).data
    for _ in range(2):
        model = Model(build_objective(recipe, None), recipe, None, fallback=str(tmp_path / "run"))
        assert model.proxy(data, 16, 3).examples == 16
    assert scanned == [url]


def sizes_of(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, samples: int) -> list[int]:
    """Sizes of the batches that a model is given."""
    model = Model(build_objective(recipe, None), recipe, None)
    sizes: list[int] = []

    def noted(objective, build, tables):
        return judge(objective, build, (sizes.append(t.num_rows) or t for t in tables))

    monkeypatch.setattr("trainers.model.judge", noted)
    source = {**DATA, "samples": samples}
    data = EVALUATIONS.parse({"kind": "proxy", "name": "x", "data": source}).data
    assert model.proxy(data, samples, 3).examples == samples
    return sizes


def test_a_batch_has_as_many_samples_as_training_has_views(monkeypatch) -> None:
    recipe = rotation().model_copy(update={"repeats": 2})
    assert sizes_of(monkeypatch, recipe, 50) == [
        2 * recipe.global_batch,
        50 - 2 * recipe.global_batch,
    ]


def test_a_batch_of_what_compares_nothing_is_no_larger_than_is_needed(monkeypatch) -> None:
    recipe = rotation().model_copy(update={"global_batch": 300, "samples": 300})
    assert sizes_of(monkeypatch, recipe, 300) == [256, 44]


COMPARING = ["clip_contrast", "audio_contrast", "masked_spectrogram", "next_token", "arrow_of_time"]


@pytest.mark.parametrize("kind", COMPARING)
def test_what_compares_samples_encodes_some_at_a_time_and_compares_all(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = small(kind).eval()
    assert isinstance(objective, ComparingObjective)
    whole = random_batch(objective, 23, AROUND.size)
    with torch.inference_mode():
        metrics = objective(whole).metrics
    sizes: list[int] = []

    def build(rows: pa.Table) -> Batch:
        places = torch.from_numpy(rows["place"].to_numpy().copy())
        views = {name: view[places] for name, view in whole.views.items()}
        return Batch(whole.samples[places], whole.keys[places], views)

    def noted(batch: Batch):
        sizes.append(len(batch))
        return type(objective).encode(objective, batch)

    monkeypatch.setattr("trainers.proxy.MOST", 10)
    monkeypatch.setattr(objective, "encode", noted)
    rows = pa.table({"fault": [""] * 23, "place": np.arange(23)})
    found = judge(objective, build, [rows])
    assert sizes == [10, 10, 3]
    judged = round(float(metrics.get("answers", metrics.get("usable", torch.ones(())))) * 23)
    assert found.examples == judged
    assert found.right == round(float(metrics["accuracy"]) * judged)
    assert found.chance == pytest.approx(float(metrics.get("chance", objective.chance)))


TEXTS = {"kind": "next_token", "tower": {"width": 16, "layers": 1, "heads": 2}}
CLIPS = {"kind": "clip_contrast", "video": SMALL_TOWERS["video"], "frames": 6, "stride": 1}
FILMS = {"size": None, "video": {"frames": 8, "rate": 16, "size": 16}}


@pytest.mark.parametrize(
    ("objective", "decode", "data"),
    [
        (TEXTS, {"size": None, "text": {"caption": "txt"}}, {**DATA, "samples": 40}),
        (CLIPS, FILMS, {"kind": "sprites", "samples": 40, "size": 16, "frames": 8}),
    ],
)
def test_answers_do_not_depend_on_how_many_are_encoded_at_a_time(
    objective, decode, data, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(
        objective=objective, data={"source": data, "decode": decode}, global_batch=32, samples=32
    )
    tokenizer = Tokenizer.train(["red circle", "blue square"], recipe.tokenizer)
    model = Model(build_objective(recipe, tokenizer), recipe, tokenizer)
    source = EVALUATIONS.parse({"kind": "proxy", "name": "x", "data": data}).data
    whole = model.proxy(source, 40, 3)
    monkeypatch.setattr("trainers.proxy.MOST", 5)
    parts = model.proxy(source, 40, 3)
    assert (parts.right, parts.examples, parts.samples) == (
        whole.right,
        whole.examples,
        whole.samples,
    )
    assert parts.chance == pytest.approx(whole.chance)


def test_a_damaged_tar_is_refused(tmp_path: Path, make_tar) -> None:
    samples = {
        raw.key: raw.members
        for raw in Synthetic(Synthetic.Config(samples=20, size=16)).read(np.arange(20))
    }
    path = make_tar(tmp_path / "a.tar", samples)
    path.write_bytes(path.read_bytes()[: 512 * 20 + 100])
    recipe = rotation()
    model = Model(build_objective(recipe, None), recipe, None)
    data = EVALUATIONS.parse({"kind": "proxy", "name": "x", "data": str(path)}).data
    with pytest.raises(DataError, match=r"a\.tar: it is damaged \(.*\), and what it holds"):
        model.proxy(data, 20, 0)


def test_nothing_of_the_model_changes() -> None:
    recipe = rotation()
    model = Model(build_objective(recipe, None), recipe, None)
    data = EVALUATIONS.parse({"kind": "proxy", "name": "x", "data": DATA}).data
    before = model.features(next(iter(pictures())))
    model.proxy(data, 16, 0)
    assert torch.equal(model.features(next(iter(pictures()))), before)


def pictures():
    yield torch.full((2, 16, 16, 3), 7, dtype=torch.uint8).numpy()


def test_an_evaluation_of_a_commit(tmp_path: Path) -> None:
    commit = committed_model(tmp_path, rotation())
    config = EVALUATIONS.parse({"kind": "proxy", "name": "held-out", "data": DATA})
    result = evaluate(load_model(commit), commit, config)
    assert (result.evaluation, result.dataset, result.status) == ("proxy", "held-out", "ok")
    assert result.outcome is not None
    assert (result.outcome.examples, result.outcome.chance) == (50, 0.25)


def test_an_objective_without_labels_says_so(tmp_path: Path) -> None:
    objective = {"kind": "simclr", "image": SMALL_TOWERS["image"]}
    recipe = small_recipe(objective=objective, tokenizer=None)
    commit = committed_model(tmp_path, recipe)
    config = EVALUATIONS.parse({"kind": "proxy", "name": "held-out", "data": DATA})
    result = evaluate(load_model(commit), commit, config)
    assert result.status == "failed"
    assert "this objective draws no labels to classify" in str(result.error)
    assert "\n" not in str(result.error)


def test_data_of_another_kind_are_refused_in_one_line(tmp_path: Path) -> None:
    commit = committed_model(tmp_path, rotation())
    source = {"kind": "sprites", "samples": 16, "frames": 8, "size": 16}
    config = EVALUATIONS.parse({"kind": "proxy", "name": "films", "data": source})
    result = evaluate(load_model(commit), commit, config)
    assert "no image member" in str(result.error)
    assert "\n" not in str(result.error)


def test_shipped_recipes_ask_it_of_objectives_that_answer() -> None:
    asked = []
    for name in shipped():
        recipe = load_recipe(name)
        if "proxy" in map(EVALUATIONS.kind_of, recipe.evaluations):
            asked.append(name)
            objective = small(OBJECTIVES.kind_of(recipe.objective))
            metrics = objective(random_batch(objective, 8, AROUND.size)).metrics
            assert "accuracy" in metrics, name
            assert objective.chance is not None or "chance" in metrics, name
    assert len(asked) > 5
