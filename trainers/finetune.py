"""The second phase: a pretrained tower and few labels."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pipelines.core import Config, ConfigError, DataError, validate
from pipelines.shards import storage
from trainers.apart import check_apart
from trainers.checkpoint import MODEL, Commit, find
from trainers.core.evaluation import Load
from trainers.core.objective import Surroundings
from trainers.evaluate import Loader
from trainers.few_labels import few
from trainers.finetune_recipe import FinetuneRecipe
from trainers.finetune_task import Learned, Mode, Score, Task
from trainers.finetuning import MODES
from trainers.labels import Labelled, LabelledConfig, load_labelled
from trainers.masks import with_masks
from trainers.model import RECIPE, load_model
from trainers.models import TOWERS

RESULTS = "results.json"


class FinetuneResult(Config):
    """What came of it, as filed in ``results.json``.

    Attributes:
        recipe: Its name.
        mode: What was done with the labels.
        checkpoint: Where the tower comes from; None for initial weights.
        digest: Of the checkpoint.
        samples: That the checkpoint was pretrained on.
        classes: Names, in the order of the head's outputs.
        labels: How many labels of each class were known; with masks, pictures that show it.
        pictures: How many pictures had labels.
        scores: Of every stage on every set; ``alpha`` 0 is before fine-tuning and 1 after it.
        seconds: Of the whole.
    """

    recipe: str
    mode: str
    checkpoint: str | None
    digest: str | None
    samples: int
    classes: tuple[str, ...]
    labels: Mapping[str, int]
    pictures: int
    scores: tuple[Score, ...]
    seconds: float

    def without_pictures(self) -> str:
        """The same as JSON, for machines."""
        return self.model_dump_json(
            indent=2, exclude={"scores": {"__all__": {"outcome": {"gallery"}}}}
        )


def read_result(out: str) -> FinetuneResult:
    """Read what was filed.

    Raises:
        DataError: It is not what ``finetune`` writes.
        StorageError: There is nothing, or it cannot be read.
    """
    place = storage.join(out, RESULTS)
    try:
        return FinetuneResult.model_validate_json(storage.read_text(place))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "no JSON"
        raise DataError(f"{place}: {where}: {first['msg']}; run finetune again") from None


def finetune(
    recipe: FinetuneRecipe,
    out: str,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FinetuneResult:
    """Learn from few labels, score, and file recipe, results and weights.

    Args:
        recipe: What to do.
        out: URL of the folder to write to.
        device: Where to compute.
        progress: Called with steps done, and of how many.

    Raises:
        UserError: Something the user can put right.
    """
    began = time.perf_counter()
    _check_free(out, recipe)
    commit = None if recipe.checkpoint is None else find(recipe.checkpoint)
    tower, size = _tower(recipe, commit, device)
    sets = _sets(recipe, Loader(size, (recipe.mask and recipe.mask.member) or ""))
    classes: tuple[str, ...] = ()
    if recipe.mask is not None:
        sets, classes = with_masks(recipe.mask, sets)
    mode: Mode = MODES.build(recipe.mode)
    task = Task(tower, sets, recipe.seed, device, progress, classes)
    storage.check_writable(out)  # before the work, which would be lost
    learned = mode.run(task)
    result = _result(recipe, commit, task, learned, time.perf_counter() - began)
    _write(out, recipe, result, learned.weights)
    return result


def _check_free(out: str, recipe: FinetuneRecipe) -> None:
    url = storage.join(out, RECIPE)
    if storage.exists(url) and storage.read_text(url) != recipe.to_yaml():
        raise ConfigError(f"{out}: holds what came of another recipe; give another --out")


def _tower(
    recipe: FinetuneRecipe, commit: Commit | None, device: torch.device
) -> tuple[nn.Module, int]:
    if commit is not None:
        model = load_model(commit, device)
        return model.image_tower, model.size
    if recipe.random is None:
        raise ValueError("a recipe has a checkpoint or a random tower")
    torch.manual_seed(recipe.seed)
    tower: nn.Module = TOWERS.build(recipe.random.image, Surroundings(size=recipe.random.size))
    return tower.to(device), recipe.random.size


def _sets(recipe: FinetuneRecipe, loader: Loader) -> dict[str, Labelled]:
    for url in recipe.sets.values():
        check_apart(url, recipe.train)  # before any of it is read
    load = few(loader, recipe.train, recipe.label, recipe.labels, recipe.seed)
    if recipe.label is None:
        return {name: _unlabelled(load, url, recipe.train) for name, url in recipe.sets.items()}
    common = {"reference": recipe.train, "label": recipe.label}
    return {
        name: load_labelled(
            load, validate(LabelledConfig, {"name": name, "data": url, **common}, name)
        )
        for name, url in recipe.sets.items()
    }


def _unlabelled(load: Load, url: str, train: str) -> Labelled:
    """Data whose masks alone say what is shown: all is of one class."""
    test, reference = load(url, {}), load(train, {})
    none = [torch.zeros(len(data), dtype=torch.int64) for data in (test, reference)]
    return Labelled(("",), 1, test, none[0], reference, none[1])


def _counts(task: Task) -> tuple[tuple[str, ...], Mapping[int, int]]:
    """Classes, and how many labelled pictures each has; by what masks show, if there are any."""
    labelled, masks = task.labelled, task.labelled.reference.masks
    if masks is None:
        return labelled.names[: labelled.known], Counter(labelled.reference_labels.tolist())
    return task.classes, Counter(int(number) for mask in masks for number in np.unique(mask))


def _result(
    recipe: FinetuneRecipe,
    commit: Commit | None,
    task: Task,
    learned: Learned,
    seconds: float,
) -> FinetuneResult:
    classes, counts = _counts(task)
    return FinetuneResult(
        recipe=recipe.name,
        mode=MODES.kind_of(recipe.mode),
        checkpoint=commit.url if commit else None,
        digest=commit.digest if commit else None,
        samples=commit.samples if commit else 0,
        classes=classes,
        labels={name: counts[place] for place, name in enumerate(classes)},
        pictures=len(task.labelled.reference),
        scores=learned.scores,
        seconds=seconds,
    )


def _write(
    out: str, recipe: FinetuneRecipe, result: FinetuneResult, weights: Mapping[str, Tensor]
) -> None:
    storage.write_text(storage.join(out, RECIPE), recipe.to_yaml())
    whole = {name: value.cpu().clone().contiguous() for name, value in weights.items()}
    storage.write_atomic(storage.join(out, MODEL), safetensors.torch.save(whole))
    storage.write_text(storage.join(out, RESULTS), result.model_dump_json(indent=1))
