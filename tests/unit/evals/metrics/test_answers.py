"""Metrics of answers against the benchmarks' own scripts (`answer_reference` made the golden values), and by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.evals.items import Item
from mm1.evals.metrics import mathvista, mmmu, of_items, options
from mm1.evals.metrics.anls import anls, edit_distance
from mm1.evals.metrics.choices import best_choice
from mm1.evals.metrics.evalai import evalai_accuracy
from mm1.evals.metrics.exact_match import exact_match, prefix_match
from mm1.evals.metrics.relaxed_accuracy import relaxed_accuracy
from mm1.evals.metrics.vqa import vqa_accuracy
from mm1.evals.metrics.yes_no import COGNITION, PERCEPTION, mme_scores, mme_total, pope_answer, pope_scores
from tests.support.answer_reference import TEXTS, read_golden


def mathvista_form(text, choices, answer_type, precision):
    return mathvista.normalise(text, choices=choices, answer_type=answer_type, precision=precision)


METRICS = {
    "vqa": vqa_accuracy,
    "evalai": evalai_accuracy,
    "anls": anls,
    "relaxed": lambda prediction, answer: relaxed_accuracy(prediction, [answer]),
    "scienceqa": lambda prediction, answer: float(options.leading_letter(prediction) == answer),
    "mmbench": options.mmbench_letter,
    "mmmu_choice": mmmu.parse_choice,
    "mmmu_open": mmmu.open_accuracy,
    "mathvista": mathvista_form,
    "mme": lambda rows: sum(mme_scores(*zip(*rows, strict=True)).values()),
}
GOLDEN = read_golden()


@pytest.mark.parametrize("name", METRICS)
def test_values_are_the_published_ones(name):
    for *arguments, expected in GOLDEN[name]:
        if name == "mmmu_choice" and expected == "":  # the benchmark guesses
            assert METRICS[name](*arguments) in "ABCD"
        else:
            assert METRICS[name](*arguments) == (pytest.approx(expected) if isinstance(expected, float) else expected), (
                arguments
            )


# -- VQA ----------------------------------------------------------------------------------------------------------------


def test_answers_on_which_all_annotators_agree_are_compared_unprocessed():
    assert vqa_accuracy("yes", ["yes"] * 10) == 1.0
    assert vqa_accuracy("Yes", ["yes"] * 10) == vqa_accuracy("yes.", ["yes"] * 10) == 0.0
    assert vqa_accuracy("yes\n", ["yes"] * 10) == 1.0
    assert vqa_accuracy("Yes.", ["yes"] * 9 + ["no"]) == 1.0
    assert evalai_accuracy("Yes.", ["yes"] * 10) == 1.0


@pytest.mark.parametrize("metric", [vqa_accuracy, evalai_accuracy, anls])
def test_no_reference_is_an_error(metric):
    with pytest.raises(ValueError, match="at least one reference"):
        metric("yes", [])


ANSWERS = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=10)
REFERENCE_METRICS = [vqa_accuracy, evalai_accuracy, anls, relaxed_accuracy, exact_match, prefix_match]


@given(st.sampled_from(REFERENCE_METRICS), st.sampled_from(TEXTS), ANSWERS, st.randoms())
def test_values_are_within_bounds_and_the_order_of_references_does_not_matter(metric, prediction, references, rng):
    value = metric(prediction, references)
    assert 0.0 <= value <= 1.0
    shuffled = rng.sample(references, len(references))
    assert metric(prediction, shuffled) == pytest.approx(value)


@given(st.sampled_from(REFERENCE_METRICS), st.sampled_from([text for text in TEXTS if text.strip()]), st.integers(1, 10))
def test_the_same_answer_has_the_highest_value(metric, text, number):
    assert metric(text, [text] * number) == 1.0


# -- numbers and text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("10.5", "10", 1), ("10.51", "10", 0), ("5%", "0.05", 1),
        ("5 %", "5%", 1), ("5", "5%", 0), ("0", "0", 1), ("0.0", "0", 0), ("-9.6", "-10", 1),
        ("Red", "red", 1), ("red.", "red", 0), ("1,000", "1000", 0), ("nan", "3", 0), ("inf", "3", 0),
    ],
)  # fmt: skip
def test_relaxed_accuracy(prediction, answer, expected):
    assert relaxed_accuracy(prediction, [answer]) == expected


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_edit_distance_is_a_distance(first, second, third):
    assert edit_distance(first, second) == edit_distance(second, first) <= max(len(first), len(second))
    assert (edit_distance(first, second) == 0) == (first == second)
    assert edit_distance(first, third) <= edit_distance(first, second) + edit_distance(second, third)


def test_anls_needs_half_of_the_characters():
    assert anls("Red ring", ["x", "red  ring"]) == pytest.approx(1.0)
    assert anls("abcd", ["abxx"]) == 0.5
    assert anls("abcd", ["axxx"]) == 0.0


def test_exact_matches_of_text_benchmarks():
    assert exact_match(" New-York! ", ["newyork"]) == 1.0
    assert prefix_match(" Paris, France", ["paris"]) == 1.0
    assert prefix_match("parish", ["paris"]) == prefix_match("in Paris", ["paris"]) == 0.0


# -- yes and no ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Yes", "yes"), ("No, there is none", "no"), ("There is not", "no"), ("Yes. No dog", "yes"), ("NO", "yes"), ("", "yes")],
)
def test_pope_reads_the_first_sentence(text, expected):
    assert pope_answer(text) == expected


def test_pope_scores_by_hand():
    scores = pope_scores(["yes", "yes", "yes", "no", "no"], ["yes", "no", "yes", "yes", "no"])
    assert (scores.accuracy, scores.yes_share) == (0.6, 0.6)
    assert scores.precision == scores.recall == scores.f1 == pytest.approx(2 / 3)
    assert pope_scores(["no"], ["no"]).f1 == 0.0
    with pytest.raises(ValueError, match="labels yes and no, got 'Yes'"):
        pope_scores(["yes"], ["Yes"])


def test_mme_adds_accuracy_and_accuracy_of_pairs():
    items = [
        Item(id=str(number), question_type=subtask, answer=label, references=(label,), group=image)
        for number, (subtask, image, label) in enumerate(
            [("OCR", "1", "Yes"), ("OCR", "1", "No"), ("OCR", "2", "Yes"), ("OCR", "2", "No"), ("code_reasoning", "3", "Yes")]
        )
    ]
    predictions = ["Yes", "no", "yes.", "Yes", "No"]
    assert of_items.mme_perception(predictions, items) == 75 + 50
    assert of_items.mme_cognition(predictions, items) == 0
    # A bootstrap sample may hold an image twice.
    assert of_items.mme_perception([*predictions[:4], *predictions[:2]], [*items[:4], *items[:2]]) == pytest.approx(
        100 * (5 + 4) / 6
    )
    assert mme_total({name: 200.0 for name in PERCEPTION}, PERCEPTION) == 2000
    assert mme_total({name: 200.0 for name in COGNITION}, COGNITION) == 800


# -- options ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("B", "B"), ("b", "B"), ("B. a red ring", "B"), (" B.", "B"), ("(B)", ""), ("Because", ""), ("", ""), ("1", "")],
)
def test_the_leading_letter_of_an_answer(text, expected):
    assert options.leading_letter(text) == expected


def test_letters_of_an_answer():
    assert options.first_letter(" b) ring") == "B"
    assert options.mmbench_letter("The answer is (C).", ["x", "y", "z"]) == "C"
    assert options.mmbench_letter("A red ring is there", ["blue ring", "red ring"]) == "B"
    assert options.mmbench_letter("B or C", ["x", "y", "z"]) == ""


def test_a_guess_of_mmmu_is_repeatable():
    assert mmmu.parse_choice("nothing", ["a", "b", "c"]) == mmmu.parse_choice("nothing", ["a", "b", "c"])
    assert mmmu.parse_choice("It is (B), not (A)", ["x", "y"]) == "A"


@pytest.mark.parametrize(
    ("text", "answer", "fields", "expected"),
    [
        ("The answer is (B) ring.", "ring", {"choices": ("dog", "ring")}, 1),
        ("It must be B.", "ring", {"choices": ("dog", "ring")}, 1),
        ("A ring is what I see", "ring", {"choices": ("dog", "ring")}, 1),
        ("There are 14 of 20, so 1,014", "1014", {"answer_type": "integer"}, 1),
        ("about 0.62 meters", "0.6", {"answer_type": "float", "precision": 1}, 1),
        ("between [2007, 2008].", "[2007, 2008]", {"answer_type": "list"}, 1),
        ("no number", "3", {"answer_type": "integer"}, 0),
    ],
)
def test_mathvista_without_a_judge(text, answer, fields, expected):
    assert (mathvista.parse_answer(text, **fields) == answer) == expected


def test_the_likeliest_choice_by_length():
    logprobs, choices = [-4.0, -6.0], ["ring", "éééééé"]
    assert best_choice(logprobs, choices) == 0
    assert best_choice(logprobs, choices, "characters") == 0  # -1 each: the first of equals
    assert best_choice(logprobs, choices, "bytes") == 1
    with pytest.raises(ValueError, match="choice 1 is empty"):
        best_choice([-1.0, 0.0], ["a", ""])
