"""Tell the next token of a text from those before it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from pipelines import core
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.decode.tokenizer import PAD
from pipelines.views import TextView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.losses.tokens import answers, token_loss
from trainers.models.text_transformer import TextTransformer


class NextToken(ComparingObjective):
    """Each token from those before it, the end of a text too (Radford et al., 2018, GPT).

    The first token, which is the start unless a long text is read from its middle, is not told.
    """

    repeats = True

    class Config(core.Config):
        """The tower (no other is blind to what comes after) and what it reads.

        Attributes:
            tower: Text tower.
            field: Of the texts; from long ones a random piece.
        """

        tower: TextTransformer.Config = TextTransformer.Config()
        field: str = "caption"

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        if not surroundings.vocabulary:
            raise ConfigError("this objective needs texts: set data.decode.text and tokenizer")
        self.views = {"text": TextView(field=config.field, piece="random")}
        self.tower = TextTransformer(config.tower, surroundings)
        self.head = nn.Linear(self.tower.width, surroundings.vocabulary)

    def encode(self, batch: Batch) -> Rows:
        """States after all tokens. [B, L, width]."""
        return {"states": self.tower.states(batch.views["text"])}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Tell the tokens of the global batch."""
        tokens = batch.views["text"]
        told = tokens[:, 1:] != PAD
        logits = self.head(rows["states"][:, :-1][told])
        targets = tokens[:, 1:][told]
        return LossOutput(token_loss(logits, targets), answers(logits, targets, told.sum(1)))

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower."""
        return {"text": self.tower}
