from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.core import Config, DataError, validate
from trainers.apart import check_apart
from trainers.labels import AnySource


@pytest.fixture
def tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("v/a.tar", "v/b.tar", "w/c.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to("v")
    return tmp_path


class Sources(Config):
    data: AnySource
    reference: AnySource


def mixed(*sources: object) -> dict[str, object]:
    return {"kind": "mixture", "of": [{"source": source, "weight": 1} for source in sources]}


def apart(data: object, reference: object) -> None:
    sources = validate(Sources, {"data": data, "reference": reference}, "here")
    check_apart(sources.data, sources.reference)


@pytest.mark.parametrize(
    "reference",
    ["v/*.tar", "./v/a.tar", "{w/c,v/a}.tar", "v/../v/a.tar", "link/a.tar", "**/a.tar"],
)
def test_a_shard_that_is_in_both_is_found_however_it_is_named(tars: Path, reference: str):
    with pytest.raises(DataError) as caught:
        check_apart("v/{b,a}.tar" if "{" in reference else "v/a.tar", reference)
    assert str(caught.value).startswith(f"{tars}/v/a.tar is in both v/")
    assert f" and {reference}: " in str(caught.value)
    assert "\n" not in str(caught.value)
    check_apart("v/b.tar", "{w/c,v/a}.tar")


def test_a_mixture_has_the_shards_of_its_data_sets_and_films_those_of_none(tars: Path):
    def tar(url: str) -> dict[str, object]:
        return {"kind": "webdataset", "url": url}

    films = {"kind": "sprites", "pictures": "v/*.tar"}
    apart(films, films | {"seed": 1})
    apart(films, "v/*.tar")
    apart(tar("w/*.tar"), mixed(tar("v/*.tar"), films))
    with pytest.raises(DataError, match=r"b\.tar is in both v/b.tar and v/\*.tar: "):
        apart(tar("v/b.tar"), mixed(films, tar("v/*.tar")))
