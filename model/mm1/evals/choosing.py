"""The choice that a generated text names, for models that cannot compare the likelihoods of choices. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Sequence


def named_choice(text: str, choices: Sequence[str]) -> str:
    """Return the choice that a text is, begins with, or is the only one to contain; the text itself if there is none.

    Case, punctuation around the answer and a beginning such as "Answer:" do not matter: ``(B)``, ``B.``, ``b`` and
    ``Answer: B`` name the choice B. Of several choices at the beginning, the longest counts.
    """
    plain = re.sub(r"^(?:the\s+)?(?:correct\s+)?answer(?:\s+is)?\s*[:=]?\s*", "", _plain(text))
    equal = [choice for choice in choices if _plain(choice) == _plain(plain)]
    beginning = [choice for choice in choices if re.match(_whole(choice), plain)]
    if equal or beginning:
        return max(equal or beginning, key=len)
    within = [choice for choice in choices if len(_plain(choice)) > 1 and re.search(_whole(choice), plain)]
    longest = [choice for choice in within if not any(choice != other and _plain(choice) in _plain(other) for other in within)]
    return longest[0] if len(longest) == 1 else text


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip("()[]{}*_\"'`.:,;!? ")


def _whole(choice: str) -> str:
    """Return a pattern of a choice that is not a part of longer words; a letter must not be a word of a sentence ("a dog")."""
    plain = _plain(choice)
    return rf"(?<!\w){re.escape(plain)}" + (r"(?=\s*(?:$|[^\w\s]))" if len(plain) == 1 else r"(?!\w)")
