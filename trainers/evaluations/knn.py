"""Classification by K nearest neighbours. N test, M reference pictures, D dimensions."""

from __future__ import annotations

from pydantic import Field

from trainers.core.evaluation import Encoders, Load, Outcome
from trainers.gallery import SHOWN, choose, neighbour_rows, shown_rows
from trainers.labels import LabelledConfig, labelled_outcome, load_labelled
from trainers.neighbours import top_k, vote


class Knn:
    """Do a picture's nearest neighbours among labelled pictures have its label?

    What the model itself shows on some of the pictures goes to the report with them.
    Neighbours by cosine of frozen features vote with weight exp(cosine /
    temperature) (Wu et al., 2018, arXiv:1805.01978; Caron et al., 2021, DINO,
    arXiv:2104.14294). The guesser always names the reference's most frequent
    label. Labels that the reference lacks count as wrong; ``unknown_labels``
    is their share, and their classes count in ``balanced_accuracy``.
    """

    class Config(LabelledConfig):
        """The data and the vote.

        Attributes:
            k: Neighbours that vote; all, where the reference has fewer.
            temperature: Of the weights; the lower, the more the nearest counts.
        """

        k: int = Field(20, ge=1)
        temperature: float = Field(0.07, gt=0)

    def __init__(self, config: Config):
        self.config = config

    def run(self, model: Encoders, load: Load) -> Outcome:
        """Measure a model.

        Raises:
            UserError: Data or labels are missing, or the reference has one class only.
        """
        labelled = load_labelled(load, self.config)
        reference = model.features(labelled.reference.images)  # [M, D]
        features = model.features(labelled.test.images)  # [N, D]
        scores, places = top_k(features, reference, max(self.config.k, SHOWN))
        k = min(self.config.k, scores.shape[1])
        voters = labelled.reference_labels[places[:, :k]]
        answers = vote(scores[:, :k], voters, self.config.temperature)
        right = answers == labelled.test_labels
        chosen = choose(right, labelled.test.keys, self.config.gallery)
        rows = neighbour_rows(labelled, chosen, scores, places)
        if chosen:
            rows += shown_rows(model, labelled.test.images[[i for _, i in chosen]])
        return labelled_outcome(labelled, right, tuple(rows))
