"""Similar demonstrations, and choices in generated texts."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from mm1.evals.choosing import named_choice
from mm1.evals.config import EvalConfig
from mm1.evals.demonstrations import DemonstrationPool
from mm1.evals.items import Item
from mm1.evals.similarity import Similarity


def picture(colour, mark=0):
    image = Image.new("RGB", (32, 32), colour)
    image.paste((255, 255, 255), (mark, mark, mark + 12, mark + 12))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def item(name, *images, question="", **fields):
    return Item(id=name, images=images, question=question, **fields)


def test_the_most_similar_image_is_last_next_to_the_query():
    pool = [item(f"{colour}{mark}", picture(colour, mark)) for colour in ("red", "blue") for mark in (0, 10, 19)]
    query = item("query", picture("red", 18))
    drawn = DemonstrationPool("task", pool, similarity=Similarity()).draw(query, 3, seed=0)
    assert drawn[-1].id == "red19" and len({each.id for each in drawn}) == 3
    assert DemonstrationPool("task", pool, similarity=Similarity()).draw(query, 3, seed=5) == drawn


def test_the_features_of_the_model_count_if_it_has_them():
    features = {b"query": [1, 0], b"a": [0, 5], b"b": [0.9, 0.1], b"c": [-1, 0]}
    calls = []

    def embed(images):
        calls.append(list(images))
        return np.array([features[image] for image in images], dtype=np.float32)

    similarity = Similarity(embed)
    pool = DemonstrationPool("task", [item(name, name.encode()) for name in "abc"], similarity=similarity)
    assert [each.id for each in pool.draw(item("query", b"query"), 2, seed=0)] == ["a", "b"]
    pool.draw(item("query", b"query"), 1, seed=0)
    assert len(calls) == 1, "each image once"


def test_items_of_text_are_compared_by_their_words():
    texts = ["the red ring is big", "a blue square", "the red ring", "Red, the RING is small"]
    pool = DemonstrationPool("task", [item(text, question=text) for text in texts], similarity=Similarity())
    assert [each.id for each in pool.draw(item("query", question="the red ring ?"), 2, seed=0)] == [texts[0], texts[2]]


def test_choices_stay_balanced_and_the_item_itself_is_never_shown():
    own = picture("red")
    pool = [
        item("own", own, answer="dax"),
        *(item(f"{n}", picture("red", n), answer=("dax", "wug")[n % 2]) for n in range(1, 7)),
    ]
    query = item("query", own, choices=("dax", "wug"))
    drawn = DemonstrationPool("task", pool, similarity=Similarity()).draw(query, 4, seed=0)
    assert sorted(each.answer for each in drawn) == ["dax", "dax", "wug", "wug"] and "own" not in {each.id for each in drawn}


def test_several_draws_of_the_most_similar_are_refused():
    with pytest.raises(ValidationError, match="set draws to 1"):
        EvalConfig(tasks=("vqa",), selection="similar", draws=3)


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        ("B", "ABCD", "B"),
        ("(b)", "ABCD", "B"),
        ("B. a red ring", "ABCD", "B"),
        ("B) red", "ABCD", "B"),
        ("Answer: C", "ABCD", "C"),
        ("The correct answer is D.", "ABCD", "D"),
        ("a dog is in it", "ABCD", "a dog is in it"),
        ("", "ABCD", ""),
        ("Yes, it is", ("yes", "no"), "yes"),
        ("I think no", ("yes", "no"), "no"),
        ("yes or no", ("yes", "no"), "yes"),
        ("it is yes or no", ("yes", "no"), "it is yes or no"),
        ("nobody", ("yes", "no"), "nobody"),
        ("It is a hot dog.", ("dog", "hot dog"), "hot dog"),
        ("hot dog", ("hot", "hot dog"), "hot dog"),
        ("C++ (2)", ("C", "C++"), "C++"),
        ("12", ("1", "12"), "12"),
    ],
)
def test_the_choice_that_a_text_names(text, choices, expected):
    assert named_choice(text, tuple(choices)) == expected
