from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.core import DataError
from pipelines.decode.tokenizer import END, PAD, START, Tokenizer, TokenizerConfig

TEXTS = [f"{colour} {shape}" for colour in ("red", "blue") for shape in ("circle", "square")] * 5
LENGTH = 12


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, TokenizerConfig(vocabulary=300, length=LENGTH))


def check_row(row: list[int], size: int) -> None:
    """Start, tokens, end, padding: each in its place and nowhere else."""
    assert row[0] == START
    end = row.index(END)
    assert row.count(START) == row.count(END) == 1
    assert all(token not in (PAD, START, END) for token in row[1:end])
    assert all(token == PAD for token in row[end + 1 :])
    assert all(0 <= token < size for token in row)


def test_words_of_the_captions_are_few_tokens(tokenizer):
    ids = tokenizer.encode(["red circle", "blue"])
    assert ids.shape == (2, LENGTH)
    assert ids.dtype == np.int64
    assert ids[0].tolist().index(END) == 3  # start, two words, end
    for row in ids.tolist():
        check_row(row, tokenizer.size)


def test_case_and_width_do_not_matter(tokenizer):
    wide = "\N{FULLWIDTH LATIN SMALL LETTER R}ed circle"
    ids = tokenizer.encode(["red circle", "RED Circle", wide])
    assert np.array_equal(ids[0], ids[1])
    assert np.array_equal(ids[0], ids[2])


def test_different_texts_have_different_tokens(tokenizer):
    texts = ["red circle", "circle red", "red", "zebra", "", "日本", "🦅", "é", "e"]
    assert len(np.unique(tokenizer.encode(texts), axis=0)) == len(texts)


@pytest.mark.parametrize("length", [3, 5, LENGTH])
def test_long_texts_are_cut_and_keep_their_end(length):
    tokenizer = Tokenizer.train(TEXTS, TokenizerConfig(vocabulary=300, length=length))
    ids = tokenizer.encode(["red circle " * 50, "", "red"])
    assert ids.shape == (3, length)
    assert ids[0, -1] == END
    assert ids[1].tolist() == [START, END] + [PAD] * (length - 2)
    for row in ids.tolist():
        check_row(row, tokenizer.size)


def test_a_random_piece_of_a_long_text_is_any_of_its_pieces():
    tokenizer = Tokenizer.train(TEXTS, TokenizerConfig(vocabulary=300, length=5))
    text = "red circle blue square red blue"
    long = Tokenizer.train(TEXTS, TokenizerConfig(vocabulary=300, length=8)).encode([text])[0]
    draws = np.linspace(0, 1, 401, dtype=np.float32)[:-1]
    rows = tokenizer.encode([text] * 400, draws)
    pieces = [long[first : first + 5].tolist() for first in range(4)]
    assert pieces[0][0] == START
    assert pieces[-1][-1] == END
    assert [rows.tolist().count(piece) for piece in pieces] == [100] * 4


def test_the_last_draw_of_a_very_long_text_is_its_end():
    tokenizer = Tokenizer.train(TEXTS, TokenizerConfig(vocabulary=300, length=5))
    highest = np.nextafter(np.float32(1), np.float32(0))
    (row,) = tokenizer.encode(["red " * 100_000], np.array([highest]))
    assert row[-1] == END


def test_a_text_that_is_not_too_long_is_one_piece(tokenizer):
    draws = np.array([0.0, 0.9], np.float32)
    texts = ["red circle", ""]
    assert np.array_equal(tokenizer.encode(texts, draws), tokenizer.encode(texts))


@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_text_encodes(tokenizer, texts):
    ids = tokenizer.encode(texts)
    assert ids.shape == (len(texts), LENGTH)
    for row in ids.tolist():
        check_row(row, tokenizer.size)


@pytest.mark.parametrize("text", ["<pad>", "<start>", "<end>", "a <end> b <pad><start>"])
def test_the_names_of_special_tokens_are_text_like_any_other(tokenizer, text):
    check_row(tokenizer.encode([text])[0].tolist(), tokenizer.size)
    again = Tokenizer.from_json(tokenizer.to_json(), LENGTH)
    check_row(again.encode([text])[0].tolist(), tokenizer.size)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_a_text_encodes_alone_as_among_others(tokenizer, texts):
    alone = np.concatenate([tokenizer.encode([text]) for text in texts])
    assert np.array_equal(tokenizer.encode(texts), alone)


def test_a_tokenizer_round_trips_through_json(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json(), LENGTH)
    texts = [*TEXTS, "unseen 日本 words", ""]
    assert again.size == tokenizer.size
    assert again.to_json() == tokenizer.to_json()
    assert np.array_equal(again.encode(texts), tokenizer.encode(texts))


def test_training_twice_gives_the_same(tokenizer):
    again = Tokenizer.train(TEXTS, TokenizerConfig(vocabulary=300, length=LENGTH))
    assert again.to_json() == tokenizer.to_json()


def test_the_vocabulary_is_bounded():
    texts = [f"word{number}" for number in range(500)]
    assert Tokenizer.train(texts, TokenizerConfig(vocabulary=280)).size <= 280


@pytest.mark.parametrize("options", [{"length": 2}, {"vocabulary": 100}])
def test_a_vocabulary_or_length_that_cannot_work_is_refused(options):
    with pytest.raises(ValidationError):
        TokenizerConfig(**options)


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_without_a_text_there_is_no_vocabulary(texts):
    with pytest.raises(DataError, match="no caption to learn a vocabulary from"):
        Tokenizer.train(texts, TokenizerConfig())


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"version": "1.0"}'])
def test_a_damaged_file_is_an_error_of_one_line(text):
    with pytest.raises(DataError, match=r"^tokenizer\.json is damaged \(.*\); delete the run$"):
        Tokenizer.from_json(text, 8)


def test_what_another_tokenizer_file_asks_for_beside_a_vocabulary_is_not_done(tokenizer):
    data = json.loads(tokenizer.to_json())
    data["padding"] = {
        "strategy": {"Fixed": 2_000_000},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    data["truncation"] = {
        "direction": "Right",
        "max_length": 1,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    loaded = Tokenizer.from_json(json.dumps(data), LENGTH)
    np.testing.assert_array_equal(loaded.encode(TEXTS), tokenizer.encode(TEXTS))


def test_ids_beyond_the_vocabulary_are_refused(tokenizer):
    data = json.loads(tokenizer.to_json())
    token = max(data["model"]["vocab"], key=data["model"]["vocab"].get)
    data["model"]["vocab"][token] += 1000
    with pytest.raises(DataError, match="its ids have gaps"):
        Tokenizer.from_json(json.dumps(data), LENGTH)
