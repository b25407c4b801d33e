"""From items to prompts: which demonstrations an item gets, and how they are written down.

Everything is drawn by seed and item, so that the same seed gives the same prompts whatever else is evaluated beside them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mm1.errors import ConfigurationError
from mm1.evals.config import Style, Templates
from mm1.evals.items import Item
from mm1.evals.tasks.base import Form, Task
from mm1.generation.chat import Message, chat_prompt
from mm1.generation.prompt import Prompt, Request


def choose_items(items: Sequence[Item], count: int, seed: int, task: str) -> list[Item]:
    """``count`` different items (all if there are fewer), in the order of the file."""
    distinct = list({(item.image, item.question, item.question_type): item for item in reversed(items)}.values())[::-1]
    if count >= len(distinct):
        return distinct
    kept = sorted(Random(f"{seed} items {task}").sample(range(len(distinct)), count))
    return [distinct[index] for index in kept]


def shuffled_images(items: Sequence[Item], seed: int, task: str) -> list[Path | None]:
    """For each item the image of another one, never its own: the control.

    Raises:
        ConfigurationError: all items have the same image.
    """
    order = list(range(len(items)))
    Random(f"{seed} shuffle {task}").shuffle(order)
    images: list[Path | None] = [None] * len(items)
    for place, index in enumerate(order):
        others = (items[order[(place + step) % len(order)]].image for step in range(1, len(order)))
        images[index] = next((image for image in others if image != items[index].image), None)
        if images[index] is None:
            raise ConfigurationError(f"task {task}: the image-shuffled control needs at least two different images")
    return images


class DemonstrationPool:
    """The demonstrations of a task by question type."""

    def __init__(self, task: str, demonstrations: Sequence[Item]) -> None:
        self.task = task
        self._by_type: dict[str, list[Item]] = defaultdict(list)
        for item in demonstrations:
            self._by_type[item.question_type].append(item)

    def draw(self, item: Item, shots: int, seed: int) -> tuple[Item, ...]:
        """Demonstrations of the item's question type, never with the item's own image.

        Where the item has choices, they are balanced: each choice is shown equally often (the first ones once more when the
        number does not divide), in random order.

        Raises:
            ConfigurationError: there are not enough of the type.
        """
        if not shots:
            return ()
        rng = Random(f"{seed} demonstrations {self.task} {item.id} {item.question_type}")
        pool = [shown for shown in self._by_type[item.question_type] if shown.image is None or shown.image != item.image]
        if not item.choices:
            self._check(item, len(pool), shots)
            return tuple(rng.sample(pool, shots))
        drawn: list[Item] = []
        for number, choice in enumerate(item.choices):
            wanted = shots // len(item.choices) + (number < shots % len(item.choices))
            of_choice = [shown for shown in pool if shown.answer == choice]
            self._check(item, len(of_choice), wanted, f" with the answer {choice!r}")
            drawn += rng.sample(of_choice, wanted)
        rng.shuffle(drawn)
        return tuple(drawn)

    def _check(self, item: Item, found: int, wanted: int, which: str = "") -> None:
        if found < wanted:
            raise ConfigurationError(
                f"task {self.task}: {wanted} demonstrations of question type {item.question_type!r}{which} are needed, but its "
                f"demonstration file has {found}; lower shots or add demonstrations"
            )


@dataclass(frozen=True)
class PromptWriter:
    """Writes items down for one task."""

    form: Form
    style: Style
    templates: Templates
    processor: Any
    """The model's processor, for its chat template."""

    @classmethod
    def of(cls, task: Task, style: Style, templates: Templates, processor: Any) -> PromptWriter:
        """The writer of a task in an evaluation of a style."""
        return cls(task.form, task.style or style, templates, processor)

    def request(self, item: Item, demonstrations: Sequence[Item], image: Path | None) -> Request:
        """The prompt of an item.

        Args:
            item: the item to ask.
            demonstrations: what is shown before it.
            image: the query image, in the control another one than the item's.
        """
        if self.style == "chat":
            turns = [turn for shown in demonstrations for turn in (self._ask(shown, shown.image), self._reply(shown))]
            return Request(chat_prompt(self.processor, [*turns, self._ask(item, image)]))
        prefix: list[Any] = []
        for shown in demonstrations:
            prefix += _with_image(shown.image, self._head(shown) + shown.answer + self._tail)
        return Request(_with_image(image, self._head(item).rstrip()), prefix=tuple(prefix))

    def continuation(self, item: Item, answer: str) -> str:
        """An answer as it follows the prompt of an item, with the space between them."""
        if self.style == "chat":
            return answer
        head = self._head(item)
        return head[len(head.rstrip()) :] + answer

    @property
    def stop(self) -> tuple[str, ...]:
        """The strings of the template that end an answer."""
        tail = self._tail.strip()
        return (tail,) if self.style == "plain" and tail else ()

    def _template(self) -> str:
        return str(getattr(self.templates, self.form))

    @property
    def _slot(self) -> str:
        return "{caption}" if self.form == "caption" else "{answer}"

    @property
    def _tail(self) -> str:
        return self._template().partition(self._slot)[2]

    def _head(self, item: Item) -> str:
        """The template up to the answer, filled in."""
        head = self._template().partition(self._slot)[0]
        return head.replace("{prompt}" if self.form == "text" else "{question}", item.question)

    def _ask(self, item: Item, image: Path | None) -> Message:
        words = self.templates.caption_request if self.form == "caption" else item.question
        return Message("user", _with_image(image, words))

    def _reply(self, item: Item) -> Message:
        return Message("assistant", (item.answer,))


def _with_image(image: Path | None, text: str) -> Prompt:
    if image is None:
        return (text,)
    return (image, text) if text else (image,)
