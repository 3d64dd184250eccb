from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.inspection import look_at, measure_index, survey
from pipelines.inspection.survey import spread


def quiet(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize(
    ("count", "total"), [(1, 1), (1, 10), (7, 100), (100, 100), (1000, 10**12)]
)
def test_samples_are_spread_one_in_each_part(count: int, total: int) -> None:
    numbers = spread(np.arange(count), count, total)
    assert (numbers // (total / count)).astype(int).tolist() == list(range(count))
    # Some at a time are the same as all at once.
    halves = np.array_split(np.arange(count), 2)
    assert np.concatenate([spread(h, count, total) for h in halves]).tolist() == numbers.tolist()


def test_classes_that_take_turns_are_all_seen() -> None:
    numbers = spread(np.arange(1000), 1000, 10_000)
    assert set((numbers % 10).tolist()) == set(range(10))


def test_an_index_is_measured(opened_set, tmp_path, picture) -> None:
    samples = {f"k{n}": {"png": picture(n), "txt": b"x" * n} for n in range(5)}
    opened_set(samples, {"k1": {"txt": b"abc"}})
    damaged = (tmp_path / "a-0.tar").read_bytes()[:-10_000]
    (tmp_path / "a-2.tar").write_bytes(damaged[:3000])
    source = opened_set(samples, {"k1": {"txt": b"abc"}})
    calls: list[tuple[int, int]] = []
    facts = measure_index(source.index, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert (facts["shards"], facts["samples"], facts["skipped_members"]) == (3, 7, 0)
    assert facts["bytes"] == sum(p.stat().st_size for p in tmp_path.glob("*.tar"))
    assert facts["samples_per_shard"]["median"] == 1
    assert facts["damaged_shards"] == len(facts["damaged"]) == 1
    assert facts["damaged"][0]["shard"].endswith("a-2.tar")
    assert facts["fields"]["named"][0]["extension"] == "txt"
    assert facts["repeated_keys"]["samples"] == 2
    assert json.loads(json.dumps(facts)) == facts


def test_samples_are_measured_and_decoded_for_trial(opened_set, picture) -> None:
    samples = {
        "a": {"png": picture(0, 40, 30), "txt": b"one"},
        "b": {"png": b"?", "txt": b"two"},
        "c": {"json": b'{"caption": "three"}'},
    }
    source = opened_set(samples, {"d": {"png": b"?"}})
    calls: list[tuple[int, int]] = []
    facts = look_at(source, 4, [], lambda done, total: calls.append((done, total)))
    assert calls == [(n, 4) for n in range(1, 5)]
    assert facts["looked_at"] == 4
    assert facts["pictures"]["count"] == 1
    assert facts["pictures"]["width"]["max"] == 40
    assert facts["videos"] is facts["audio"] is None
    assert [caption["field"] for caption in facts["captions"]] == ["txt", "json.caption"]
    assert facts["json"]["keys"][0]["key"] == "caption"
    unreadable = facts["unreadable"]
    reason = "png: not a readable image (UnidentifiedImageError)"
    assert (unreadable["samples"], unreadable["looked_at"]) == (2, 4)
    assert unreadable["reasons"] == {reason: 2}
    assert [(u["sample"], u["key"], u["reason"]) for u in unreadable["examples"]] == [
        (1, "b", reason),
        (3, "d", reason),
    ]
    assert unreadable["examples"][1]["shard"].endswith("a-1.tar")
    assert json.loads(json.dumps(facts)) == facts


def test_films_and_sounds_are_measured(opened_set, film, sound, noise) -> None:
    source = opened_set(
        {"f": {"mp4": film([0.0, 0.04])}, "s": {"wav": sound(noise(1.0, 8000), rate=8000)}}
    )
    facts = look_at(source, 2, [], quiet)
    assert facts["unreadable"]["samples"] == 0
    assert (facts["videos"]["count"], facts["videos"]["without_audio"]) == (1, 1)
    assert facts["audio"]["rates"] == {"8000": 1}


def test_the_same_samples_are_looked_at_every_time(opened_set, monkeypatch) -> None:
    source = opened_set({f"{n:03d}": {"txt": b"%d" % n} for n in range(200)})
    facts = look_at(source, 20, ["txt"], quiet)
    monkeypatch.setattr(survey, "_TOGETHER", 3)
    assert look_at(source, 20, ["txt"], quiet) == facts
    assert facts["captions"][0]["texts"] == 20


def test_many_unreadable_samples_are_counted_and_some_named(opened_set, monkeypatch) -> None:
    monkeypatch.setattr(survey, "_LISTED", 2)
    source = opened_set({str(n): {"png": b"?"} for n in range(5)})
    unreadable = look_at(source, 5, [], quiet)["unreadable"]
    assert unreadable["samples"] == 5
    assert [row["key"] for row in unreadable["examples"]] == ["0", "1"]
