from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipelines.core import UserError
from trainers.core.evaluation import EvaluationData
from trainers.core.fakes import FakeEncoders, FakeLoad, fake_data
from trainers.evaluations.zero_shot import ZeroShot

DATA = fake_data(90, concepts=9)
LOAD = FakeLoad({"test": DATA})


def config(**changes: object) -> ZeroShot.Config:
    return ZeroShot.Config.model_validate({"name": "x", "data": "test", **changes})


def naive(model: FakeEncoders, templates: tuple[str, ...], k: int) -> float:
    classes = sorted(set(DATA.texts["txt"]))
    prototypes = []
    for caption in classes:
        units = model.embed_texts([template.replace("{}", caption) for template in templates])
        prototypes.append(units.mean(0) / units.mean(0).norm())
    right = 0
    for image, caption in zip(model.embed_images(DATA.images), DATA.texts["txt"], strict=True):
        cosines = [float(image @ prototype) for prototype in prototypes]
        best = sorted(range(len(classes)), key=lambda i: -cosines[i])[:k]
        right += caption in [classes[i] for i in best]
    return right / len(DATA)


class Prompted(FakeEncoders):
    """A model whose texts depend on the whole prompt."""

    def _text(self, text):
        known = super()._text(text)
        mixed = known + 0.5 * self._direction(text.encode())
        return mixed / mixed.norm()


@pytest.mark.parametrize("templates", [("{}",), ("{}", "a {}", "the {} of it")])
def test_agrees_with_a_loop(templates):
    model = Prompted(DATA, signal=0.2, dimensions=16)
    outcome = ZeroShot(config(templates=templates)).run(model, LOAD)
    assert outcome.metrics["top1"] == pytest.approx(naive(model, templates, 1))
    assert outcome.metrics["top5"] == pytest.approx(naive(model, templates, 5))
    assert 0.2 < outcome.metrics["top1"] < outcome.metrics["top5"] < 1
    assert outcome.headline == "top1"
    assert outcome.chance == pytest.approx(1 / 9)


def test_fewer_than_five_classes():
    data = fake_data(30, concepts=3)
    outcome = ZeroShot(config()).run(FakeEncoders(data, signal=0), FakeLoad({"test": data}))
    assert outcome.metrics["top5"] == 1
    assert all(len(row.cells) == 1 + 3 for row in outcome.gallery)


def test_chance_does_not_depend_on_how_frequent_classes_are():
    data = fake_data(10)
    data = EvaluationData(data.keys, data.images, {"txt": ["a"] * 9 + ["b"]})
    outcome = ZeroShot(config()).run(FakeEncoders(data), FakeLoad({"test": data}))
    assert outcome.chance == 0.5


def test_another_caption_field():
    data = EvaluationData(DATA.keys, DATA.images, {"json.label": DATA.texts["txt"]})
    model = FakeEncoders(data, field="json.label")
    outcome = ZeroShot(config(caption="json.label")).run(model, FakeLoad({"test": data}))
    assert outcome.metrics["top1"] == 1


@pytest.mark.parametrize("templates", [(), ("no place",), ("{} {}",)])
def test_templates_are_checked(templates):
    with pytest.raises(ValueError, match=r"needs one \{\}|at least 1"):
        config(templates=templates)


def test_gallery_shows_the_best_captions():
    model = FakeEncoders(DATA, signal=0.2)
    outcome = ZeroShot(config()).run(model, LOAD)
    for row in outcome.gallery:
        query, *answers = row.cells
        assert query.image
        assert (answers[0].text == query.text) == (row.group == "correct")
        for cell in answers:
            assert (cell.mark == "right") == (cell.text == query.text)
    assert {row.group for row in outcome.gallery} == {"correct", "wrong"}


def test_a_model_without_texts_is_told():
    with pytest.raises(UserError, match="text tower"):
        ZeroShot(config()).run(FakeEncoders(DATA, joint=False), LOAD)


def test_does_not_change_what_the_model_gives():
    class Constant(FakeEncoders):
        def embed_images(self, images):
            return given

    given = FakeEncoders(DATA, signal=0.2).embed_images(DATA.images)
    before = given.clone()
    ZeroShot(config()).run(Constant(DATA), LOAD)
    assert torch.equal(given, before)


class Lower(FakeEncoders):
    """A model that reads small letters alone."""

    def readings(self, texts):
        return [text.lower() for text in texts]

    def _text(self, text):
        return super()._text(text.lower())


def test_captions_that_the_model_reads_alike_are_one_class():
    captions = [c.upper() if n % 3 else c for n, c in enumerate(DATA.texts["txt"])]
    data = replace(DATA, texts={"txt": captions})
    plain, mixed = (
        ZeroShot(config(templates=("{}",))).run(Lower(DATA, signal=0.2), FakeLoad({"test": test}))
        for test in (DATA, data)
    )
    assert mixed.metrics == plain.metrics
    assert mixed.chance == plain.chance == pytest.approx(1 / 9)
