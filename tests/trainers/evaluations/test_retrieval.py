from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core import UserError
from trainers.core.evaluation import EvaluationData
from trainers.core.fakes import FakeEncoders, FakeLoad, fake_data
from trainers.evaluations.retrieval import Retrieval, interval
from trainers.statistics import bootstrap_interval

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


def several(captions: list[list[str]]) -> EvaluationData:
    """Pictures with several captions each; a fake model knows the first."""
    plain = fake_data(len(captions))
    texts = {"txt": [own[0] for own in captions]}
    return EvaluationData(plain.keys, plain.images, texts, lists={"caption": captions})


def run_several(captions: list[list[str]], model: FakeEncoders | None = None, **changes: object):
    data = several(captions)
    config = {"name": "x", "data": "test", "caption": "json.captions[]", **changes}
    retrieval = Retrieval(Retrieval.Config.model_validate(config))
    return retrieval.run(model or FakeEncoders(data), lambda url, fields: data)


FIVE = [[f"scene {i} {place}" for place in range(5)] for i in range(40)]


class Scenes(FakeEncoders):
    """Captions of a scene resemble each other and its picture, each of them more or less so."""

    def __init__(self, captions: list[list[str]], blur: float):
        super().__init__(dimensions=16)
        images = several(captions).images
        self._scenes = {
            image.tobytes(): own[0].rpartition(" ")[0]
            for image, own in zip(images, captions, strict=True)
        }
        self._blur = blur

    def _mixed(self, scene: str, name: bytes) -> torch.Tensor:
        own = self._direction(name)
        return torch.nn.functional.normalize(
            self._direction(scene.encode()) + self._blur * own, dim=0
        )

    def _text(self, text: str) -> torch.Tensor:
        return self._mixed(text.rpartition(" ")[0], text.encode())

    def _picture(self, image) -> torch.Tensor:
        return self._mixed(self._scenes[image.tobytes()], image.tobytes())


def naive_several(captions: list[list[str]], model: FakeEncoders) -> dict[str, float]:
    queries = sorted({caption for own in captions for caption in own})
    images = model.embed_images(several(captions).images).numpy()
    texts = model.embed_texts(queries).numpy()
    found = {}
    for k in (1, 5, 10):
        best = [np.argsort(-(texts @ image))[:k] for image in images]
        right = [any(queries[i] in own for i in b) for own, b in zip(captions, best, strict=True)]
        found[f"image_to_text_r{k}"] = sum(right) / len(images)
        best = [np.argsort(-(images @ text))[:k] for text in texts]
        right = [any(q in captions[i] for i in b) for q, b in zip(queries, best, strict=True)]
        found[f"text_to_image_r{k}"] = sum(right) / len(queries)
    return found


@pytest.mark.parametrize("blur", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("shared", [False, True])
def test_every_caption_is_asked_for_and_any_own_one_is_right(blur, shared):
    captions = [[*own, "scene 0 0", own[1]] for own in FIVE] if shared else FIVE
    model = Scenes(captions, blur)
    outcome = run_several(captions, model)
    assert outcome.metrics == pytest.approx(naive_several(captions, model))
    assert outcome.examples == 200
    low, high = outcome.interval
    assert low <= outcome.metrics["text_to_image_r1"] <= high


def test_chance_of_several_captions_is_what_random_rankings_find():
    captions = [[f"caption {i}", f"caption {i * i % 13}"] for i in range(30)]
    random = np.random.default_rng(0)
    queries = sorted({caption for own in captions for caption in own})
    firsts = random.integers(30, size=(20_000, len(queries)))
    right = np.array([[query in own for query in queries] for own in captions])
    expected = right[firsts, np.arange(len(queries))].mean()
    assert run_several(captions).chance == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize("captions", [CAPTIONS, [f"caption {i}" for i in range(60)]])
def test_a_list_of_one_is_as_one_caption(captions):
    model = FakeEncoders(data_of(captions), signal=0.2, dimensions=24)
    one = run(data_of(captions), model)
    assert run_several([[caption] for caption in captions], model) == one


def test_captions_of_a_picture_that_are_read_alike_are_one():
    class Unmarked(Scenes):
        def readings(self, texts):
            return [text.removesuffix("!") for text in texts]

    captions = [[*own, own[0] + "!"] for own in FIVE]
    outcome, plain = (run_several(some, Unmarked(FIVE, 1.0)) for some in (captions, FIVE))
    assert outcome == plain


def test_the_interval_is_that_of_pictures_however_many_captions_each_has():
    random = torch.Generator().manual_seed(0)
    right = torch.rand(400, generator=random) < 0.6
    alone = bootstrap_interval(right)
    assert interval(right, torch.arange(400)) == alone
    # All captions of a picture right or wrong together: as if there were one of each.
    together = interval(right.repeat_interleave(5), torch.arange(400).repeat_interleave(5))
    assert together == pytest.approx(alone, abs=0.005)
    # All as good as independent: as narrow as if they were.
    every = torch.rand(2000, generator=random) < 0.6
    assert interval(every, torch.arange(400).repeat_interleave(5)) == pytest.approx(
        bootstrap_interval(every), abs=0.005
    )
    none = torch.zeros(2000, dtype=torch.bool)
    assert interval(none, torch.arange(400).repeat_interleave(5)) == bootstrap_interval(none[:400])


def test_the_interval_is_what_resampled_pictures_give():
    random = np.random.default_rng(1)
    counts = random.integers(1, 6, 60)
    right = random.random(counts.sum()) < np.repeat(random.random(60), counts)
    owners = np.repeat(np.arange(60), counts)
    shares = []
    for _ in range(4000):
        rows = [np.flatnonzero(owners == picture) for picture in random.integers(60, size=60)]
        shares.append(right[np.concatenate(rows)].mean())
    expected = np.quantile(shares, [0.025, 0.975])
    found = interval(torch.from_numpy(right), torch.from_numpy(owners))
    assert found == pytest.approx(tuple(expected), abs=0.015)


def test_a_gallery_of_several_captions_marks_any_own_one():
    outcome = run_several(FIVE, Scenes(FIVE, 1.0), gallery=12)
    for row in outcome.gallery:
        query, *answers = row.cells
        for cell in answers:
            own = query.text.split(" / ")
            assert len(own) == (1 if row.group == "text to image" else 5)
            assert (cell.mark == "right") == (cell.text in own)
