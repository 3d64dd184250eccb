from __future__ import annotations

import math

import pytest
import torch

from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.decode.tokenizer import END, PAD, START
from tests.trainers.conftest import AROUND, random_batch
from tests.trainers.two_workers import assert_every_gradient_counts, assert_two_equal_one, small
from trainers.core.objective import Surroundings
from trainers.objectives.masked_language import MaskedLanguage, chosen, disturb

KIND = "masked_language"


def keys(count: int) -> torch.Tensor:
    return torch.randint(-(2**62), 2**62, (count,), generator=torch.Generator().manual_seed(0))


def texts(count: int, words: int, length: int) -> torch.Tensor:
    tokens = torch.full((count, length), PAD)
    tokens[:, 0], tokens[:, words + 1] = START, END
    tokens[:, 1 : words + 1] = torch.arange(3, 3 + words)
    return tokens


def test_two_workers_are_one() -> None:
    assert_two_equal_one(KIND)


def test_every_parameter_counts() -> None:
    assert_every_gradient_counts(KIND)


@pytest.mark.parametrize(("words", "share", "told"), [(20, 0.15, 3), (3, 0.15, 1), (0, 0.15, 0)])
def test_the_share_is_exact_and_at_least_one_of_the_words(
    words: int, share: float, told: int
) -> None:
    tokens = texts(500, words, 24)
    hidden = chosen(tokens, keys(500), share)
    assert (hidden.sum(1) == told).all()
    assert not hidden[tokens <= END].any()
    if words:
        often = hidden[:, 1 : words + 1].double().mean(0)
        expected = told / words
        assert (often - expected).abs().max() < 4 * math.sqrt(expected * (1 - expected) / 500)


def test_it_is_masked_replaced_or_left_in_berts_proportions() -> None:
    vocabulary, count = 300, 20_000
    tokens = torch.full((count, 1), 7)
    seen = disturb(tokens, torch.ones(count, 1, dtype=torch.bool), keys(count), vocabulary)
    masked, left = (seen == vocabulary).double().mean(), (seen == 7).double().mean()
    assert masked.item() == pytest.approx(0.8, abs=0.012)
    assert left.item() == pytest.approx(0.1 + 0.1 / 297, abs=0.01)
    others = seen[(seen != vocabulary) & (seen != 7)]
    assert others.min() == END + 1
    assert others.max() == vocabulary - 1


def test_what_is_not_told_is_shown() -> None:
    tokens = texts(100, 20, 24)
    hidden = chosen(tokens, keys(100), 0.15)
    assert torch.equal(disturb(tokens, hidden, keys(100), 300)[~hidden], tokens[~hidden])


def test_the_loss_equals_its_formula() -> None:
    objective = small(KIND)
    batch = random_batch(objective, 8, 16)
    tokens = batch.views["text"]
    hidden = chosen(tokens, batch.keys, 0.15)
    shown = disturb(tokens, hidden, batch.keys, AROUND.vocabulary)
    losses, right, masked = [], 0, 0
    with torch.no_grad():
        for text, known, told in zip(tokens, shown, hidden, strict=True):
            last = int((text != PAD).sum())  # each text by itself, without padding
            logits = objective.head(objective.tower.states(known[None, :last]))[0]
            for place in told.nonzero()[:, 0].tolist():
                row, target = logits[place].tolist(), int(text[place])
                losses.append(-row[target] + math.log(sum(math.exp(value) for value in row)))
                if known[place] == AROUND.vocabulary:
                    masked += 1
                    right += row[target] == max(row)
    output = objective(batch)
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    assert output.metrics["accuracy"].item() * masked == pytest.approx(right)
    assert output.metrics["answers"].item() * 8 == pytest.approx(masked)


def test_draws_follow_from_keys_alone() -> None:
    objective = small(KIND)
    batch = random_batch(objective, 8, 16)
    before = torch.get_rng_state()
    first = objective(batch).loss
    assert torch.equal(objective(batch).loss, first)
    assert torch.equal(torch.get_rng_state(), before)
    other = Batch(batch.samples, batch.keys + 1, batch.views)
    assert not torch.equal(objective(other).loss, first)


def test_it_learns_what_words_go_together() -> None:
    """Pairs of words that always come together: the other one tells a masked one."""
    torch.manual_seed(0)
    config = MaskedLanguage.Config(tower={"width": 32, "layers": 1, "heads": 2})
    objective = MaskedLanguage(config, Surroundings(size=0, vocabulary=24, length=4))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)

    def draw(count: int, seed: int) -> Batch:
        random = torch.Generator().manual_seed(seed)
        pair = torch.randint(0, 10, (count, 1), generator=random)
        ends = torch.tensor([[START, END]]).expand(count, -1)
        tokens = torch.cat([ends[:, :1], 3 + 2 * pair, 4 + 2 * pair, ends[:, 1:]], 1)
        drawn = torch.randint(-(2**62), 2**62, (count,), generator=random)
        return Batch(torch.arange(count), drawn, {"text": tokens})

    for step in range(120):
        objective(draw(64, step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    metrics = objective(draw(400, 1000)).metrics
    assert metrics["accuracy"] > 0.95
    assert metrics["chance"] < 0.15


def test_without_a_tokenizer_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set data\.decode\.text and tokenizer"):
        MaskedLanguage(MaskedLanguage.Config(), Surroundings(size=0))
