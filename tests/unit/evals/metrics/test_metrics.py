"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.evals.items import Item
from mm1.evals.metrics import accuracy, chance_level, content_f1, first_words_accuracy
from mm1.evals.metrics.cider_d import cider_d
from mm1.evals.metrics.vqa import normalise, vqa_accuracy
from mm1.evals.statistics import mean_and_stderr

VOCABULARY = "a red blue ring cross on the big"
WORDS = st.lists(st.sampled_from(VOCABULARY.split()), min_size=1, max_size=9).map(" ".join)


def item(answer: str, *references: str, kind: str = "", choices: tuple[str, ...] = ()) -> Item:
    return Item(id="1", answer=answer, references=references or (answer,), question_type=kind, choices=choices)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("The Red.", "red"),
        ("two dogs", "2 dogs"),
        ("none", "0"),
        ("1,000", "1000"),
        ("dont know", "don't know"),
        ("red/blue", "red blue"),
        ("yes, it is", "yes it is"),
        ("3.5", "3.5"),
        ("  a\nb ", "b"),
        ("couldn'tve", "couldn't've"),
    ],
)
def test_answers_are_normalised_as_vqav2_does(raw, wanted):
    assert normalise(raw) == wanted


@given(st.text(max_size=30))
def test_normalising_words_twice_changes_nothing_more(text):
    once = normalise(" ".join(character for character in text if character.isalnum()))
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("matches", "wanted"),
    # of ten annotators: an agreeing annotator sees one match fewer, the others all of them
    [(0, 0.0), (1, 0.3), (2, (2 * 1 + 8 * 2) / 30), (3, (3 * 2 + 7 * 3) / 30), (4, 1.0), (10, 1.0)],
)
def test_vqa_accuracy_with_ten_annotators(matches, wanted):
    assert vqa_accuracy("red", ["red"] * matches + ["other"] * (10 - matches)) == pytest.approx(wanted)


def test_vqa_accuracy_with_one_annotator_is_exact_match():
    assert accuracy(["the ring", "cross"], [item("ring"), item("ring")]) == [1.0, 0.0]


def test_content_f1_ignores_function_words_and_takes_the_best_reference():
    target = item("a big red ring", "a big red ring", "the small blue cross and a dog")
    # {big, red, ring} against {red, ring, square, dog}: 2 common, 2 * 2 / (3 + 4)
    assert content_f1(["red ring on the square , dog"], [target]) == [pytest.approx(4 / 7)]
    assert content_f1(["small blue cross , dog"], [target]) == [1.0]
    assert content_f1([""], [target]) == [0.0]


def test_first_words_judge_as_many_words_as_the_answer_has():
    assert first_words_accuracy(["b c d", "c b", "7", ""], [item("b"), item("b"), item("seven"), item("b")]) == [1, 0, 1, 0]


def test_cider_of_two_images_by_hand():
    # Every n-gram is in one of the two images only: all weights are log 2 and cancel in the cosine, which is 1.
    assert cider_d(["red ring big dog", "x"], [["red ring big dog"], ["blue cross small cat"]]) == pytest.approx([10.0, 0.0])
    # "red ring": unigrams 2 of 4, bigrams 1 of 3; lengths differ by 2 bigrams.
    penalty = math.exp(-(2**2) / (2 * 6**2))
    wanted = 10 / 4 * penalty * (2 / math.sqrt(2 * 4) + 1 / math.sqrt(1 * 3))
    assert cider_d(["red ring"], [["red ring big dog"]]) == [0.0]  # one image: no word tells images apart
    assert cider_d(["red ring", "y"], [["red ring big dog"], ["blue cross small cat"]])[0] == pytest.approx(wanted)


def test_cider_clips_repeated_words():
    references = [["red ring big dog"], ["blue cross small cat"]]
    assert cider_d(["red red red red", ""], references)[0] < cider_d(["red ring big cat", ""], references)[0]


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=2, max_size=6))
def test_cider_stays_between_0_and_10_and_ignores_the_order_of_images(rows):
    predictions, references = [row[0] for row in rows], [row[1] for row in rows]
    scores = cider_d(predictions, references)
    assert all(0 <= score <= 10 + 1e-9 for score in scores)
    assert cider_d(predictions[::-1], references[::-1])[::-1] == pytest.approx(scores)


@given(st.lists(WORDS, min_size=2, max_size=5, unique=True))
def test_no_caption_beats_the_only_reference(texts):
    references = [[text] for text in texts]
    best = cider_d(texts, references)
    assert all(other <= mine + 1e-9 for mine, other in zip(best, cider_d(texts[1:] + texts[:1], references), strict=True))


def test_mean_and_standard_error():
    mean, stderr = mean_and_stderr([1, 0, 1, 1])
    assert mean == 0.75 and stderr == pytest.approx(0.5 / 2)
    assert mean_and_stderr([1.0]) == (1.0, 0.0)


def test_chance_is_one_over_choices_or_the_most_frequent_answer_of_the_type():
    assert chance_level([item("a", choices=("a", "b")), item("a", choices=("a", "b", "c", "d"))], []) == pytest.approx(0.375)
    shown = [item("red", kind="colour"), item("red", kind="colour"), item("blue", kind="colour"), item("ring", kind="shape")]
    asked = [item("red", kind="colour"), item("blue", kind="colour"), item("ring", kind="shape"), item("cross", kind="shape")]
    assert chance_level(asked, shown) == 0.5
    assert chance_level([item("x", kind="new"), item("x", kind="new"), item("y", kind="new")], shown) == pytest.approx(2 / 3)
