from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core import UserError
from trainers.core.evaluation import EvaluationData
from trainers.core.fakes import FakeEncoders, FakeLoad, fake_data
from trainers.evaluations.retrieval import Retrieval

CAPTIONS = [f"caption {i * i % 13}" for i in range(60)]  # 7 captions, unequally frequent


def data_of(captions: list[str]) -> EvaluationData:
    plain = fake_data(len(captions))
    return EvaluationData(plain.keys, plain.images, {"txt": captions})


def run(data: EvaluationData, model: FakeEncoders, **changes: object):
    config = Retrieval.Config.model_validate({"name": "x", "data": "test", **changes})
    return Retrieval(config).run(model, FakeLoad({"test": data}))


def naive(data: EvaluationData, model: FakeEncoders) -> dict[str, float]:
    captions = data.texts["txt"]
    queries = sorted(set(captions))
    images = model.embed_images(data.images).numpy()
    texts = model.embed_texts(queries).numpy()
    found = {}
    for k in (1, 5, 10):
        right = 0
        for image, caption in zip(images, captions, strict=True):
            best = np.argsort(-(texts @ image))[:k]
            right += caption in [queries[i] for i in best]
        found[f"image_to_text_r{k}"] = right / len(images)
        right = 0
        for text, query in zip(texts, queries, strict=True):
            best = np.argsort(-(images @ text))[:k]
            right += query in [captions[i] for i in best]
        found[f"text_to_image_r{k}"] = right / len(queries)
    return found


@pytest.mark.parametrize("captions", [CAPTIONS, [f"caption {i}" for i in range(60)]])
@pytest.mark.parametrize("signal", [0.0, 0.1, 0.25])
def test_agrees_with_a_loop(captions, signal):
    data = data_of(captions)
    model = FakeEncoders(data, signal=signal, dimensions=24)
    outcome = run(data, model)
    assert outcome.metrics == pytest.approx(naive(data, model))
    assert outcome.headline == "text_to_image_r1"
    assert outcome.examples == len(set(captions))  # as many as the headline is over


@settings(max_examples=25, deadline=None)
@given(
    captions=st.lists(st.sampled_from("abcdefghijkl"), min_size=2, max_size=30).filter(
        lambda found: len(set(found)) > 1
    ),
    signal=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_recall_grows_with_k(captions, signal, seed):
    data = data_of(captions)
    metrics = run(data, FakeEncoders(data, signal=signal, dimensions=8, seed=seed)).metrics
    for way in ("image_to_text", "text_to_image"):
        recalls = [metrics[f"{way}_r{k}"] for k in (1, 5, 10)]
        assert recalls == sorted(recalls)
        assert all(0 <= recall <= 1 for recall in recalls)


def test_chance_is_what_random_rankings_find():
    random = np.random.default_rng(0)
    labels = np.array(CAPTIONS)
    queries = sorted(set(CAPTIONS))
    firsts = labels[random.integers(len(labels), size=(40_000, len(queries)))]
    outcome = run(data_of(CAPTIONS), FakeEncoders(signal=0))
    assert outcome.chance == pytest.approx((firsts == np.array(queries)).mean(), abs=3e-3)


def test_interval_is_over_captions():
    data = data_of([f"caption {i % 4}" for i in range(60)])
    outcome = run(data, FakeEncoders(data, signal=0.1, dimensions=8, seed=1))
    assert all(value * 4 == pytest.approx(round(value * 4)) for value in outcome.interval)
    assert outcome.interval[0] < outcome.interval[1]


def test_any_picture_with_the_caption_is_right():
    data = data_of(["a", "a", "b", "b"])
    metrics = run(data, FakeEncoders(data)).metrics
    assert metrics["text_to_image_r1"] == metrics["image_to_text_r1"] == 1


def test_gallery_goes_both_ways():
    data = data_of(CAPTIONS)
    outcome = run(data, FakeEncoders(data, signal=0.2), gallery=7)
    groups = [row.group for row in outcome.gallery]
    assert groups == ["text to image"] * 4 + ["image to text"] * 3
    for row in outcome.gallery:
        query, *answers = row.cells
        assert (query.image is None) == (row.group == "text to image")
        assert all((cell.image is None) == (row.group == "image to text") for cell in answers)
        assert all((cell.mark == "right") == (cell.text == query.text) for cell in answers)


def test_the_template_is_used_and_checked():
    data = data_of(CAPTIONS)
    seen = []

    class Listening(FakeEncoders):
        def embed_texts(self, texts):
            seen.extend(texts)
            return super().embed_texts(texts)

    run(data, Listening(data), template="a {}!")
    assert seen == [f"a {caption}!" for caption in sorted(set(CAPTIONS))]
    with pytest.raises(ValueError, match=r"needs one \{\}"):
        run(data, Listening(data), template="a")


def test_a_model_without_texts_is_told():
    with pytest.raises(UserError, match="text tower"):
        run(data_of(CAPTIONS), FakeEncoders(joint=False))


def test_captions_that_the_model_reads_alike_are_one():
    class Lower(FakeEncoders):
        def readings(self, texts):
            return [text.lower() for text in texts]

        def _text(self, text):
            return super()._text(text.lower())

    data = data_of(CAPTIONS)
    mixed = data_of([c.upper() if n % 2 else c for n, c in enumerate(CAPTIONS)])
    first, second = (run(test, Lower(data, signal=0.3)) for test in (data, mixed))
    assert (first.metrics, first.chance) == (second.metrics, second.chance)
