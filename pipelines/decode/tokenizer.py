"""Byte-pair tokenizer (Sennrich et al., 2016, arXiv:1508.07909), trained on captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from pipelines.core import Config, DataError

PAD, START, END = 0, 1, 2
_SPECIAL = ["<pad>", "<start>", "<end>"]


class TokenizerConfig(Config):
    """Size of the vocabulary and length of a text, in tokens with start and end."""

    vocabulary: int = Field(default=2048, ge=259)  # 256 bytes and the special tokens
    length: int = Field(default=24, ge=3)


class Tokenizer:
    """Texts to token ids: lower case, byte level, so that no text is unknown."""

    def __init__(self, backend: Backend, length: int):
        backend.encode_special_tokens = True  # a caption that says "<pad>" is text like any other
        self._backend = backend
        self.length = length

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(self._backend.get_vocab_size())

    @classmethod
    def train(cls, texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
        """Learn a vocabulary.

        Raises:
            DataError: There is no text.
        """
        backend = Backend(models.BPE())
        backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=config.vocabulary,
            special_tokens=_SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        seen = [text for text in texts if text]
        if not seen:
            raise DataError("no caption to learn a vocabulary from; check decode.text")
        backend.train_from_iterator(seen, trainer)
        return cls(backend, config.length)

    def encode(
        self, texts: Sequence[str], pieces: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.int64]:
        """Encode texts.

        Args:
            texts: N texts.
            pieces: Which piece of each text that is too long, from its first to its last; None
                for its beginning, with an end put behind it. [N] in [0, 1)

        Returns:
            Start, tokens, end, padded with ``PAD``; a piece has start and end only where the
            text has them. [N, L] int64
        """
        ids = np.full((len(texts), self.length), PAD, dtype=np.int64)
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        for number, (row, encoding) in enumerate(zip(ids, encodings, strict=True)):
            if pieces is None:
                tokens = [START, *encoding.ids[: self.length - 2], END]
            else:
                tokens = _piece([START, *encoding.ids, END], self.length, float(pieces[number]))
            row[: len(tokens)] = tokens
        return ids

    def to_json(self) -> str:
        """Serialise; holds data only."""
        return str(self._backend.to_str())

    @classmethod
    def from_json(cls, text: str, length: int) -> Tokenizer:
        """Load a serialised tokenizer.

        Raises:
            DataError: Not a tokenizer.
        """
        try:
            backend = Backend.from_str(text)
        except Exception as error:  # the binding raises bare Exception
            raise DataError(f"tokenizer.json is damaged ({error}); delete the run") from None
        # What this project does not write may be of any length.
        backend.no_padding()
        backend.no_truncation()
        ids = backend.get_vocab().values()
        if sorted(ids) != list(range(len(ids))):
            raise DataError("tokenizer.json is damaged (its ids have gaps); delete the run")
        return cls(backend, length)


def _piece(tokens: list[int], length: int, draw: float) -> list[int]:
    first = int(draw * max(1, len(tokens) - length + 1))
    return tokens[first : first + length]
