"""What a film tells of the answer by how short or slow it is: nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from pipelines.core.batch import Batch
from pipelines.views import ViewBuilder
from tests.trainers.conftest import AROUND, SMALL_TOWERS
from trainers.core.objective import Objective
from trainers.objectives import OBJECTIVES

DECODED, SIZE, COUNT = AROUND.frames, AROUND.frame_size, 400
PLAIN = {"augmentation": {"kind": "none"}}
tasks = pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("arrow_of_time", {"frames": 4}),
        ("pace", {"frames": 3, "rates": (1, 2)}),
        ("odd_one_out", {"frames": 3, "pieces": 2}),
        ("frame_order", {"frames": 3, "stride": 1}),
    ],
)


def ended(frames: int) -> np.ndarray:
    """Which frames are decoded of a film that has so many."""
    return np.arange(DECODED).clip(max=frames - 1)


def slow(rate: float) -> np.ndarray:
    """Which frames are decoded of one that has so many for each that is wanted."""
    return np.floor(np.arange(DECODED) * rate).astype(np.int64)


def films(shown: np.ndarray, heard: np.ndarray) -> pa.Table:
    """Frames of noise as they are decoded, and sound.

    Args:
        shown: Numbers of the frames. [N, DECODED]
        heard: How many of them have sound. [N]
    """
    count, random = len(shown), np.random.default_rng(0)
    video = random.integers(0, 256, (count, DECODED, SIZE * SIZE * 3), np.uint8)
    sound = random.uniform(0.5, 1, (count, DECODED, AROUND.sound // DECODED)).astype(np.float32)
    sound[np.arange(DECODED) >= heard[:, None]] = 0
    return pa.table(
        {
            "epoch": pa.array([0] * count, pa.int64()),
            "sample": pa.array(range(count), pa.int64()),
            "video": _lists(np.take_along_axis(video, shown[:, :, None], 1)),
            "video.times": _lists(shown.astype(np.float32)),
            "audio": _lists(sound),
            "audio.present": _lists(np.ones((count, 1), np.uint8)),
        }
    )


def _lists(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows[0].size)


def small(kind: str, **changes: object) -> Objective:
    fields = OBJECTIVES.get(kind).config.model_fields
    options = {name: tower for name, tower in SMALL_TOWERS.items() if name in fields}
    torch.manual_seed(0)
    objective: Objective = OBJECTIVES.build(
        OBJECTIVES.parse({"kind": kind, **options, **changes}), AROUND
    )
    return objective


def batch_of(objective: Objective, shown: np.ndarray, heard: np.ndarray | None = None) -> Batch:
    build = ViewBuilder(objective.views, 0, None, None, torch.device("cpu"))
    return build(films(shown, np.full(len(shown), DECODED) if heard is None else heard))


def still_steps(clips: Tensor) -> Tensor:
    """Where a frame is followed by the same one, whatever was drawn for it. [B, T - 1] bool."""
    return (clips[:, 1:] - clips[:, :-1]).abs().mean((2, 3, 4)) < 0.05


@tasks
@pytest.mark.parametrize(
    "shown",
    [
        *map(ended, (1, 3, 5, DECODED - 1, DECODED)),
        *map(slow, (0.12, 0.3, 0.75, 0.97)),
        slow(0.75).clip(max=4),
    ],
)
def test_either_all_of_a_clip_moves_or_nothing_does(
    kind: str, changes: dict[str, object], shown: np.ndarray
) -> None:
    objective = small(kind, **changes, **PLAIN, guard={"kind": "none"})
    batch = batch_of(objective, np.broadcast_to(shown, (COUNT, DECODED)))
    still = still_steps(batch.views["clip"])
    assert torch.equal(still, still[:, :1].expand_as(still))
    assert len({tuple(row) for row in still.tolist()}) == 1  # whatever was drawn
    too_short = _too_short(objective, shown)
    assert bool(still.all()) == too_short
    assert set(batch.views["long"].tolist()) == {not too_short}


def _too_short(objective: Objective, shown: np.ndarray) -> bool:
    view = objective.views["clip"]
    return len(set(shown.tolist())) < 1 + max(view.strides) * (view.frames - 1)


@tasks
def test_a_film_too_short_to_answer_counts_for_nothing(
    kind: str, changes: dict[str, object]
) -> None:
    objective = small(kind, **changes)
    long = torch.arange(12) % 3 != 0
    shown = np.stack([ended(DECODED if each else 2) for each in long])
    batch = batch_of(objective, shown)
    views = {name: view[long] for name, view in batch.views.items()}
    alone = objective(Batch(batch.samples[long], batch.keys[long], views))
    found = objective(batch)
    torch.testing.assert_close(found.loss, alone.loss)
    torch.testing.assert_close(found.metrics["accuracy"], alone.metrics["accuracy"])
    assert found.metrics["usable"].item() == pytest.approx(8 / 12)
    assert alone.metrics["usable"].item() == 1


@tasks
def test_a_batch_of_none_but_such_films_has_no_loss(kind: str, changes: dict[str, object]) -> None:
    objective = small(kind, **changes)
    found = objective(batch_of(objective, np.stack([ended(2)] * 4)))
    found.loss.backward()
    assert found.loss.item() == 0
    assert {value.item() for value in found.metrics.values()} == {0.0}
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_where_a_film_ends_does_not_tell_its_sound() -> None:
    """Of who counts for how many frames a clip moves, and for how many a sound is heard."""
    objective = small("audio_video_alignment", **PLAIN)
    objective.video.over_time = lambda clips: _one_hot((~still_steps(clips)).sum(1) + 1)
    objective.audio.over_time = lambda sounds: _one_hot(
        (sounds.unflatten(1, (-1, AROUND.sound // DECODED)) > 0).any(2).sum(1)
    )
    objective._moments = lambda project, features: features
    frames = np.arange(8, 29).repeat(10)
    found = objective(batch_of(objective, np.stack([ended(each) for each in frames]), frames))
    assert found.metrics["accuracy"].item() == 0  # a tie everywhere
    needed = 16 - 1 + 2 * 4  # frames of a clip, and of two places a quarter of a second apart
    assert found.metrics["usable"].item() == pytest.approx((frames >= needed).mean())


def _one_hot(counts: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(counts, DECODED).float()


@pytest.mark.parametrize("rate", [0.0625, 0.1, 0.3, 0.5, 0.75, 0.9, 1.0])
def test_a_slow_film_has_not_ended(rate: float) -> None:
    objective = small("audio_video_alignment")
    keys = torch.randint(-(2**62), 2**62, (COUNT,), generator=torch.Generator().manual_seed(0))
    batch = batch_of(objective, np.stack([slow(rate)] * 8))
    assert batch.views["film"].tolist() == [DECODED] * 8
    assert objective(batch).metrics["usable"].item() == 1
    # The places of a film that is as long as what is decoded are those of always.
    seen, moved = objective._places_of(keys, torch.full((COUNT,), DECODED))
    assert torch.equal(seen, objective.views["clip"].places(keys, DECODED)[:, 0])
    assert seen.unique().tolist() == moved.unique().tolist() == list(range(17))
