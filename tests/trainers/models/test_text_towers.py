from __future__ import annotations

import pytest
import torch

from trainers.core.objective import Surroundings
from trainers.models import TOWERS
from trainers.models.text_encoder import TextEncoder
from trainers.models.text_transformer import TextTransformer

TEXT = torch.tensor([[1, 250, 50, 60, 2, 0, 0, 0]])


def build(kind: str) -> TextTransformer | TextEncoder:
    torch.manual_seed(0)
    config = TOWERS.parse({"kind": kind, "width": 16, "layers": 2, "heads": 2})
    around = Surroundings(size=0, vocabulary=300, length=8)
    tower: TextTransformer | TextEncoder = TOWERS.build(config, around).eval()
    return tower


def changed(tower: TextTransformer | TextEncoder, place: int) -> list[bool]:
    """Which tokens' states change when one token does."""
    other = TEXT.clone()
    other[0, place] = 70
    difference = (tower.states(other) - tower.states(TEXT)).abs().amax(2)[0]
    return [value > 1e-5 for value in difference[:5].tolist()]


def test_a_causal_tower_is_blind_to_what_comes_after() -> None:
    assert changed(build("text_transformer"), 2) == [False, False, True, True, True]


def test_a_bidirectional_tower_sees_both_sides() -> None:
    assert changed(build("text_encoder"), 2) == [True] * 5


def test_a_causal_tower_reads_its_features_at_the_end() -> None:
    """And not at the token with the highest number, as the library does for an end token of 2."""
    tower = build("text_transformer")
    # Close and not equal: some processors round by where in memory a number is.
    torch.testing.assert_close(tower(TEXT), tower.states(TEXT)[:, 4])
    piece = tower(TEXT[:, :4])  # without an end
    torch.testing.assert_close(piece, tower.states(TEXT)[:, 3])


def test_features_of_a_bidirectional_tower_are_the_mean_of_its_tokens() -> None:
    tower = build("text_encoder")
    torch.testing.assert_close(tower(TEXT), tower.states(TEXT)[:, :5].mean(1))


@pytest.mark.parametrize("kind", ["text_transformer", "text_encoder"])
def test_the_order_of_words_matters(kind: str) -> None:
    tower = build(kind)
    assert (tower(TEXT) - tower(TEXT[:, [0, 2, 1, 3, 4, 5, 6, 7]])).abs().max() > 1e-4
