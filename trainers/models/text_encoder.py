"""Bidirectional transformer as text tower."""

from __future__ import annotations

from torch import Tensor, nn

from pipelines import core
from pipelines.decode.tokenizer import PAD
from trainers.core.objective import Surroundings
from trainers.models._transformer import encoder, positions


class TextEncoder(nn.Module):
    """Every token sees every other one (BERT, arXiv:1810.04805); features are their mean."""

    class Config(core.Config):
        """Sizes: width, layers and heads."""

        width: int = 192
        layers: int = 2
        heads: int = 4

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.width = config.width
        self._embed = nn.Embedding(surroundings.vocabulary, config.width)
        self._encoder = encoder(config.width, config.layers, config.heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Features. [B, L] -> [B, width]."""
        states, words = self.states(tokens), (tokens != PAD)[:, :, None]
        return (states * words).sum(1) / words.sum(1)

    def states(self, tokens: Tensor) -> Tensor:
        """What is known of each token; of no meaning where there is padding.

        Args:
            tokens: Token ids, none of all padding. [B, L] int64

        Returns:
            [B, L, width]
        """
        embedded = self._embed(tokens)
        placed = embedded + positions((tokens.shape[1],), self.width, embedded)
        found: Tensor = self._encoder(placed, src_key_padding_mask=tokens == PAD)
        return found
