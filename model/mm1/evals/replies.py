"""Replies of a model, kept in files: one per part, under the digest of the model and of its questions.

An interrupted evaluation continues after the last part, and processes that share a folder share their replies. The name
of a file is its condition: another prompt, image, template or model has another name. Torch-free.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mm1.config.resolve import canonical_json
from mm1.errors import ConfigurationError
from mm1.evals.segments import ImageDigests, segments
from mm1.generation.prompt import AnyPrompt, Completion, Conversation, Likelihood, Request
from mm1.store.base import digest_of
from mm1.store.local import atomic_path

log = logging.getLogger(__name__)

Reply = Completion | tuple[Likelihood, ...]
"""A model's reply: generated text, or the likelihoods of the choices."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt with the form of its answer."""

    task: str
    ask: AnyPrompt
    choices: tuple[str, ...]
    """Continuations to choose from; empty: the model generates."""
    max_new_tokens: int
    stop: tuple[str, ...]
    ending: str = ""
    """Text whose likelihood after each choice is compared, instead of the likelihood of the choice."""

    @property
    def scored(self) -> list[tuple[AnyPrompt, tuple[str, ...]]]:
        """Prompts with the continuations whose likelihoods answer the question, in the order of the choices."""
        if not self.ending:
            return [(self.ask, self.choices)]
        return [(_with_text(self.ask, choice), (self.ending,)) for choice in self.choices]


def _with_text(ask: AnyPrompt, text: str) -> Request:
    """Append text to a prompt."""
    if isinstance(ask, Conversation):
        raise ConfigurationError("the likelihood of an ending needs the plain style, got a conversation")
    *before, last = ask.prompt or ("",)
    if not isinstance(last, str):
        return replace(ask, prompt=(*ask.prompt, text))
    return replace(ask, prompt=(*before, last + text if last else text.lstrip()))


class KeptReplies:
    """A folder of replies.

    Args:
        folder: the folder; it is created for the first reply.
        model: identity of the model and of the settings that its answers depend on.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.model = model
        self._digests = ImageDigests()

    def path(self, questions: Sequence[Question]) -> Path:
        """Return the file of the replies to these questions."""
        return self.folder / f"{self.key(questions)}.json"

    def key(self, questions: Sequence[Question]) -> str:
        """Compute the digest of the model and of its questions."""
        return digest_of(canonical_json([self.model, *map(self._content, questions)]).encode())

    def _content(self, question: Question) -> list[Any]:
        pieces = [piece if isinstance(piece, str) else [self._digests(piece)] for piece in segments(question.ask)]
        return [type(question.ask).__name__, pieces, question.choices, question.max_new_tokens, question.stop, question.ending]

    def read(self, questions: Sequence[Question]) -> list[Reply] | None:
        """Return the replies to these questions; None if they are missing, or damaged."""
        path = self.path(questions)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            replies = [_reply(row) for row in content["replies"]]
            if content["digest"] != _digest(content["replies"]) or len(replies) != len(questions):
                raise ValueError("the content is not what was written")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is damaged, its prompts are asked again: %s", path, error)
            return None
        return replies

    def write(self, questions: Sequence[Question], replies: Sequence[Reply]) -> None:
        """Keep replies; a file is complete or absent, even after SIGKILL."""
        rows = [_row(reply) for reply in replies]
        content = {"digest": _digest(rows), "replies": rows}
        with atomic_path(self.path(questions)) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _digest(rows: Sequence[dict[str, Any]]) -> str:
    return digest_of(json.dumps(rows, sort_keys=True).encode())  # a log-probability can be -Infinity


def _row(reply: Reply) -> dict[str, Any]:
    if isinstance(reply, Completion):
        return {"completion": asdict(reply)}
    return {"likelihoods": [asdict(each) for each in reply]}


def _reply(row: dict[str, Any]) -> Reply:
    if "completion" in row:
        fields = row["completion"]
        return Completion(**fields | {"tokens": tuple(fields["tokens"])})
    return tuple(Likelihood(**fields) for fields in row["likelihoods"])
