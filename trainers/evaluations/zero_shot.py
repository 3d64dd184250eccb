"""Classification without training. N pictures, C classes, K = min(5, C), D dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from pipelines import core
from pipelines.shards.url import Url
from pipelines.views.text import Template
from trainers.core.evaluation import Encoders, EvaluationData, GalleryRow, Load, Outcome
from trainers.gallery import SHOWN, choose, names_row, picture
from trainers.labels import Name, OneText, distinct, encode, filled
from trainers.neighbours import top_k
from trainers.prompts import embed_captions, told_apart
from trainers.statistics import bootstrap_interval, share


class ZeroShot:
    """Which caption fits a picture best? (Radford et al., 2021, CLIP, arXiv:2103.00020).

    The classes are the captions of the data that the model can tell apart; ``top1`` and ``top5``
    are shares of pictures. The guesser picks a class at random.
    """

    class Config(core.Config):
        """The data, its captions, and how they are prompted.

        Attributes:
            name: Of the data set, for tables.
            data: URL pattern of the shards.
            caption: Text field that holds the caption.
            templates: Prompts whose embeddings are averaged.
            gallery: Rows of pictures in the report.
        """

        name: Name
        data: Url
        caption: OneText = "txt"
        templates: tuple[Template, ...] = Field(
            ("{}", "a picture of {}", "a photo of {}"), min_length=1
        )
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
        captions = told_apart(model, given, config.templates)
        classes = distinct(captions, config.caption, config.data)
        class_embeddings = embed_captions(model, classes, config.templates)  # [C, D]
        scores, places = top_k(model.embed_images(data.images), class_embeddings, 5)  # [N, K]
        hits = places == encode(captions, classes)[:, None]
        top1 = hits[:, 0]
        return Outcome(
            metrics={"top1": share(top1), "top5": share(hits.any(1))},
            headline="top1",
            chance=1 / len(classes),
            examples=len(data),
            interval=bootstrap_interval(top1),
            gallery=self._gallery(data, captions, classes, top1, scores, places),
        )

    def _gallery(
        self,
        data: EvaluationData,
        captions: Sequence[str],
        classes: Sequence[str],
        right: Tensor,
        scores: Tensor,
        places: Tensor,
    ) -> tuple[GalleryRow, ...]:
        return tuple(
            names_row(
                group,
                picture(data.images[i], captions[i]),
                [classes[place] for place in places[i, :SHOWN].tolist()],
                scores[i, :SHOWN].tolist(),
                captions[i],
            )
            for group, i in choose(right, data.keys, self.config.gallery)
        )
