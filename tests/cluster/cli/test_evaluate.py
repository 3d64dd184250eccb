from __future__ import annotations

import pytest

from cluster.cli.evaluate import configure


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
