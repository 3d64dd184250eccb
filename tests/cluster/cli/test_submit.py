from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from cluster import submit
from cluster.cli.submit import command
from cluster.profile import Profile, load_profile
from pipelines.core import ConfigError
from trainers.recipe import load_recipe

HEAD, OUT = "http://head:8265", "s3://bucket/runs/x"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of a cluster that is not there, by name."""
    asked: list[dict[str, Any]] = []
    signature = inspect.signature(submit.submit)

    def send(*given: object, **named: object) -> str:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        asked.append(dict(bound.arguments))
        return "the-job"

    def follow(name: str, address: str, say: Callable[[str], None]) -> None:
        asked.append({"followed": name, "address": address})
        say("a line of its log")

    monkeypatch.setattr(submit, "submit", send)
    monkeypatch.setattr(submit, "follow", follow)
    return asked


def test_a_job_is_named_and_how_to_follow_it(
    sent: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    command("debug", HEAD, OUT)
    (asked,) = sent
    profile = Profile.model_validate(yaml.safe_load(asked.pop("profile_text")))
    assert profile == load_profile("laptop")
    assert asked == {
        "recipe": load_recipe("debug"),
        "out": OUT,
        "address": HEAD,
        "python": "python",
    }
    said = capsys.readouterr()
    assert said.out == "the-job\n"
    assert said.err == f"follow it: ray job logs the-job --address {HEAD} --follow\n"


def test_a_job_is_told_to_machines(
    sent: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    command("debug", HEAD, OUT, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == {"job": "the-job", "cluster": HEAD, "run": OUT}
    assert len(sent) == 1


def test_a_job_that_is_waited_for_is_followed(
    sent: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    command("debug", HEAD, OUT, "node", 4, ["samples=640"], python="/opt/python", wait=True)
    asked, followed = sent
    assert asked["recipe"].samples == 640
    assert asked["python"] == "/opt/python"
    profile = Profile.model_validate(yaml.safe_load(asked["profile_text"]))
    assert profile == load_profile("node", ("workers=4",))
    assert followed == {"followed": "the-job", "address": HEAD}
    said = capsys.readouterr()
    assert (said.out, said.err) == ("the-job\n", "a line of its log\n")


def test_what_does_not_fit_is_not_sent(sent: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="3 workers do not divide the global batch of 64"):
        command("debug", HEAD, OUT, workers=3)
    assert not sent
