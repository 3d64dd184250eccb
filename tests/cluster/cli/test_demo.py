from __future__ import annotations

import inspect
from typing import Any

import pytest

from cluster.cli import demo, train


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``train`` was asked, by name; nothing is trained."""
    asked: list[dict[str, Any]] = []
    signature = inspect.signature(train.command)

    def command(*given: object, **named: object) -> None:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        asked.append(dict(bound.arguments))

    monkeypatch.setattr(train, "command", command)
    return asked


def test_it_is_the_training_that_it_says_it_is(told: list[dict[str, Any]]) -> None:
    demo.command()
    train.command("clip-emoji", out="runs/demo")
    assert told[0] == told[1]


def test_options_are_handed_on(told: list[dict[str, Any]]) -> None:
    demo.command("there", "node", 3, ["samples=64"], True)
    train.command(
        "clip-emoji",
        out="there",
        profile_name="node",
        workers=3,
        overrides=["samples=64"],
        as_json=True,
    )
    assert told[0] == told[1]
