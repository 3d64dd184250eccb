from __future__ import annotations

import pytest

from pipelines.core import ConfigError, validate
from pipelines.sources.synthetic import Synthetic
from pipelines.sources.webdataset import WebDataset
from trainers.core.evaluation import Answers
from trainers.core.fakes import FakeEncoders, FakeLoad
from trainers.evaluations.proxy import Proxy

LOAD = FakeLoad({})


def config(**changes: object) -> Proxy.Config:
    return validate(Proxy.Config, {"name": "x", "data": "test.tar", **changes}, "here")


class Asked(FakeEncoders):
    """Remembers what it was asked."""

    def __init__(self, right: int = 30, examples: int = 40):
        super().__init__()
        self._right, self._examples = right, examples

    def proxy(self, data, samples, seed):
        self.asked = data, samples, seed
        return Answers(self._right, self._examples, chance=0.5, samples=40)


def test_a_pattern_is_of_tars_and_any_source_does() -> None:
    assert config().data == WebDataset.Config(url="test.tar")
    source = {"kind": "synthetic", "samples": 7}
    assert config(data=source).data == Synthetic.Config(samples=7)
    with pytest.raises(ConfigError, match=r"here: data.kind: .*did you mean 'synthetic'"):
        config(data={"kind": "syntetic"})
    with pytest.raises(ConfigError, match=r"here: data.sample: .*did you mean 'samples'"):
        config(data={"kind": "synthetic", "sample": 7})
    with pytest.raises(ConfigError, match="here: sample: unknown key; did you mean 'samples'"):
        config(sample=3)


def test_the_model_is_asked_what_the_config_says() -> None:
    model = Asked()
    outcome = Proxy(config(samples=40, seed=5)).run(model, LOAD)
    assert model.asked == (config().data, 40, 5)
    assert outcome.metrics == {"accuracy": 0.75}
    assert (outcome.headline, outcome.chance, outcome.examples) == ("accuracy", 0.5, 40)


def test_the_interval_is_that_of_as_many_right_answers() -> None:
    low, high = Proxy(config()).run(Asked(), LOAD).interval
    # Normal approximation: 0.75 -+ 1.96 sqrt(0.75 * 0.25 / 40); a step of the bootstrap is 1/40.
    assert low == pytest.approx(0.616, abs=0.03)
    assert high == pytest.approx(0.884, abs=0.03)


def test_several_answers_of_a_sample_do_not_narrow_the_interval() -> None:
    one, ten = Proxy(config()).run(Asked(), LOAD), Proxy(config()).run(Asked(300, 400), LOAD)
    assert ten.metrics == one.metrics
    assert (ten.examples, ten.interval) == (40, one.interval)
