"""Common parts of MM1's image evaluations (MM1, appendix C): prompts, stop strings, post-processing, instructions for chats.

In the plain style the image comes first, then ``A photo of`` for a caption, ``Question: ... Short answer:`` for a question.
An answer ends with the line; a short answer also at ".", "," and "Question". A line break ends each demonstration, so that a
model learns to end its answer by one. Chat models get the instructions of LLaVA-1.5 on the form of the answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mm1.evals.config import Templates
from mm1.evals.items import Item

TEMPLATES = Templates(
    question="Question: {question} Short answer: {answer}\n",
    caption="A photo of {caption}\n",
    caption_request="Provide a one-sentence caption for the provided image.",
)
ANSWER_STOP = ("\n", ".", ",", "Question")
SHORT_ANSWER = "Answer the question using a single word or phrase."
UNANSWERABLE = "When the provided information is insufficient, respond with 'Unanswerable'."
CAPTION_TOKENS = 30
ANSWER_TOKENS = 10
_NEXT_CUE = re.compile(r"(?<=.)(?:Question|Answer|Short)|, ", re.DOTALL)
"""Where OpenFlamingo cuts a generated answer: at a word of the prompt, and at a comma."""


def short_answer(prediction: str, item: Item) -> str:
    """Return the text before the next cue or comma, as OpenFlamingo's post-processing of answers does."""
    return _NEXT_CUE.split(prediction, maxsplit=1)[0].strip()


def most_frequent(answers: Sequence[str]) -> str:
    """Return the answer that most annotators gave, of equally frequent ones the first; empty without answers."""
    return Counter(answers).most_common(1)[0][0] if answers else ""


def numbered_answer(item: Item, prediction: str) -> dict[str, object]:
    """Write an entry of a result file for VQAv2's server, which TextVQA's also takes."""
    return {"question_id": int(item.id), "answer": prediction}


def numbered_caption(item: Item, prediction: str) -> dict[str, object]:
    """Write an entry of a result file for COCO's caption server, which NoCaps' also takes."""
    return {"image_id": int(item.id), "caption": prediction}
