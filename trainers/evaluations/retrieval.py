"""Retrieval between pictures and captions. N pictures, Q distinct captions, D dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from pipelines import core
from pipelines.shards.url import Url
from pipelines.views.text import Template
from trainers.core.evaluation import Cell, Encoders, EvaluationData, GalleryRow, Load, Outcome
from trainers.gallery import SHOWN, names_row, picture, pictures_row
from trainers.labels import Name, distinct, encode, filled, hash_order
from trainers.neighbours import top_k
from trainers.prompts import embed_captions, told_apart
from trainers.statistics import bootstrap_interval, share

_RANKS = (1, 5, 10)


class Retrieval:
    """Is what belongs together among the k nearest? Recall at 1, 5 and 10, both ways.

    Image to text: the captions that the model can tell apart are ranked for every picture. Text to
    image: the pictures are ranked for every such caption, and any picture
    with that caption is right. The guesser ranks pictures at random.
    """

    class Config(core.Config):
        """The data, its captions, and how they are prompted.

        Attributes:
            name: Of the data set, for tables.
            data: URL pattern of the shards.
            caption: Text field that holds the caption.
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
        given = filled(data, "caption", config.caption, config.data)
        captions = told_apart(model, given, (config.template,))
        queries = distinct(captions, config.caption, config.data)
        labels = encode(captions, queries)  # [N]
        texts = embed_captions(model, queries, (config.template,))  # [Q, D]
        images = model.embed_images(data.images)  # [N, D]
        to_text = _Ranking(*top_k(images, texts, _RANKS[-1]))
        to_image = _Ranking(*top_k(texts, images, _RANKS[-1]))
        text_hits = to_text.places == labels[:, None]
        image_hits = labels[to_image.places] == torch.arange(len(queries))[:, None]
        rows = (
            *_text_to_image(
                data, captions, queries, to_image, config.gallery - config.gallery // 2
            ),
            *_image_to_text(data, captions, queries, to_text, config.gallery // 2),
        )
        return Outcome(
            metrics={
                **{f"image_to_text_r{k}": share(text_hits[:, :k].any(1)) for k in _RANKS},
                **{f"text_to_image_r{k}": share(image_hits[:, :k].any(1)) for k in _RANKS},
            },
            headline="text_to_image_r1",
            chance=_chance(labels),
            examples=len(queries),
            interval=bootstrap_interval(image_hits[:, 0]),
            gallery=rows,
        )


@dataclass(frozen=True)
class _Ranking:
    scores: Tensor
    places: Tensor


def _chance(labels: Tensor) -> float:
    # A random picture is right for a query with the share of pictures that
    # have its caption: 1 / Q on average, however unequal those shares are.
    return float(torch.bincount(labels).double().mean()) / len(labels)


def _text_to_image(
    data: EvaluationData,
    captions: Sequence[str],
    queries: Sequence[str],
    ranking: _Ranking,
    count: int,
) -> Iterator[GalleryRow]:
    for i in hash_order(queries)[:count]:
        cells = [
            picture(data.images[place], captions[place], truth=queries[i])
            for place in ranking.places[i, :SHOWN].tolist()
        ]
        query = Cell(text=queries[i], mark="query")
        yield pictures_row("text to image", query, cells, ranking.scores[i, :SHOWN].tolist())


def _image_to_text(
    data: EvaluationData,
    captions: Sequence[str],
    queries: Sequence[str],
    ranking: _Ranking,
    count: int,
) -> Iterator[GalleryRow]:
    for i in hash_order(data.keys)[:count]:
        names = [queries[place] for place in ranking.places[i, :SHOWN].tolist()]
        query = picture(data.images[i], captions[i])
        scores = ranking.scores[i, :SHOWN].tolist()
        yield names_row("image to text", query, names, scores, captions[i])
