"""One contract over every objective found in the folder."""

from __future__ import annotations

import json

import pytest
import torch

from pipelines.core import ConfigError, validate
from tests.trainers import two_workers
from tests.trainers.conftest import AROUND, SMALL_TOWERS, random_batch
from trainers.accumulation import accumulate
from trainers.core.objective import LossOutput, Objective
from trainers.objectives import OBJECTIVES
from trainers.segmentation import dense_network

SIZE = AROUND.size
INPUTS = {
    "image": (3, SIZE, SIZE),
    "video": (AROUND.frames, 3, SIZE, SIZE),
    "audio": (AROUND.sound,),
}
TEXTS = torch.tensor(
    [[1, 40, 50, 2, 0, 0, 0, 0], [1, 9, 2, 0, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0, 0, 0]]
)


def small(kind: str) -> Objective:
    fields = OBJECTIVES.get(kind).config.model_fields
    options = {name: tower for name, tower in SMALL_TOWERS.items() if name in fields}
    torch.manual_seed(0)
    objective: Objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": kind, **options}), AROUND)
    return objective


every = pytest.mark.parametrize("kind", OBJECTIVES.names())


@every
def test_config_makes_the_round_trip_through_json(kind: str) -> None:
    config = OBJECTIVES.parse({"kind": kind})
    assert OBJECTIVES.parse(json.loads(json.dumps(OBJECTIVES.dump(config)))) == config


@every
def test_unknown_key_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        validate(OBJECTIVES.get(kind).config, {"no_such_key": 1}, "recipe")


@every
def test_loss_and_gradients_are_finite(kind: str) -> None:
    objective = small(kind)
    output = objective(random_batch(objective, 8, SIZE))
    assert output.loss.shape == ()
    output.loss.backward()
    for name, parameter in objective.named_parameters():
        assert parameter.dim() > 0, f"{name} has no dimensions: the engine cannot flatten it"
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    for name, value in output.metrics.items():
        assert torch.isfinite(value), name
        assert not value.requires_grad, name


@every
def test_same_seed_same_loss(kind: str) -> None:
    losses = []
    for _ in range(2):
        objective = small(kind)
        losses.append(objective(random_batch(objective, 8, SIZE)).loss.item())
    assert losses[0] == losses[1]


@every
def test_no_state_depends_on_the_local_batch(kind: str) -> None:
    """Batch normalisation would make one and two workers differ."""
    names = [type(module).__name__ for module in small(kind).modules()]
    assert not [name for name in names if "BatchNorm" in name]


@every
def test_it_learns_a_fixed_batch(kind: str) -> None:
    objective = small(kind)
    batch = random_batch(objective, 8, SIZE)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        output = objective(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        # A cross-entropy with soft targets cannot fall below their entropy: the metric ``floor``.
        losses.append(float(output.loss.detach() - output.metrics.get("floor", 0.0)))
    assert losses[-1] < 0.7 * losses[0]


@every
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_make_its_loss_metrics_gradients_and_state(kind: str, parts: int) -> None:
    whole, cut = two_workers.small(kind), two_workers.small(kind)
    for name, parameter in [*whole.named_parameters(), *cut.named_parameters()]:
        if kind == "dinov2" and name.endswith("position_embeddings"):
            # The library interpolates them in single precision: their gradient is not exact.
            parameter.requires_grad_(False)
    batch = two_workers.double_batch(whole)
    output = whole(batch)
    output.loss.backward()
    found = accumulate(cut, batch, parts, two_workers.plain_passes())
    two_workers.assert_equal(result_of(found, cut), result_of(output, whole))
    for objective in (whole, cut):
        objective.after_step(0.1)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], value, msg=name)


def result_of(output: LossOutput, objective: Objective) -> two_workers.Result:
    gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    return {"loss": output.loss.detach(), **output.metrics}, gradients


@every
def test_weights_of_an_objectives_own_are_few(kind: str) -> None:
    """Stage 3 fetches large ones where a module is called, and a comparison is no module."""
    assert sum(p.numel() for p in small(kind).parameters(recurse=False)) < 1000


@every
def test_encoders_give_one_vector_an_input(kind: str) -> None:
    encoders = small(kind).encoders()
    towers = encoders.keys() & (INPUTS.keys() | {"text"})
    assert towers, "evaluations and exports need a tower"
    for name in towers:
        given = TEXTS if name == "text" else torch.rand(3, *INPUTS[name]) * 2 - 1
        features = encoders[name](given)
        assert features.shape[0] == 3
        assert features.dim() == 2


@every
def test_runs_in_bf16(kind: str) -> None:
    objective = small(kind)
    with torch.autocast("cpu", torch.bfloat16):
        output = objective(random_batch(objective, 8, SIZE))
    output.loss.backward()
    assert torch.isfinite(output.loss)


@every
def test_who_answers_several_times_a_sample_says_of_how_many_and_what_a_guesser_gets(
    kind: str,
) -> None:
    objective = small(kind).eval()
    with torch.no_grad():
        found = objective(random_batch(objective, 32, SIZE)).metrics
    assert ("chance" in found) == ("answers" in found)
    if "chance" not in found:
        return
    metrics = {"usable": 1.0} | {name: float(value) for name, value in found.items()}
    assert 0 < metrics["chance"] < 1
    assert 0 < metrics["usable"] <= 1
    for count in (metrics["usable"], metrics["answers"], metrics["accuracy"] * metrics["answers"]):
        assert 32 * count == pytest.approx(round(32 * count), abs=1e-3)


@every
def test_who_classifies_a_label_of_its_own_says_what_a_guesser_gets(kind: str) -> None:
    """Labels are even over the classes: what does not depend on them is right by chance."""
    objective = small(kind).eval()
    if objective.chance is None:
        return
    right = count = 0.0
    with torch.no_grad():
        for seed in range(8):
            batch = random_batch(objective, 32, SIZE, seed)
            metrics = {name: float(v) for name, v in objective(batch).metrics.items()}
            usable = 32 * metrics.get("usable", 1.0)
            assert metrics["accuracy"] * usable == pytest.approx(
                round(metrics["accuracy"] * usable), abs=1e-3
            )
            right, count = right + metrics["accuracy"] * usable, count + usable
    deviation = (objective.chance * (1 - objective.chance) / count) ** 0.5
    assert abs(right / count - objective.chance) < 4 * deviation


@every
def test_image_towers_have_places_for_dense_labels(kind: str) -> None:
    tower = small(kind).encoders().get("image")
    if tower is None:
        pytest.skip("no image tower")
    images = torch.randint(0, 256, (4, SIZE, SIZE, 3), dtype=torch.uint8).numpy()
    network = dense_network(tower, images, 3)
    assert network(torch.rand(2, 3, SIZE, SIZE) * 2 - 1).shape == (2, 3, SIZE, SIZE)
