"""Configuration of an evaluation. Imports no torch.

The default templates are the forms in which the toy world's pages ask (its documentation names them); for a model of real
data give the paper's, for example ``Question: {question} Short answer: {answer}`` (MM1 5.1).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from mm1.config.base import Config

Style = Literal["plain", "chat"]

PLACEHOLDERS = {"question": ("{question}", "{answer}"), "caption": ("{caption}",), "text": ("{prompt}", "{answer}")}


class Templates(Config):
    """How items are put to a base model. What follows the answer in a template ends the answer."""

    question: str = "{question} {answer} ."
    """After an image: a question and its answer."""
    caption: str = "a photo of {caption} ."
    """After an image: its caption."""
    text: str = "{prompt} {answer}"
    """A text item and its answer."""
    caption_request: str = "describe the image ."
    """What the user asks for a caption in the chat style."""

    @model_validator(mode="after")
    def _placeholders(self) -> Self:
        for name, wanted in PLACEHOLDERS.items():
            template = getattr(self, name)
            if any(template.count(place) != 1 for place in wanted):
                raise ValueError(f"template {name} must hold {' and '.join(wanted)} once each, but is {template!r}")
            if template.index(wanted[-1]) != max(template.index(place) for place in wanted):
                raise ValueError(f"template {name} must end with {wanted[-1]}, but is {template!r}")
        return self


class EvalConfig(Config):
    """What is evaluated, and how."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of tasks; ``name@0,4`` sets the shots of one task."""
    shots: tuple[int, ...] = (0, 4, 8)
    """Numbers of demonstrations (MM1 4: 0, 4, 8), for tasks that do not fix their own."""
    items: int = Field(default=256, ge=1)
    """Items per task, drawn without repetition; all if there are fewer."""
    controls: bool = True
    """Also ask with the query image swapped with another item's."""
    style: Style = "plain"
    """plain: the templates; chat: the processor's chat template, for tasks that do not fix their own."""
    seed: int = 0
    """Seed of items, demonstrations and swaps."""
    templates: Templates = Templates()
    """Prompt templates of the plain style."""
    examples: int = Field(default=24, ge=0)
    """Sample answers kept per task, right and wrong ones."""

    @field_validator("tasks", "shots")
    @classmethod
    def _no_repetition(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"names something twice: {' '.join(map(str, values))}")
        return values

    @field_validator("shots")
    @classmethod
    def _not_negative(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if not shots or min(shots) < 0:
            raise ValueError("must be numbers of demonstrations, 0 or more")
        return shots
