from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from pipelines.core.batch import Batch
from tests.trainers.conftest import AROUND, random_batch
from trainers.core.engine import EngineConfig
from trainers.core.objective import LossOutput, Objective
from trainers.kept import kept_per_sample, whole_per_sample
from trainers.objectives import OBJECTIVES

INSIDE, HIDDEN = 12, 40


class Block(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, INSIDE)

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(rows).relu())
        return out


class Rows(Objective):
    """Keeps what can be counted by hand: each block's input and its hidden layer."""

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        self.views = {}
        self.blocks = nn.ModuleList([Block(INSIDE) for _ in range(count)])

    def forward(self, batch: Batch) -> LossOutput:
        rows = batch.views["rows"]
        for block in self.blocks:
            rows = block(rows)
        return LossOutput(rows.sum(), {})

    def encoders(self) -> Mapping[str, nn.Module]:
        return {}


def batch(size: int = 8) -> Batch:
    numbers = torch.arange(size)
    return Batch(numbers, numbers, {"rows": torch.rand(size, INSIDE)})


@pytest.mark.parametrize("compile_", [False, True])
def test_inputs_and_hidden_layers_are_kept(compile_: bool) -> None:
    found = kept_per_sample(Rows(3), batch(), EngineConfig(compile=compile_))
    assert found == 4 * 3 * (INSIDE + HIDDEN)


def test_low_precision_keeps_the_views_and_half_as_many_bytes_of_the_rest() -> None:
    found = kept_per_sample(Rows(3), batch(), EngineConfig(precision="bf16"))
    assert found == 4 * INSIDE + 2 * 3 * (INSIDE + HIDDEN)


def test_what_is_computed_again_is_kept_for_one_block() -> None:
    engine = EngineConfig(checkpoint_activations=True)
    assert kept_per_sample(Rows(3), batch(), engine) == 4 * (3 * INSIDE + HIDDEN)


def test_a_single_sample_counts_all_that_it_keeps() -> None:
    assert kept_per_sample(Rows(), batch(1), EngineConfig()) == 4 * (INSIDE + HIDDEN)


def test_compiling_keeps_less_of_a_transformer_and_changes_no_objective() -> None:
    tower = {"kind": "vit", "width": 32, "layers": 2, "heads": 2, "patch": 8}
    config = OBJECTIVES.parse({"kind": "simclr", "image": tower})
    torch.manual_seed(0)
    objective = OBJECTIVES.build(config, AROUND)
    views = random_batch(objective, 8, 16)
    before = objective(views).loss
    plain, fused = (
        kept_per_sample(objective, views, EngineConfig(precision="bf16", compile=compile_))
        for compile_ in (False, True)
    )
    assert 0 < fused < plain
    assert torch.equal(objective(views).loss, before)


def test_compiled_blocks_that_are_computed_again_keep_their_inputs() -> None:
    engine = EngineConfig(checkpoint_activations=True, compile=True)
    found = kept_per_sample(Rows(3), batch(), engine)
    assert found == 4 * (3 * INSIDE + HIDDEN)


def test_of_samples_that_are_not_compared_the_views_are_held_whole() -> None:
    assert whole_per_sample(Rows(3), batch(), EngineConfig()) == 4 * INSIDE


def test_words_that_are_predicted_are_held_whole() -> None:
    around = AROUND
    torch.manual_seed(0)
    config = OBJECTIVES.parse({"kind": "next_token"})
    objective = OBJECTIVES.build(config, around)
    views = random_batch(objective, 8, 16)
    engine = EngineConfig()
    whole = whole_per_sample(objective, views, engine)
    logits = 4 * (around.length - 1) * around.vocabulary
    assert logits <= whole < kept_per_sample(objective, views, engine)


class Normalised(Rows):
    """As on a GPU: what is normalised, and comes of it, is in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(INSIDE, HIDDEN), nn.LayerNorm(HIDDEN)
        self.second = nn.Linear(HIDDEN, INSIDE)

    def forward(self, batch: Batch) -> LossOutput:
        return LossOutput(self.second(self.norm(self.first(batch.views["rows"]))).sum(), {})


def test_norms_keep_their_inputs_in_single_precision() -> None:
    found = kept_per_sample(Normalised(), batch(), EngineConfig(precision="bf16"))
    statistics = 2 * 4
    views, cast = 4 * INSIDE, 2 * INSIDE
    assert found == views + cast + 4 * HIDDEN + statistics + 2 * HIDDEN
