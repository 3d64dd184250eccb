"""What every evaluation keeps to, whoever wrote it."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from pipelines.core import ConfigError, DataError, Family, UserError, discover, validate
from trainers.core.evaluation import EvaluationData, Outcome
from trainers.core.fakes import FakeEncoders, FakeLoad, fake_data

FAMILY = Family("trainers.evaluations")
MEMBERS = [member.name for member in discover("trainers.evaluations").values()]
OF_PICTURES = [name for name in MEMBERS if "gallery" in FAMILY.get(name).config.model_fields]
COUNT = 240
TEST = fake_data(COUNT, concepts=40, groups=4)
TRAIN = fake_data(COUNT, concepts=40, groups=4, seed=1)
LOAD = FakeLoad({"test": TEST, "train": TRAIN})
# Headlines that are over something else than samples.
OVER = {"retrieval": len(set(TEST.texts["txt"]))}
# Of all but one, that asks for every caption of a picture.
OF_ONE_TEXT = [
    (name, field)
    for name in MEMBERS
    for field in ("label", "caption")
    if field in FAMILY.get(name).config.model_fields and name != "retrieval"
]
# What a config without a default may ask for, by the names that all members use.
REQUIRED = {"name": "fake", "data": "test", "reference": "train"}


class Collapsed:
    """A model that sees no difference between anything."""

    def features(self, images):
        return torch.ones(len(images), 8)

    def pictures(self, images):
        return {}

    def embed_images(self, images):
        return torch.full((len(images), 4), 0.5)

    def embed_texts(self, texts):
        return torch.full((len(texts), 4), 0.5)

    def readings(self, texts):
        return texts


class Inference(FakeEncoders):
    """Gives tensors made in inference mode, as real models do."""

    @torch.inference_mode()
    def _picture(self, image):
        return super()._picture(image).clone()

    @torch.inference_mode()
    def _text(self, text):
        return super()._text(text).clone()


class Diverged(Collapsed):
    def features(self, images):
        return torch.full((len(images), 8), float("nan"))

    embed_images = features


def required_by(kind: str) -> dict[str, object]:
    fields = FAMILY.get(kind).config.model_fields
    return {key: REQUIRED[key] for key, field in fields.items() if field.is_required()}


def config_of(kind: str, **changes: object):
    return FAMILY.parse({"kind": kind, **required_by(kind), **changes})


def run(kind: str, model, load=LOAD, **changes: object) -> Outcome:
    outcome = FAMILY.build(config_of(kind, **changes)).run(model, load)
    assert isinstance(outcome, Outcome)
    return outcome


@cache
def outcome_of(name: str, signal: float) -> Outcome:
    return run(name, FakeEncoders(TEST, TRAIN, signal=signal))


every = pytest.mark.parametrize("name", MEMBERS)
of_pictures = pytest.mark.parametrize("name", OF_PICTURES)


@every
def test_config_round_trip(name):
    config = config_of(name)
    assert FAMILY.parse(FAMILY.dump(config)) == config
    assert FAMILY.dump(config)["kind"] == name
    assert {"name", "data"} <= set(FAMILY.dump(config))


@of_pictures
def test_unknown_key_is_refused_with_the_nearest(name):
    config = FAMILY.get(name).config
    with pytest.raises(ConfigError, match="unknown key; did you mean 'gallery'"):
        validate(config, {**required_by(name), "galery": 3}, "here")


@every
@pytest.mark.parametrize("value", ["a/b", "..", ""])
def test_a_name_that_is_no_file_name_is_refused(name, value):
    with pytest.raises(ValueError, match="pattern"):
        config_of(name, name=value)


@pytest.mark.parametrize(("name", "field"), OF_ONE_TEXT)
def test_a_list_is_refused_where_a_sample_has_one_text(name, field):
    with pytest.raises(ConfigError) as caught:
        validate(FAMILY.get(name).config, {**required_by(name), field: "json.all[]"}, "here")
    assert str(caught.value).startswith(f"here: {field}: 'json.all[]' is a list, ")
    assert "\n" not in str(caught.value)


@every
def test_summary_and_docs(name):
    member = FAMILY.get(name)
    assert member.summary.endswith((".", "?"))
    assert member.config.__doc__


@every
def test_a_perfect_model_is_perfect(name):
    outcome = outcome_of(name, 1.0)
    assert outcome.metrics[outcome.headline] > 0.99


@every
def test_a_model_that_knows_nothing_is_at_chance(name):
    outcome = outcome_of(name, 0.0)
    score, chance = outcome.metrics[outcome.headline], outcome.chance
    # 40 queries at least; five deviations.
    assert abs(score - chance) < 5 * math.sqrt(chance * (1 - chance) / 40)
    assert 0 < chance < 1


@of_pictures
def test_a_collapsed_model_is_not_above_chance(name):
    outcome = run(name, Collapsed())
    assert outcome.metrics[outcome.headline] <= outcome.chance + 1e-9


@of_pictures
def test_a_diverged_model_is_reported(name):
    with pytest.raises(UserError, match="diverged"):
        run(name, Diverged())


@every
@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0])
def test_outcome_is_consistent(name, signal):
    outcome = outcome_of(name, signal)
    low, high = outcome.interval
    expected = OVER.get(name, getattr(config_of(name), "samples", COUNT))
    assert outcome.examples == expected
    assert all(0 <= value <= 1 for value in outcome.metrics.values())
    assert 0 <= low <= outcome.metrics[outcome.headline] <= high <= 1
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome


@every
def test_same_model_same_outcome(name):
    outcome = outcome_of(name, 0.3)
    assert run(name, FakeEncoders(TEST, TRAIN, signal=0.3)) == outcome


@of_pictures
def test_inference_tensors_do(name):
    assert run(name, Inference(TEST, TRAIN, signal=0.3)) == outcome_of(name, 0.3)


@of_pictures
def test_the_order_of_samples_does_not_matter(name):
    turned = {
        url: EvaluationData(
            data.keys[::-1],
            data.images[::-1].copy(),
            {field: texts[::-1] for field, texts in data.texts.items()},
        )
        for url, data in (("test", TEST), ("train", TRAIN))
    }
    outcome = run(name, FakeEncoders(TEST, TRAIN, signal=0.3), FakeLoad(turned))
    assert outcome.metrics == pytest.approx(outcome_of(name, 0.3).metrics)


@of_pictures
def test_gallery_has_a_query_and_marked_answers(name):
    rows = outcome_of(name, 0.3).gallery
    assert len(rows) == 12
    for row in rows:
        query, *answers = row.cells
        assert query.mark == "query"
        assert 1 <= len(answers) <= 5
        assert {cell.mark for cell in answers} <= {"right", "wrong"}
        scores = [cell.score for cell in answers]
        assert scores == sorted(scores, reverse=True)


@of_pictures
def test_no_gallery_where_none_is_wanted(name):
    outcome = run(name, FakeEncoders(TEST, TRAIN, signal=0.3), gallery=0)
    assert outcome.gallery == ()
    assert outcome.metrics == outcome_of(name, 0.3).metrics


@of_pictures
@pytest.mark.parametrize("damage", ["empty", "field", "class"])
def test_unusable_data_are_one_line_that_says_what_to_do(name, damage):
    count = 0 if damage == "empty" else 6
    data = fake_data(count, concepts=1 if damage == "class" else 2)
    if damage == "field":
        data = EvaluationData(data.keys, data.images, {key: [""] * count for key in data.texts})
    with pytest.raises(DataError) as error:
        run(name, FakeEncoders(), FakeLoad({"test": data, "train": data}))
    message = str(error.value)
    assert "\n" not in message
    assert ";" in message
