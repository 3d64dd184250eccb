from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from pipelines.views.text import Template
from trainers.prompts import embed_captions, told_apart


class Recorder:
    """Embeds a text as (characters, spaces), and keeps what it saw."""

    def __init__(self):
        self.seen: list[str] = []

    def embed_texts(self, texts):
        self.seen.extend(texts)
        return torch.tensor([[float(len(text)), float(text.count(" "))] for text in texts])


@pytest.mark.parametrize("template", ["", "a picture", "{} and {}", "{0}", "{caption}"])
def test_a_template_needs_one_place(template):
    with pytest.raises(ValidationError, match=r"needs one \{\}"):
        TypeAdapter(Template).validate_python(template)


def test_captions_and_templates_may_have_braces_of_their_own():
    model = Recorder()
    embed_captions(model, ["a {} b", "{x}"], ["{y} {}"])
    assert model.seen == ["{y} a {} b", "{y} {x}"]


def test_mean_of_unit_embeddings_of_unit_length():
    found = embed_captions(Recorder(), ["abc", "d e"], ["{}", "a {}"])
    for row, (plain, prompted) in zip(
        found, [((3.0, 0.0), (5.0, 1.0)), ((3.0, 1.0), (5.0, 2.0))], strict=True
    ):
        units = [torch.tensor(v) / torch.tensor(v).norm() for v in (plain, prompted)]
        mean = (units[0] + units[1]) / 2
        torch.testing.assert_close(row, mean / mean.norm())


class Reader:
    """Reads three letters of a text, small ones."""

    def readings(self, texts):
        return [text.lower()[:3] for text in texts]


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        (["{}"], ["CAT", "dog", "CAT", "CAT", "dog"]),
        (["a {}"], ["CAT", "dog", "CAT", "CAT", "dog"]),  # their first letters
        (["{}", "{}s"], ["CAT", "dog", "CAT", "CAT", "dog"]),
        (["to {}"], ["CAT"] * 5),  # nothing of them
        (["to {}", "{}"], ["CAT", "dog", "CAT", "CAT", "dog"]),  # one template tells them apart
    ],
)
def test_captions_that_a_model_cannot_tell_apart_are_one(templates, expected):
    assert told_apart(Reader(), ["cat", "dog", "CAT", "catfish", "dogs"], templates) == expected
