"""The engine on two gloo processes: same updates as one, in every ZeRO stage, saved and loaded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.engine_workers import launch
from trainers.objectives import OBJECTIVES

# One fixture trains all engines: on a busy machine that takes minutes.
pytestmark = pytest.mark.timeout(1200)

EVERY = [f"{kind}:0" for kind in OBJECTIVES.names()]
STAGES = range(4)
# What ARCHITECTURE's table says goes together: trained here, saved, and resumed.
SAME = [
    *(f"clip:{stage}" for stage in STAGES[1:]),
    *(f"clip:{stage}:blocks" for stage in STAGES),
    *(f"clip:{stage}:host" for stage in STAGES[1:]),
    "clip:3:host2",
    "clip:3:host2:blocks",
    *(f"clip:{stage}:ema" for stage in STAGES),
    "clip:3:host2:ema",
    *(f"clip:{stage}:parts2" for stage in STAGES),
    "clip:2:parts2:host",
    "clip:3:parts4:host2:blocks:ema",
]
# Compiling takes half a minute each.
COMPILED = [
    "clip:2:compile:blocks",
    pytest.param("clip:2:compile:parts2", marks=pytest.mark.slow),
    *(pytest.param(f"clip:{stage}:compile", marks=pytest.mark.slow) for stage in STAGES),
]
PARTS = ["rotation:2:parts2", "byol:3:parts2", "clip:0:muon:parts2"]
OWN = ["clip:0:lamb", "clip:0:muon", "clip:0:muon:ema", "clip:0:rates"]
RATES = [f"clip:{stage}:rates" for stage in STAGES[1:]]
ROUGH = [
    *(f"clip:{stage}:{low}" for stage in STAGES for low in ("fp16:low", "bf16")),
    "clip:2:fp16:low:host",
    "clip:3:fp16:low:host2:blocks:ema",
    "clip:3:bf16:host2:blocks",
    "clip:0:fp16:low:parts2",
    "clip:2:fp16:low:host:parts2",
    "clip:3:bf16:parts2",
]
SCALED_AVERAGES = ["clip:0:fp16:ema", "clip:3:fp16:ema"]
SCALING = [
    *(f"clip:{stage}:fp16" for stage in STAGES),
    *("clip:0:fp16:parts2", "clip:3:fp16:parts2", *SCALED_AVERAGES),
]
EARLY = [f"clip:{stage}:early" for stage in STAGES]
# A teacher follows shards under stage 3, and prototypes are used by their length.
MORE = ["byol:3", "swav:3", "clip:0:fp16:muon"]
KINDS = [*EVERY, *SAME, *PARTS, *OWN, *RATES, *ROUGH, *SCALING, *EARLY, *MORE]
# Gone through without a commit, too: what is whole on each worker is not made anew by it.
STRAIGHT = [k for k in KINDS if k.endswith(":3") or ":3:bf" in k or ":3:fp" in k]
# On one worker and on four: every stage from itself, and some from another one.
KEPT = [(str(stage), str(stage)) for stage in STAGES]
OTHERS = [
    ("0", "3"),
    ("3", "1:blocks"),
    ("2", "0"),
    ("3", "3:host2"),
    ("2:host", "3:host"),
    ("0:ema", "3:ema"),
    ("3:ema", "1:ema"),
    ("0:lamb", "0:lamb"),
    ("0:muon:ema", "0:muon:ema"),
    ("0:rates", "2:rates"),
    ("2:parts2", "3"),
]
# Four processes of two cores take a minute for the others.
CHANGES = [
    *(pytest.param(*change, workers) for change in KEPT for workers in (1, 4)),
    *(pytest.param(*change, 1) for change in OTHERS),
    *(pytest.param(*change, 4, marks=pytest.mark.slow) for change in OTHERS),
]
PRECISIONS = [("0", "2:fp16"), ("3:fp16", "0"), ("2:bf16", "0"), ("0", "3:bf16")]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return {workers: tmp_path_factory.mktemp(f"workers{workers}") for workers in (1, 2, 4)}


@pytest.fixture(scope="module")
def found(places: dict[int, Path]) -> dict[int, dict[str, dict[str, object]]]:
    return {
        workers: launch(workers, places[workers], [*EVERY, *OWN] if workers == 1 else KINDS)
        for workers in (1, 2)
    }


@pytest.fixture(scope="module")
def resumed(
    request: pytest.FixtureRequest, found: object, places: dict[int, Path]
) -> dict[int, dict[str, dict[str, object]]]:
    """What the tests that were chosen ask for."""
    asked: dict[int, dict[str, None]] = {}
    for item in request.session.items:
        if "resumed" in getattr(item, "fixturenames", ()):
            given = item.callspec.params  # type: ignore[attr-defined]
            name = f"clip:{given['now']}@{places[2]}/clip:{given['before']}"
            asked.setdefault(given["workers"], {})[name] = None
    return {workers: launch(workers, places[workers], [*names]) for workers, names in asked.items()}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def agree(rows, others, loss: float = 1e-5, norm: float = 1e-3) -> None:
    """Compare losses and norms step by step."""
    for mine, theirs in zip(rows, others, strict=True):
        assert theirs[0] == pytest.approx(mine[0], rel=loss)
        assert theirs[1] == pytest.approx(mine[1], rel=norm)


@pytest.mark.parametrize("kind", [*EVERY, *OWN])
def test_two_workers_make_the_updates_of_one(found, kind: str) -> None:
    agree(found[1][kind]["rows"], found[2][kind]["rows"], 1e-4 if "muon" in kind else 1e-5)


@pytest.mark.parametrize(("before", "now", "workers"), CHANGES)
def test_a_commit_of_two_workers_goes_on_on_any_number_and_under_any_stage(
    found, resumed, places: dict[int, Path], before: str, now: str, workers: int
) -> None:
    saved = tensors(places[2] / f"clip:{before}")
    name = f"clip:{now}@clip:{before}"
    again = tensors(places[workers] / name)
    assert saved.keys() == again.keys()
    assert {key.partition("/")[0] for key in saved} >= {"weight", "exp_avg", "exp_avg_sq", "step"}
    assert all(torch.equal(saved[key], again[key]) for key in saved)
    agree(found[2][f"clip:{before}"]["went_on"], resumed[workers][name]["resumed"], 1e-4)


@pytest.mark.parametrize("workers", [4])
@pytest.mark.parametrize(("before", "now"), PRECISIONS)
def test_a_run_goes_on_in_another_precision(
    found, resumed, places: dict[int, Path], before: str, now: str, workers: int
) -> None:
    saved = tensors(places[2] / f"clip:{before}")
    again = tensors(places[workers] / f"clip:{now}@clip:{before}")
    assert saved.keys() ^ again.keys() == ({"loss_scale"} if "fp16" in before + now else set())
    assert all(torch.equal(saved[key], again[key]) for key in saved.keys() & again.keys())
    went_on = found[2][f"clip:{before}"]["went_on"]
    others = resumed[workers][f"clip:{now}@clip:{before}"]["resumed"]
    # Where the scale is sought anew the first updates are left out.
    same = 1 if "fp16" in now else len(went_on)
    agree(went_on[:same], others[:same], 2e-2, math.inf if same == 1 else 5e-2)


def test_the_state_of_adamw_is_what_it_has_always_been(found, places: dict[int, Path]) -> None:
    kinds = {key.partition("/")[0] for key in tensors(places[2] / "clip:0")}
    assert kinds == {"weight", "exp_avg", "exp_avg_sq", "step"}


@pytest.mark.parametrize("kind", SAME)
def test_stages_memory_and_averages_change_no_update(found, kind: str) -> None:
    expected, got = found[2]["clip:0"], found[2][kind]
    agree(expected["rows"], got["rows"])
    averaged = found[2]["clip:0:ema"]["weights"]
    weights = averaged if "ema" in kind else expected["weights"]
    assert weights.keys() == got["weights"].keys()
    for name, (total, count) in weights.items():
        assert got["weights"][name] == [pytest.approx(total, rel=1e-4, abs=1e-4), count]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("clip:")])
def test_what_is_asked_of_an_engine_is_done(found, kind: str) -> None:
    _, stage, *options = kind.split(":")
    seen = found[2][kind]["seen"]
    learned, half = seen["learned"], pytest.approx(seen["learned"] / 2, rel=0.1)  # it is padded
    assert seen["kept"] == (half if stage == "3" else learned)
    if "muon" not in options:  # which has moments of its own
        assert seen["moments"] == (learned if stage == "0" else half)
    if stage != "3":
        assert seen["gradients"] is (stage == "2")
    assert seen["optimizer_on_host"] is ("host" in options or "host2" in options)
    assert seen["parameters_on_host"] is ("host2" in options)
    parts = next((int(option[-1]) for option in options if option.startswith("parts")), 1)
    encoded = 2 * parts - 1
    assert seen["encoded"] == [encoded]
    # Blocks run again only where there is a gradient, once for each part, and stop at the last
    # of what a gradient needs.
    assert max(seen["ran"]) == encoded + parts * ("blocks" in options)
    assert (seen["compiled"], seen["graphs"]) == (0, 0)


@pytest.mark.parametrize("kind", PARTS)
def test_a_step_in_parts_is_the_update_of_the_whole(found, kind: str) -> None:
    whole = kind.replace(":parts2", "").replace(":2", ":0")
    agree(found[2][whole]["rows"], found[2][kind]["rows"], 1e-4 if "muon" in kind else 1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if ":3" in kind])
def test_whole_weights_are_gathered_one_by_one_and_for_one_worker(found, kind: str) -> None:
    seen = found[2][kind]["seen"]
    assert seen["gathered"] <= seen["largest"]
    assert seen["weights"] == [len(found[2][kind]["weights"]), 0]


def test_averages_are_not_the_weights(found) -> None:
    plain, averaged = (found[2][kind]["weights"] for kind in ("clip:0", "clip:0:ema"))
    assert plain.keys() == averaged.keys()
    assert all(abs(plain[name][0] - averaged[name][0]) > 1e-7 for name in plain)


@pytest.mark.parametrize("kind", COMPILED)
def test_compiled_towers_make_the_same_updates(found, tmp_path: Path, kind: str) -> None:
    compiled = launch(1, tmp_path, [kind])[kind]
    agree(found[1]["clip:0"]["rows"], compiled["rows"])
    assert compiled["resumed"] == compiled["went_on"]
    assert compiled["seen"]["compiled"] == compiled["seen"]["blocks"] > 0
    assert compiled["seen"]["graphs"] > 0


@pytest.mark.parametrize("kind", RATES)
def test_rates_by_name_hold_under_every_stage(found, kind: str) -> None:
    expected = found[2]["clip:0:rates"]["rows"]
    agree(expected, found[2][kind]["rows"])
    assert expected[-1][0] != pytest.approx(found[2]["clip:0"]["rows"][-1][0], rel=1e-4)


@pytest.mark.parametrize("kind", ROUGH)
def test_lower_precision_follows_fp32(found, kind: str) -> None:
    exact, rough = found[2]["clip:0"]["rows"], found[2][kind]["rows"]
    agree(exact, rough, 2e-2, 5e-2)
    assert all(mine[0] != theirs[0] for mine, theirs in zip(exact, rough, strict=True))
    assert [row[2] for row in rough] == [0] * len(exact)


@pytest.mark.parametrize("kind", SCALING)
def test_an_overflow_while_the_scale_is_sought_is_counted_and_breaks_nothing(
    found, kind: str
) -> None:
    rows = [*found[2][kind]["rows"], *found[2][kind]["went_on"]]
    skipped = [row[2] for row in rows]
    assert skipped[0] == 1
    assert 0 in skipped
    assert all(math.isfinite(value) for row in rows for value in row)
    # In parts other sums are made in fp16, which overflow at another scale.
    same = "clip:0:fp16:parts2" if "parts2" in kind else "clip:0:fp16"
    agree(found[2][same]["rows"], found[2][kind]["rows"], 2e-3)  # two units of fp16


@pytest.mark.parametrize("kind", SCALED_AVERAGES)
def test_an_update_that_is_left_out_is_not_averaged(
    found, places: dict[int, Path], kind: str
) -> None:
    rows = found[2][kind]["rows"]
    skipped = sum(row[2] for row in rows)
    assert skipped > 0
    assert tensors(places[2] / kind)["averaged"].tolist() == [len(rows) - skipped]


@pytest.mark.parametrize("kind", [kind for kind in ROUGH if "low" in kind and ":3" not in kind])
def test_a_gradient_that_is_infinite_without_scaling_is_not_hidden(found, kind: str) -> None:
    ((_, norm, skipped),) = found[2][kind]["broken"]
    assert not math.isfinite(norm)
    assert skipped == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_engine_goes_on_as_if_it_had_not_stopped(found, kind: str) -> None:
    assert found[2][kind]["resumed"] == found[2][kind]["went_on"]


@pytest.mark.parametrize("kind", STRAIGHT)
def test_saving_changes_nothing(found, kind: str) -> None:
    assert found[2][kind]["straight"] == found[2][kind]["went_on"]


@pytest.mark.parametrize("kind", EARLY)
def test_a_state_before_the_first_update_is_one(found, kind: str) -> None:
    assert found[2][kind]["anew"] == found[2][kind]["rows"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_holds_tensors_alone(found, kind: str) -> None:
    expected = ["state-00000.safetensors", "state-00001.safetensors"]
    assert found[2][kind]["files"] == expected
