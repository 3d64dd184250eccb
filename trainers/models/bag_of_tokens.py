"""Mean of token embeddings with a small perceptron: the cheapest text tower."""

from __future__ import annotations

from torch import Tensor, nn

from pipelines import core
from pipelines.decode.tokenizer import PAD
from trainers.core.objective import Surroundings


class BagOfTokens(nn.Module):
    """Mean of embeddings, then one hidden layer; blind to word order."""

    class Config(core.Config):
        """Width of embeddings and features."""

        width: int = 256

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.width = config.width
        self._embed = nn.Embedding(surroundings.vocabulary, config.width, padding_idx=PAD)
        self._mlp = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, 2 * config.width),
            nn.GELU(),
            nn.Linear(2 * config.width, config.width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Features. [B, L] -> [B, width]."""
        real = (tokens != PAD).to(self._embed.weight.dtype)[:, :, None]
        mean = (self._embed(tokens) * real).sum(1) / real.sum(1).clamp(min=1)
        features: Tensor = self._mlp(mean)
        return features
