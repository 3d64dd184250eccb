from __future__ import annotations

import pickle

from pipelines.core.recent import Recent


def test_the_newest_values_are_remembered_up_to_the_limit():
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        return key * 4

    recent: Recent[str] = Recent(12, len)
    for key in "abcad":  # "b" is the one not used for longest when "d" comes
        assert recent.get(key, lambda key=key: make(key)) == key * 4
    assert made == ["a", "b", "c", "d"]
    assert recent.get("a", lambda: make("a")) == "aaaa"
    assert recent.get("b", lambda: make("b")) == "bbbb"
    assert made == ["a", "b", "c", "d", "b"]


def test_a_value_over_the_limit_is_kept_until_the_next_comes():
    recent: Recent[bytes] = Recent(3, len)
    assert recent.get("large", lambda: b"12345") == b"12345"
    assert recent.get("large", lambda: b"another") == b"12345"
    recent.get("next", lambda: b"1")
    assert recent.get("large", lambda: b"another") == b"another"


def test_it_pickles_empty():
    recent: Recent[bytes] = Recent(10, len)
    recent.get("a", lambda: b"1")
    again = pickle.loads(pickle.dumps(recent))
    assert again.get("a", lambda: b"2") == b"2"
