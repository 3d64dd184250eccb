"""The nearest of the few labelled pictures."""

from __future__ import annotations

from pydantic import Field

from pipelines import core
from trainers.finetune_task import ROWS, Learned, Score, Task, outputs, tower_weights
from trainers.gallery import SHOWN, choose, neighbour_rows
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
            cosines, places = top_k(features, reference, max(self.config.k, SHOWN))
            k = min(self.config.k, cosines.shape[1])
            voters = labelled.reference_labels[places[:, :k]]
            right = vote(cosines[:, :k], voters, self.config.temperature) == labelled.test_labels
            chosen = choose(right, labelled.test.keys, ROWS)
            rows = neighbour_rows(labelled, chosen, cosines, places)
            outcome = labelled_outcome(labelled, right, tuple(rows))
            scores.append(Score(stage="knn", dataset=name, outcome=outcome))
        return Learned(tuple(scores), tower_weights(task.tower))
