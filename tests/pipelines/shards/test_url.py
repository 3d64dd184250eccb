from __future__ import annotations

import pytest

from pipelines.core import Config, StorageError
from pipelines.shards.url import Url, urls_in


class Place(Config):
    url: Url


@pytest.mark.parametrize("url", ["tars/a-{0..3}.tar", "s3://bucket/a*.tar", "hdfs://host:9000/a@b"])
def test_a_url_without_credentials_is_taken(url):
    assert Place(url=url).url == url


@pytest.mark.parametrize(
    "url", ["s3://key:hunter22@bucket/a.tar", "https://host/a.tar?X-Amz-Signature=hunter22"]
)
def test_a_url_with_credentials_is_refused_without_repeating_them(url):
    with pytest.raises(StorageError, match="must not hold credentials") as caught:
        Place(url=url)
    assert "hunter22" not in str(caught.value)


class Places(Config):
    one: Place
    many: tuple[Place, ...] = ()
    named: dict[str, Place]
    name: str = "no url"


def test_urls_of_a_config_are_found_where_they_are():
    places = Places(
        one=Place(url="a"), many=(Place(url="b"), Place(url="c")), named={"x": Place(url="d")}
    )
    found = [("one.url", "a"), ("many.0.url", "b"), ("many.1.url", "c"), ("named.x.url", "d")]
    assert list(urls_in(places)) == found
