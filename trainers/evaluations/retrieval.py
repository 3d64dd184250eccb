"""Retrieval between pictures and captions. N pictures, Q distinct captions, D dimensions.

P is how many pairs of both belong together: N, where a picture has one caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pipelines import core
from pipelines.shards.url import Url
from pipelines.views.text import Template
from trainers.core.evaluation import Cell, Encoders, EvaluationData, GalleryRow, Load, Outcome
from trainers.gallery import SHOWN, picture, pictures_row
from trainers.labels import Name, distinct, encode, hash_order, listed
from trainers.neighbours import top_k
from trainers.prompts import embed_captions, told_apart
from trainers.statistics import bootstrap_interval, share

_RANKS = (1, 5, 10)
_RESAMPLES, _SEED = 2000, 0
_TAILS = (0.025, 0.975)


class Retrieval:
    """Is what belongs together among the k nearest? Recall at 1, 5 and 10, both ways.

    Image to text: the captions that the model can tell apart are ranked for every picture, and any
    of its own is right. Text to image: the pictures are ranked for every such caption, and any
    picture with that caption is right. So it is with five captions a picture as well, as in COCO
    and Flickr30k (Karpathy and Fei-Fei, 2015, arXiv:1412.2306). The guesser ranks pictures at
    random. The interval is over captions, of which those of one picture stay together.
    """

    class Config(core.Config):
        """The data, its captions, and how they are prompted.

        Attributes:
            name: Of the data set, for tables.
            data: URL pattern of the shards.
            caption: Text field that holds the caption, or several: ``json.captions[]``.
            template: Prompt.
            gallery: Rows of pictures in the report, half of them each way.
        """

        name: Name
        data: Url
        caption: str = "txt"
        template: Template = "{}"
        gallery: int = Field(12, ge=0)

    def __init__(self, config: Config):
        self.config = config

    def run(self, model: Encoders, load: Load) -> Outcome:
        """Measure a model.

        Raises:
            UserError: Captions are missing or all the same, or the model has no text tower.
        """
        config = self.config
        data = load(config.data, {"caption": config.caption})
        given = listed(data, "caption", config.caption, config.data)
        captions = _told_apart(model, given, config.template)
        every = [caption for own in captions for caption in own]  # [P]
        queries = distinct(every, config.caption, config.data)
        pairs = _Pairs.of(captions, encode(every, queries))
        texts = embed_captions(model, queries, (config.template,))  # [Q, D]
        images = model.embed_images(data.images)  # [N, D]
        to_text = _Ranking(*top_k(images, texts, _RANKS[-1]))
        to_image = _Ranking(*top_k(texts, images, _RANKS[-1]))
        text_hits = pairs.belong(torch.arange(len(data))[:, None], to_text.places)
        image_hits = pairs.belong(to_image.places, torch.arange(len(queries))[:, None])
        half = config.gallery // 2
        rows = (
            *_text_to_image(data, captions, queries, to_image, config.gallery - half),
            *_image_to_text(data, captions, queries, to_text, half),
        )
        return Outcome(
            metrics={
                **{f"image_to_text_r{k}": share(text_hits[:, :k].any(1)) for k in _RANKS},
                **{f"text_to_image_r{k}": share(image_hits[:, :k].any(1)) for k in _RANKS},
            },
            headline="text_to_image_r1",
            chance=pairs.chance(len(data)),
            examples=len(queries),
            interval=interval(image_hits[:, 0], pairs.owners()),
            gallery=rows,
        )


@dataclass(frozen=True)
class _Ranking:
    scores: Tensor
    places: Tensor


@dataclass(frozen=True)
class _Pairs:
    """Which pictures and captions belong together.

    Attributes:
        pictures: Of each pair, ascending. [P] int64
        captions: Of each pair. [P] int64
    """

    pictures: Tensor
    captions: Tensor

    @classmethod
    def of(cls, own: Sequence[Sequence[str]], captions: Tensor) -> _Pairs:
        """Pair N pictures with their captions, whose numbers follow one another. [P] int64."""
        counts = torch.tensor([len(some) for some in own])
        return cls(torch.arange(len(own)).repeat_interleave(counts), captions)

    def belong(self, pictures: Tensor, captions: Tensor) -> Tensor:
        """Whether they do. [..., K] int64 each -> [..., K] bool."""
        together = self.pictures * self._many + self.captions
        return torch.isin(pictures * self._many + captions, together)

    def chance(self, pictures: int) -> float:
        """Share of captions that the first of so many pictures, in any order, is right for."""
        # For one caption that is the share of pictures that have it: 1 / Q on average where each
        # has one, however unequal those shares are.
        return float(torch.bincount(self.captions).double().mean()) / pictures

    def owners(self) -> Tensor:
        """The first picture of every caption. [Q] int64."""
        first = torch.full((self._many,), int(self.pictures.max()))
        return first.scatter_reduce(0, self.captions, self.pictures, "amin")

    @property
    def _many(self) -> int:
        return int(self.captions.max()) + 1


def _told_apart(
    model: Encoders, captions: Sequence[Sequence[str]], template: Template
) -> list[list[str]]:
    """Captions of every picture as the model reads them, each of them once."""
    read = iter(told_apart(model, [text for own in captions for text in own], (template,)))
    return [list(dict.fromkeys(islice(read, len(own)))) for own in captions]


def interval(right: Tensor, owners: Tensor) -> tuple[float, float]:
    """Bootstrap 95 % interval of the share of right captions, whose pictures are resampled.

    The captions of one picture are about as hard to find as one another: taken for independent,
    five of them would make the interval narrower than five pictures do. One that several pictures
    have is resampled with the first, so that where each picture has one, captions are resampled.

    Args:
        right: [Q] bool, Q > 0.
        owners: The picture that each caption goes with. [Q] int64

    Returns:
        Low and high end, in [0, 1].
    """
    _, places, counts = np.unique(owners.numpy(), return_inverse=True, return_counts=True)
    pictures = len(counts)
    if pictures == len(right) or share(right) in (0.0, 1.0):
        return bootstrap_interval(right[:pictures])  # of as many independent answers
    hits = np.bincount(places, weights=right.numpy())
    kinds, often = np.unique(np.stack([hits, counts], 1), axis=0, return_counts=True)
    # N draws with replacement have a multinomial number of each kind of picture, so that one draw
    # of it stands for a whole resample, exactly.
    random = np.random.default_rng(_SEED)
    found, asked = (random.multinomial(pictures, often / pictures, _RESAMPLES) @ kinds).T
    low, high = np.quantile(found / asked, _TAILS)
    return float(low), float(high)


def _text_to_image(
    data: EvaluationData,
    captions: Sequence[Sequence[str]],
    queries: Sequence[str],
    ranking: _Ranking,
    count: int,
) -> Iterator[GalleryRow]:
    for i in hash_order(queries)[:count]:
        truth = queries[i]
        cells = [
            picture(data.images[place], _shown(captions[place], truth), truth=truth)
            for place in ranking.places[i, :SHOWN].tolist()
        ]
        query = Cell(text=truth, mark="query")
        yield pictures_row("text to image", query, cells, ranking.scores[i, :SHOWN].tolist())


def _image_to_text(
    data: EvaluationData,
    captions: Sequence[Sequence[str]],
    queries: Sequence[str],
    ranking: _Ranking,
    count: int,
) -> Iterator[GalleryRow]:
    for i in hash_order(data.keys)[:count]:
        names = [queries[place] for place in ranking.places[i, :SHOWN].tolist()]
        cells = [
            Cell(text=name, mark="right" if name in captions[i] else "wrong") for name in names
        ]
        query = picture(data.images[i], " / ".join(captions[i]))
        yield pictures_row("image to text", query, cells, ranking.scores[i, :SHOWN].tolist())


def _shown(captions: Sequence[str], truth: str) -> str:
    """The one of a picture's captions that is asked for, or the first."""
    return truth if truth in captions else captions[0]
