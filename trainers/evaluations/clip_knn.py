"""Classification of films by K nearest neighbours. N test, M reference films, D dimensions."""

from __future__ import annotations

from collections import Counter

from pydantic import Field, model_validator

from pipelines import core
from pipelines.core import DataError
from trainers.apart import check_apart
from trainers.core.evaluation import Encoders, Load, Outcome
from trainers.labels import AnySource, Name, OneText, distinct, encode
from trainers.neighbours import top_k, vote
from trainers.statistics import balanced_accuracy, bootstrap_interval, share


class ClipKnn:
    """Do a film's nearest neighbours among labelled films have its label?

    Films are cut as in training, and not augmented. Neighbours vote as in ``knn`` (Wu et
    al., 2018, arXiv:1805.01978), by the features of the video tower. The guesser always
    names the reference's most frequent label. Labels that the reference lacks count as
    wrong; ``unknown_labels`` is their share.
    """

    class Config(core.Config):
        """The films and the vote.

        Attributes:
            name: Of the data set, for tables.
            data: Any source, or a URL pattern of tars: the films to classify.
            reference: The same of the labelled films to learn from.
            label: Text field of both that holds the label.
            samples: How many films to classify; all where there are fewer.
            references: How many films to learn from; all where there are fewer.
            k: Neighbours that vote; all, where the reference has fewer.
            temperature: Of the weights; the lower, the more the nearest counts.
        """

        name: Name
        data: AnySource
        reference: AnySource
        label: OneText = "json.group"
        samples: int = Field(default=1024, ge=1)
        references: int = Field(default=2048, ge=1)
        k: int = Field(20, ge=1)
        temperature: float = Field(0.07, gt=0)

        @model_validator(mode="after")
        def _apart(self) -> ClipKnn.Config:
            if self.data == self.reference:
                raise ValueError("data and reference are the same: every film would find itself")
            return self

    def __init__(self, config: Config):
        self.config = config

    def run(self, model: Encoders, load: Load) -> Outcome:
        """Measure a model.

        Raises:
            UserError: Films or labels are missing, the reference has one class only, or a shard
                is in both.
        """
        del load  # whole films would not fit into memory
        c = self.config
        check_apart(c.data, c.reference)
        reference, given = model.films(c.reference, c.label, c.references)
        features, asked = model.films(c.data, c.label, c.samples)
        if not all(given) or not all(asked):
            raise DataError(f"some films have no '{c.label}'; name another field as label")
        known = distinct(given, c.label, "reference")
        names = (*known, *sorted(set(asked).difference(known)))
        labels, voters = encode(asked, names), encode(given, names)
        scores, places = top_k(features, reference, c.k)
        right = vote(scores, voters[places], c.temperature) == labels
        frequent = min(Counter(given).items(), key=lambda found: (-found[1], found[0]))[0]
        return Outcome(
            metrics={
                "accuracy": share(right),
                "balanced_accuracy": balanced_accuracy(right, labels),
                "unknown_labels": share(labels >= len(known)),
            },
            headline="accuracy",
            chance=share(labels == names.index(frequent)),
            examples=len(labels),
            interval=bootstrap_interval(right),
        )
