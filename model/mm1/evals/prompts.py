"""Prompts of items: the choice of demonstrations, and their formatting.

All sampling is seeded by seed and item, so the same seed gives the same prompts whatever else is evaluated.
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
from mm1.generation.chat import chat_prompt
from mm1.generation.prompt import Message, Prompt, Request


def choose_items(items: Sequence[Item], count: int, seed: int, task: str) -> list[Item]:
    """Choose ``count`` distinct items (all if there are fewer), in the order of the file."""
    distinct = list({(item.image, item.question, item.question_type): item for item in reversed(items)}.values())[::-1]
    if count >= len(distinct):
        return distinct
    kept = sorted(Random(f"{seed} items {task}").sample(range(len(distinct)), count))
    return [distinct[index] for index in kept]


def shuffled_images(items: Sequence[Item], seed: int, task: str) -> list[Path | None]:
    """Choose for each item the image of another item, never its own, for the control.

    Raises:
        ConfigurationError: all items have the same image.
    """
    order = list(range(len(items)))
    Random(f"{seed} shuffle {task}").shuffle(order)
    images: list[Path | None] = [None] * len(items)
    for position, index in enumerate(order):
        others = (items[order[(position + step) % len(order)]].image for step in range(1, len(order)))
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
        """Sample demonstrations of the item's question type, never with the item's own image.

        If the item has choices, the demonstrations are balanced: each choice occurs equally often (the first ones once more if
        the number does not divide), in random order.

        Raises:
            ConfigurationError: there are not enough demonstrations of the type.
        """
        if not shots:
            return ()
        rng = Random(f"{seed} demonstrations {self.task} {item.id} {item.question_type}")
        pool = [other for other in self._by_type[item.question_type] if other.image is None or other.image != item.image]
        if not item.choices:
            self._check(item, len(pool), shots)
            return tuple(rng.sample(pool, shots))
        drawn: list[Item] = []
        for number, choice in enumerate(item.choices):
            count = shots // len(item.choices) + (number < shots % len(item.choices))
            of_choice = [other for other in pool if other.answer == choice]
            self._check(item, len(of_choice), count, f" with the answer {choice!r}")
            drawn += rng.sample(of_choice, count)
        rng.shuffle(drawn)
        return tuple(drawn)

    def _check(self, item: Item, available: int, needed: int, which: str = "") -> None:
        if available < needed:
            raise ConfigurationError(
                f"task {self.task}: {needed} demonstrations of question type {item.question_type!r}{which} are needed, but its "
                f"demonstration file has {available}: lower shots or add demonstrations"
            )


@dataclass(frozen=True)
class PromptWriter:
    """Formats the items of one task."""

    form: Form
    style: Style
    templates: Templates
    processor: Any
    """The model's processor, for its chat template."""

    @classmethod
    def of(cls, task: Task, style: Style, templates: Templates, processor: Any) -> PromptWriter:
        """Create the writer of a task in an evaluation of a style."""
        return cls(task.form, task.style or style, templates, processor)

    def request(self, item: Item, demonstrations: Sequence[Item], image: Path | None) -> Request:
        """Format the prompt of an item.

        Args:
            item: the item to evaluate.
            demonstrations: items before it in the prompt, with their answers.
            image: the query image; in the control, that of another item.
        """
        if self.style == "chat":
            turns = [turn for example in demonstrations for turn in (self._ask(example, example.image), self._reply(example))]
            return Request(chat_prompt(self.processor, [*turns, self._ask(item, image)]))
        prefix: list[Any] = []
        for example in demonstrations:
            prefix += _with_image(example.image, self._head(example) + example.answer + self._tail)
        return Request(_with_image(image, self._head(item).rstrip()), prefix=tuple(prefix))

    def continuation(self, item: Item, answer: str) -> str:
        """Format an answer as the continuation of an item's prompt, with the space between them."""
        if self.style == "chat":
            return answer
        head = self._head(item)
        return head[len(head.rstrip()) :] + answer

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings of the template that end an answer."""
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
        """Fill in the template up to the answer."""
        head = self._template().partition(self._slot)[0]
        return head.replace("{prompt}" if self.form == "text" else "{question}", item.question)

    def _ask(self, item: Item, image: Path | None) -> Message:
        text = self.templates.caption_request if self.form == "caption" else item.question
        return Message("user", _with_image(image, text))

    def _reply(self, item: Item) -> Message:
        return Message("assistant", (item.answer,))


def _with_image(image: Path | None, text: str) -> Prompt:
    if image is None:
        return (text,)
    return (image, text) if text else (image,)
