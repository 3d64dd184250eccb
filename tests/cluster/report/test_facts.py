from typing import Any

from cluster.report.facts import Seconds, absent, parse_facts


def test_unreadable_keys_are_named_and_the_rest_is_kept() -> None:
    facts, bad = parse_facts({"name": "a", "world_size": "many", "seconds": {"data": [1]}})
    assert facts.name == "a"
    assert facts.world_size is None
    assert bad == ("seconds", "world_size")


def test_unknown_keys_are_left_alone() -> None:
    facts, bad = parse_facts({"name": "a", "from_the_future": 1})
    assert facts.name == "a"
    assert bad == ()


def test_absent_names_keys_and_phases(run: Any) -> None:
    data = run.facts()
    del data["parameters"]
    data["seconds"].pop("evaluate")
    facts, _ = parse_facts(data)
    assert absent(facts) == ("parameters", "seconds.evaluate")
    assert facts.seconds == Seconds(data=1.5, train=20.0, total=25.0)
