"""A linear classifier on frozen features of the few labelled pictures."""

from __future__ import annotations

from pipelines import core
from trainers.evaluations.linear_probe import Candidates, learn
from trainers.finetune_task import ROWS, Learned, Score, Task, outputs, tower_weights
from trainers.gallery import SHOWN, named_rows
from trainers.labels import labelled_outcome


class Probe:
    """The tower stays as it is; a linear head is fitted, as in the evaluation ``linear_probe``."""

    class Config(core.Config):
        """The fit.

        Attributes:
            l2: Weights of the penalty, of which the best on a held-out tenth is taken.
        """

        l2: Candidates = (1e-1, 1e-2, 1e-3, 1e-4)

    def __init__(self, config: Config):
        self.config = config

    def run(self, task: Task) -> Learned:
        """Fit the head and classify every set.

        Raises:
            UserError: Features are not finite.
        """
        reference = outputs(task.tower, task.labelled.reference.images, task.device)
        probe = learn(reference, task.labelled, self.config.l2)
        scores = []
        for name, labelled in task.sets.items():
            features = outputs(task.tower, labelled.test.images, task.device)
            shares, places = probe.classify(features, SHOWN)
            right = places[:, 0] == labelled.test_labels
            rows = named_rows(labelled, shares, places, ROWS)
            outcome = labelled_outcome(labelled, right, rows)
            scores.append(Score(stage="probe", dataset=name, outcome=outcome))
        return Learned(tuple(scores), {**tower_weights(task.tower), **probe.head()})
