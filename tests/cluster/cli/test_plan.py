from __future__ import annotations

import json

import pytest

from cluster.cli.plan import command
from cluster.plan import Measured
from cluster.profile import Profile
from pipelines.core import UserError
from pipelines.core.source import Source
from tests.cluster.test_plan import measured
from trainers.recipe import Recipe


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, Profile]]:
    """Recipes and profiles whose trials were asked for, none of which is made."""
    asked: list[tuple[Recipe, Profile]] = []

    def probe(recipe: Recipe, profile: Profile, source: Source) -> Measured:
        assert source.parts
        asked.append((recipe, profile))
        return measured()

    monkeypatch.setattr("cluster.probe.probe", probe)
    return asked


def test_a_plan_is_told_as_a_table(
    tried: list[tuple[Recipe, Profile]], capsys: pytest.CaptureFixture[str]
) -> None:
    command("rotation-emoji", on="laptop", overrides=["samples=128000"], price=2.5)
    text = capsys.readouterr().out
    ((recipe, profile),) = tried
    assert recipe.samples == 128000
    assert profile.device == "cpu"
    assert "ZeRO 0*" in text
    assert "ZeRO 3" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["parameters"][0] == "56"
    assert "average" not in rows  # the recipe has none
    # Local batch 64 on the line of 0.1 s and 0.05 s a sample, and reading at 2,000/s.
    assert "bound by compute (computing alone 39/s, reading alone 2,000/s)" in text
    assert "steps measured on this machine" in text
    assert "128,000 samples in 56.1 minutes of training, 1.87 device-hours" in text
    assert "cost: 4.67" in text


def test_a_plan_for_machines(
    tried: list[tuple[Recipe, Profile]], capsys: pytest.CaptureFixture[str]
) -> None:
    command("rotation-emoji", on="node", gpu="NVIDIA H100 HBM3", utilisation=0.5, as_json=True)
    found = json.loads(capsys.readouterr().out)
    ((_, profile),) = tried
    assert profile.workers == 8
    assert found["stage"] == 1
    assert found["local_batch"] == 16
    assert found["speed"]["compute"] == pytest.approx(8 * 989e12 * 0.5 / 3e9)
    assert "assumed" in found["speed"]["basis"]
    assert found["memory"]["1"]["total"] > 0
    assert found["cost"] is None


@pytest.mark.parametrize(
    ("here", "flops"), [(None, 312e12), ("NVIDIA H200", 989e12), ("NVIDIA T4", 312e12)]
)
def test_the_gpu_is_this_machines_if_it_has_one(
    tried: list[tuple[Recipe, Profile]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: str | None,
    flops: float,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: here is not None)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: here)
    command("rotation-emoji", on="node", utilisation=0.5, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["speed"]["compute"] == pytest.approx(8 * flops * 0.5 / 3e9)


def test_a_gpu_that_is_not_known_is_refused_before_the_trial(
    tried: list[tuple[Recipe, Profile]],
) -> None:
    with pytest.raises(UserError, match="--gpu Abacus: its speed in bf16 is not known"):
        command("rotation-emoji", on="node", gpu="Abacus")
    assert not tried
