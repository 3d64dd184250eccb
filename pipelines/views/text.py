"""Views of texts."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field
from torch import Tensor

from pipelines.core.randomness import uniform
from pipelines.views.rows import Rows
from pipelines.views.upload import upload
from pipelines.views.view import View

_STREAM = 1024


def _one_place(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(f"'{template}' needs one {{}}, where the caption goes")
    return template


Piece = Literal["beginning", "random"]
Template = Annotated[str, AfterValidator(_one_place)]
"""A text with one ``{}``, where the caption goes; all else in it stands for itself."""
Templates = Annotated[tuple[Template, ...], Field(min_length=1)]


class TextView(View):
    """Token ids of a text field ([B, L] int64, zero-padded).

    Attributes:
        field: Of the texts.
        templates: One is drawn for each text.
        extras: A field of comma-separated phrases, appended at random.
        extras_probability: With which one is appended.
        piece: Of texts that are too long: their beginning, or at random any piece.
        stream: Views with different numbers draw different random numbers.
    """

    field: str = "caption"
    templates: Templates = ("{}",)
    extras: str | None = None
    extras_probability: float = 0.0
    piece: Piece = "beginning"
    stream: int = 0

    def maker(self) -> Callable[[Rows], Tensor]:
        """Nothing to prepare."""
        return self._make

    def _make(self, rows: Rows) -> Tensor:
        extras = rows.texts(self.extras) if self.extras else None
        texts = compose(rows.texts(self.field), extras, self, rows.keys)
        if self.piece == "beginning":
            return rows.tokens(texts)
        return rows.tokens(texts, uniform(rows.keys, _STREAM + self.stream, 4)[:, 3])


class IdentityView(View):
    """A 64-bit hash of a text field ([B] int64).

    Texts that are equal to the tokenizer have equal numbers: a tower cannot tell them apart. They
    may differ in capitals, or after what it reads of them. Of pieces drawn at random nobody knows
    what is read, so that texts are equal only as a whole.

    Attributes:
        field: Of the texts.
        templates: As in the view of the texts: the longest leaves the least of a caption.
        piece: As in the view of the texts.
    """

    field: str = "caption"
    templates: Templates = ("{}",)
    piece: Piece = "beginning"

    def maker(self) -> Callable[[Rows], Tensor]:
        """Nothing to prepare."""
        return self._make

    def _make(self, rows: Rows) -> Tensor:
        texts = rows.texts(self.field)
        if self.piece == "random":
            return upload(_identities([_whole(text) for text in texts]), rows.device)
        template = _longest(self.templates, rows)
        seen = rows.readings([template.replace("{}", text) for text in texts])
        return upload(_identities(seen), rows.device)


def compose(
    texts: Sequence[str], extras: Sequence[str] | None, view: TextView, keys: Tensor
) -> list[str]:
    """Put every text into a template, at random with one of its extra phrases.

    Args:
        texts: B texts.
        extras: B comma-separated lists of phrases, or None.
        view: Templates and probabilities.
        keys: Keys of the samples. [B] int64
    """
    draws = uniform(keys, _STREAM + view.stream, 3).tolist()
    composed = []
    for place, (text, (pick, chance, which)) in enumerate(zip(texts, draws, strict=True)):
        phrases = [p for p in extras[place].split(", ") if p] if extras else []
        if phrases and chance < view.extras_probability:
            text = f"{text}, {phrases[int(which * len(phrases))]}"
        composed.append(view.templates[int(pick * len(view.templates))].replace("{}", text))
    return composed


def _longest(templates: Sequence[str], rows: Rows) -> str:
    """The one with most tokens before the caption: what comes behind is cut off first."""
    fronts = rows.readings([template.split("{}")[0].rstrip() for template in templates])
    lengths = [len(front.rstrip(b"\0")) for front in fronts]  # padding is zeros
    return templates[lengths.index(max(lengths))]


def _whole(text: str) -> bytes:
    """All of a text, in the tokenizer's capitals and forms of letters."""
    return unicodedata.normalize("NFKC", text).lower().encode()


def _identities(readings: Sequence[bytes]) -> npt.NDArray[np.int64]:
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in readings)
    return np.frombuffer(digests, dtype=np.int64)
