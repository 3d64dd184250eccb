from __future__ import annotations

import math

import pytest
import torch

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.decode.tokenizer import END, PAD, START
from tests.trainers.conftest import random_batch
from tests.trainers.two_workers import assert_two_equal_one, small
from trainers.core.objective import Surroundings
from trainers.objectives.next_token import NextToken

KIND = "next_token"


def test_two_workers_are_one() -> None:
    assert_two_equal_one(KIND)


def test_the_loss_equals_its_formula() -> None:
    objective = small(KIND)
    batch = random_batch(objective, 8, 16)
    losses, right = [], 0
    with torch.no_grad():
        for text in batch.views["text"]:
            for place in range(1, int((text != PAD).sum())):
                # What comes after is not even there.
                states = objective.tower.states(text[None, :place])
                row, target = objective.head(states)[0, -1].tolist(), int(text[place])
                losses.append(-row[target] + math.log(sum(math.exp(value) for value in row)))
                right += row[target] == max(row)
    output = objective(batch)
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    assert output.metrics["accuracy"].item() == pytest.approx(right / len(losses))
    assert output.metrics["answers"].item() == pytest.approx(len(losses) / 8)


def test_it_learns_a_language_up_to_its_entropy() -> None:
    """Words that go round: only the first one and the end, which comes at random, are open."""
    torch.manual_seed(0)
    config = NextToken.Config(tower={"width": 32, "layers": 1, "heads": 2})
    objective = NextToken(config, Surroundings(size=0, vocabulary=13, length=8))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)

    def draw(count: int, seed: int) -> Batch:
        random = torch.Generator().manual_seed(seed)
        first = torch.randint(0, 10, (count, 1), generator=random)
        tokens = torch.cat([torch.full((count, 1), START), 3 + (first + torch.arange(7)) % 10], 1)
        ends = torch.randint(2, 8, (count,), generator=random)
        tokens[torch.arange(count), ends] = END
        tokens[torch.arange(8) > ends[:, None]] = PAD
        return Batch(torch.arange(count), torch.arange(count), {"text": tokens})

    for step in range(200):
        objective(draw(64, step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        loss = objective(draw(1000, 9999)).loss.item()
    # One of 10 first words, and one of 6 lengths, over the 4.5 tokens that a text has on average.
    entropy = (math.log(10) + math.log(6)) / 4.5
    assert entropy - 0.03 < loss < 1.1 * entropy


def test_without_a_tokenizer_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set data\.decode\.text and tokenizer"):
        NextToken(NextToken.Config(), Surroundings(size=0))
