"""Bag of token embeddings with a small perceptron: the cheapest text tower."""

from __future__ import annotations

from torch import Tensor, nn

from pipelines import core
from pipelines.decode.tokenizer import END, PAD
from trainers.core.objective import Surroundings


class BagOfTokens(nn.Module):
    """Sum of embeddings over the root of their number, then a linear and a curved part.

    Blind to word order.
    """

    class Config(core.Config):
        """Width of embeddings and features."""

        width: int = 256

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.width = config.width
        self._embed = nn.Embedding(surroundings.vocabulary, config.width, padding_idx=PAD)
        nn.init.normal_(self._embed.weight, std=0.5)
        self._straight = nn.Linear(config.width, config.width, bias=False)
        self._curved = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, 2 * config.width),
            nn.GELU(),
            nn.Linear(2 * config.width, config.width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Features. [B, L] -> [B, width]."""
        words = (tokens > END).to(self._embed.weight.dtype)[:, :, None]
        bag = (self._embed(tokens) * words).sum(1) / words.sum(1).clamp(min=1).sqrt()
        features: Tensor = self._straight(bag) + self._curved(bag)
        return features
