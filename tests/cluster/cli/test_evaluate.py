from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cluster.cli.evaluate import command, configure
from pipelines.core import UserError


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("tars/birds-*.tar", "birds"),
        ("tars/birds-{00..09}.tar", "birds"),
        ("s3://bucket/birds-[0-4]?.tar", "birds"),
        ("tars/my birds.tar", "my-birds"),
        ("tars/_x.tar", "x"),
        ("tars/*-val.tar", "data"),
        ("tars/{a,b}.tar", "data"),
    ],
)
def test_a_set_is_called_as_its_files_are(data: str, name: str) -> None:
    assert getattr(configure("zero_shot", data, None, []), "name", "") == name


def test_a_name_that_is_given_counts() -> None:
    assert getattr(configure("zero_shot", "birds-*.tar", "mine", []), "name", "") == "mine"


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_that_is_there_is_used(
    monkeypatch: pytest.MonkeyPatch, there: bool, device: str
) -> None:
    used: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr("trainers.checkpoint.find", lambda _: "the commit")
    failed = SimpleNamespace(error="no such data")

    class Judge:
        def __init__(self, commit: object, place: object) -> None:
            used.append(place)

        def evaluated(self, config: object) -> SimpleNamespace:
            return failed

    monkeypatch.setattr("trainers.on_device.OnDevice", Judge)
    with pytest.raises(UserError, match="no such data"):
        command("run", "knn", "a.tar", None, ["reference=b.tar", "label=cls"])
    assert used == [torch.device(device)]
