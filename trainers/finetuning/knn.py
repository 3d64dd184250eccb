"""The nearest of the few labelled pictures."""

from __future__ import annotations

from pydantic import Field

from pipelines import core
from trainers.finetune_task import Learned, Score, Task, outputs, tower_weights
from trainers.labels import labelled_outcome
from trainers.neighbours import top_k, vote


class Knn:
    """Nothing is trained: the nearest labelled pictures vote, as in the evaluation ``knn``."""

    class Config(core.Config):
        """The vote.

        Attributes:
            k: Neighbours that vote; all, where there are fewer.
            temperature: Of the weights; the lower, the more the nearest counts.
        """

        k: int = Field(20, ge=1)
        temperature: float = Field(0.07, gt=0)

    def __init__(self, config: Config):
        self.config = config

    def run(self, task: Task) -> Learned:
        """Let neighbours vote on every set.

        Raises:
            UserError: Features are not finite.
        """
        reference = outputs(task.tower, task.labelled.reference.images, task.device)
        scores = []
        for name, labelled in task.sets.items():
            features = outputs(task.tower, labelled.test.images, task.device)
            cosines, places = top_k(features, reference, self.config.k)
            voters = labelled.reference_labels[places]
            right = vote(cosines, voters, self.config.temperature) == labelled.test_labels
            outcome = labelled_outcome(labelled, right, ())
            scores.append(Score(stage="knn", dataset=name, outcome=outcome))
        return Learned(tuple(scores), tower_weights(task.tower))
