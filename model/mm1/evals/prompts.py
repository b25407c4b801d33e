"""Formatting of items as prompts, in the plain or in the chat style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mm1.evals.config import EvalConfig, Style, Templates
from mm1.evals.items import IMAGE_MARK, Item
from mm1.evals.tasks.base import Task
from mm1.generation.prompt import AnyPrompt, Conversation, Image, Message, Prompt, Request
from mm1.generation.tiles import Detailed, static_tiles


@dataclass(frozen=True)
class PromptWriter:
    """Formats the items of one task."""

    task: Task
    style: Style
    templates: Templates
    sub_images_px: int = 0
    """Side of the parts into which images are divided; 0 = as the model's own layout does."""
    sub_images_of_model: bool = False
    """Whether to divide the query's images by that layout, however many images the prompt has."""
    sub_image_shots: int = 0
    """Number of last demonstrations whose images are divided as the query's."""

    @classmethod
    def of(cls, task: Task, config: EvalConfig) -> PromptWriter:
        """Create the writer of a task in an evaluation."""
        style, templates = task.style or config.style, task.templates or config.templates
        return cls(task, style, templates, config.sub_images_px, config.sub_images_of_model, config.sub_image_shots)

    def request(self, item: Item, demonstrations: Sequence[Item], images: Sequence[Image]) -> AnyPrompt:
        """Format the prompt of an item.

        Args:
            item: the item to evaluate.
            demonstrations: items before it in the prompt, with their answers.
            images: the query's images; in the control, those of another item.
        """
        whole = len(demonstrations) - self.sub_image_shots
        examples = [(each, self._parts(each.images, divided=index >= whole)) for index, each in enumerate(demonstrations)]
        query = self._parts(images, divided=True)
        if self.style == "chat":
            turns = [turn for example, parts in examples for turn in (self._ask(example, parts), self._reply(example))]
            return Conversation((self._ask(item, query),), prefix=tuple(turns))
        prefix: list[str | Image] = []
        for example, parts in examples:
            prefix += _with_images(parts, self._head(example) + self.task.reply(example) + self._tail)
        return Request(_with_images(query, self._head(item).rstrip()), prefix=tuple(prefix))

    def _parts(self, images: Sequence[Image], *, divided: bool) -> list[Prompt]:
        """Return the parts of each image that the model sees."""
        if divided and self.sub_images_px:
            return [static_tiles(image, self.sub_images_px) for image in images]
        if divided and self.sub_images_of_model:
            return [(Detailed(image),) for image in images]
        return [(image,) for image in images]

    def continuation(self, item: Item, answer: str) -> str:
        """Format an answer as the continuation of an item's prompt, with the space between them."""
        if self.style == "chat":
            return answer
        head = self._head(item)
        return head[len(head.rstrip()) :] + answer

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer."""
        if self.style == "chat":
            return ()
        tail = self._tail.strip()
        return ((tail,) if tail else ()) + self.task.stop

    def _template(self) -> str:
        return str(getattr(self.templates, self.task.form))

    @property
    def _slot(self) -> str:
        return "{caption}" if self.task.form == "caption" else "{answer}"

    @property
    def _tail(self) -> str:
        return self._template().partition(self._slot)[2]

    def _head(self, item: Item) -> str:
        """Fill in the template up to the answer."""
        head = self._template().partition(self._slot)[0]
        return head.replace("{prompt}" if self.task.form == "text" else "{question}", self.task.ask(item))

    def _ask(self, item: Item, images: Sequence[Prompt]) -> Message:
        text = self.templates.caption_request if self.task.form == "caption" else self.task.ask(item)
        if self.task.instruction:
            text = f"{text}\n{self.task.instruction}"
        return Message("user", _with_images(images, text))

    def _reply(self, item: Item) -> Message:
        return Message("assistant", (self.task.reply(item),))


def _with_images(images: Sequence[Prompt], text: str) -> Prompt:
    """Place images, each as its parts, at the marks in a text, or before the text if it has none."""
    pieces = text.split(IMAGE_MARK)
    if len(pieces) == 1 or len(pieces) != len(images) + 1:
        pieces = ["", *[""] * (len(images) - 1), text] if images else [text]
    prompt: list[str | Image] = []
    for number, piece in enumerate(pieces):
        if number:
            prompt += images[number - 1]
        if piece:
            prompt.append(piece)
    return tuple(prompt)
