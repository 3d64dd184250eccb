"""Tell masked tokens of a text from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import uniform
from pipelines.decode.tokenizer import END
from pipelines.views import TextView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.losses.tokens import answers, token_loss
from trainers.models.text_encoder import TextEncoder

_WHICH, _HOW, _OTHER = 1, 2, 3  # streams
_MASK, _RANDOM = 0.8, 0.1  # of the tokens to tell; the rest is left as it is


class MaskedLanguage(ComparingObjective):
    """Tokens from both sides of them (Devlin et al., 2019, BERT, arXiv:1810.04805).

    Of those to tell 80 % show the mask, which is a token of its own after the vocabulary, 10 %
    another token and 10 % are left. The metrics are over those that show the mask alone, since
    what is left is right by copying.
    """

    repeats = True

    class Config(core.Config):
        """The tower (no other can tell of each token what both sides say) and what it reads.

        Attributes:
            tower: Text tower.
            field: Of the texts; from long ones a random piece.
            masked: Share of a text's tokens that are to be told, at least one of them.
        """

        tower: TextEncoder.Config = TextEncoder.Config()
        field: str = "caption"
        masked: float = Field(default=0.15, gt=0, lt=1)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self._vocabulary, self._masked = surroundings.vocabulary, config.masked
        if not self._vocabulary:
            raise ConfigError("this objective needs texts: set data.decode.text and tokenizer")
        self.views = {"text": TextView(field=config.field, piece="random")}
        with_mask = replace(surroundings, vocabulary=self._vocabulary + 1)
        self.tower = TextEncoder(config.tower, with_mask)
        self.head = nn.Linear(self.tower.width, self._vocabulary)

    def encode(self, batch: Batch) -> Rows:
        """States of all tokens. [B, L, width]."""
        return {"states": self.tower.states(self._disturbed(batch)[1])}

    def _disturbed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Which tokens are to be told, and what the tower sees. [B, L] each."""
        tokens = batch.views["text"]
        hidden = chosen(tokens, batch.keys, self._masked)
        return hidden, disturb(tokens, hidden, batch.keys, self._vocabulary)

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Tell what was hidden, over all tokens of the global batch."""
        tokens = batch.views["text"]
        hidden, shown = self._disturbed(batch)
        logits, targets = self.head(rows["states"][hidden]), tokens[hidden]
        masked = shown == self._vocabulary
        which = masked[hidden]
        metrics = answers(logits[which], targets[which], masked.sum(1))
        return LossOutput(token_loss(logits, targets), metrics)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower."""
        return {"text": self.tower}


def chosen(tokens: Tensor, keys: Tensor, share: float) -> Tensor:
    """Draw the tokens that are to be told.

    Args:
        tokens: Token ids. [B, L] int64
        keys: Keys of the samples. [B] int64
        share: Of a text's tokens, without start, end and padding; rounded, but at least one
            where there is one.

    Returns:
        Which ones. [B, L] bool
    """
    words = tokens > END
    count = (share * words.sum(1)).round().clamp(min=1)
    drawn = uniform(keys, _WHICH, tokens.shape[1]).masked_fill(~words, 2.0)
    place = drawn.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return words & (place < count[:, None])


def disturb(tokens: Tensor, hidden: Tensor, keys: Tensor, vocabulary: int) -> Tensor:
    """Put the mask, another token or the token itself where one is to be told.

    Args:
        tokens: Token ids. [B, L] int64
        hidden: Those to tell. [B, L] bool
        keys: Keys of the samples. [B] int64
        vocabulary: Number of tokens; the mask comes after them.

    Returns:
        What the tower sees. [B, L] int64
    """
    length, words = tokens.shape[1], vocabulary - END - 1
    how = uniform(keys, _HOW, length)
    other = END + 1 + (uniform(keys, _OTHER, length) * words).long().clamp(max=words - 1)
    seen = torch.where(how < _MASK + _RANDOM, other, tokens)
    seen = torch.where(how < _MASK, vocabulary, seen)
    return torch.where(hidden, seen, tokens)
