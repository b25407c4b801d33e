"""Caption tokens and metrics against the published toolkit's, on captions made of the words on which tokenizers differ."""

from __future__ import annotations

from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.evals.metrics.bleu import bleu
from mm1.evals.metrics.cider_d import cider_d
from mm1.evals.metrics.ptb import caption_tokens, caption_words, tokenize
from mm1.evals.metrics.rouge_l import rouge_l
from tests.support import caption_reference
from tests.support.caption_templates import make_captions


def agreement(seen: list[str], wanted: list[str]) -> float:
    """Share of equal tokens."""
    equal = total = 0
    for mine, theirs in zip(seen, wanted, strict=True):
        first, second = mine.split(" "), theirs.split(" ")
        total += max(len(first), len(second))
        blocks = SequenceMatcher(None, first, second).get_matching_blocks()
        equal += sum(block.size for block in blocks)
    return equal / total


def check(captions: list[str], published: caption_reference.Published) -> None:
    assert agreement(tokenize(captions), published.tokens) >= 0.9999
    predictions, references = caption_reference.split(captions)
    assert cider_d(predictions, references) == pytest.approx(published.cider, abs=1e-5)
    assert bleu(predictions, references) == pytest.approx(published.bleu, abs=1e-5)
    assert rouge_l(predictions, references) == pytest.approx(published.rouge, abs=1e-5)


def test_tokens_and_caption_metrics_are_the_published_ones():
    check(*caption_reference.read_golden())


@pytest.mark.skipif(
    caption_reference.why_not_here() is not None, reason=f"published metrics: {caption_reference.why_not_here()}"
)
def test_other_captions_agree_with_the_toolkit_itself():
    captions = list(make_captions(2_000, seed=1))
    check(captions, caption_reference.publish(captions))


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a man's dog", "a man 's dog"),
        ("Two dogs.", "two dogs"),
        ("he can't, won't and cannot go", "he ca n't wo n't and can not go"),
        ("they're gonna 'tis", "they 're gon na 't is"),
        ("3,000 or 3.5 at 3:30 p.m., 1/2 of 1 1/2", "3,000 or 3.5 at 3:30 p.m. 1/2 of 1 1/2"),
        ("a 5-year-old (left) - $3.50 or £5", "a 5-year-old -lrb- left -rrb- $ 3.50 or # 5"),
        ("“quoted” ‘words’ 'here' \"too\"", "quoted words here too"),
        ("Mr. Smith on Main St. etc.", "mr. smith on main st. etc."),
        ("wait... what?! 😀", "wait what ?!"),
        ("AT&T black & white AC/DC", "at&t black & white ac/dc"),
        ("", ""),
        ("...", ""),
    ],
)
def test_words_of_a_caption(caption, words):
    assert caption_words(caption) == words.split()


def test_the_following_caption_decides_about_a_letter_with_a_period():
    assert tokenize(["plan b.", "The dog"]) == ["plan b", "the dog"]
    assert tokenize(["plan b.", "the dog"]) == ["plan b.", "the dog"]


@given(st.text(max_size=40))
def test_any_text_has_tokens_and_spaces_around_it_change_nothing(text):
    assert caption_tokens(f"  {text} ") == caption_tokens(text + " ")
    assert all(token and token.lower() == token for token in caption_tokens(text) if token.isascii())
