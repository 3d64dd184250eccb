"""CLIP's text transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines import core
from pipelines.decode.tokenizer import END, PAD, START
from trainers.core.objective import Surroundings
from trainers.models._embedding import lower_residual


class TextTransformer(nn.Module):
    """Causal transformer that reads its features at the last token (arXiv:2103.00020)."""

    class Config(core.Config):
        """Sizes: width, layers and heads."""

        width: int = 192
        layers: int = 2
        heads: int = 4

    def __init__(self, config: Config, surroundings: Surroundings):
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.width = config.width
        self._model = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=surroundings.vocabulary,
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=surroundings.length,
                attention_dropout=0.0,
                pad_token_id=PAD,
                bos_token_id=START,
                eos_token_id=END,
            )
        )
        lower_residual(self._model.embeddings)

    def forward(self, tokens: Tensor) -> Tensor:
        """Features, at the last token that is not padding. [B, L] -> [B, width]."""
        # Not the library's own: with 2 as the end token it reads at the token of highest number.
        last = (tokens != PAD).sum(1) - 1
        return self.states(tokens)[torch.arange(len(tokens), device=tokens.device), last]

    def states(self, tokens: Tensor) -> Tensor:
        """What is known after each token. [B, L] -> [B, L, width]."""
        # Without a mask of the padding: it follows the text, and no token looks ahead. Attention
        # that is causal and nothing else has faster kernels.
        output = self._model(input_ids=tokens)
        found: Tensor = output.last_hidden_state
        return found
