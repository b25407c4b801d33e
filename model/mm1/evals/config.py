"""Configuration of an evaluation. Torch-free.

The default templates match the questions of the toy world's pages (see its documentation). For a model trained on real data,
set the paper's, for example ``Question: {question} Short answer: {answer}`` (MM1, appendix C).
"""

from __future__ import annotations

from operator import not_
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from mm1.config.base import Config

Style = Literal["plain", "chat"]
Choose = Literal["likelihood", "generate"]

PLACEHOLDERS = {"question": ("{question}", "{answer}"), "caption": ("{caption}",), "text": ("{prompt}", "{answer}")}


class Templates(Config):
    """Prompt templates for a base model. The text after the answer in a template ends the answer."""

    question: str = "{question} {answer} ."
    """After an image: a question and its answer."""
    caption: str = "a photo of {caption} ."
    """After an image: its caption."""
    text: str = "{prompt} {answer}"
    """A text item and its answer."""
    caption_request: str = "describe the image ."
    """User message that requests a caption in the chat style."""

    @model_validator(mode="after")
    def _placeholders(self) -> Self:
        for name, placeholders in PLACEHOLDERS.items():
            template = getattr(self, name)
            if any(template.count(placeholder) != 1 for placeholder in placeholders):
                raise ValueError(f"template {name}: expected {' and '.join(placeholders)} exactly once, got {template!r}")
            if template.index(placeholders[-1]) != max(template.index(placeholder) for placeholder in placeholders):
                raise ValueError(f"template {name}: expected {placeholders[-1]} as the last placeholder, got {template!r}")
        return self


class EvalConfig(Config):
    """An evaluation: tasks, shots, items, prompts."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of tasks; ``name@0,4`` sets the shots of one task."""
    shots: tuple[int, ...] = (0, 4, 8)
    """Numbers of demonstrations (MM1 3.1: 0, 4, 8), for tasks without fixed ones."""
    items: int | None = Field(default=256, ge=1)
    """Items per task, sampled without replacement; all if there are fewer, or for None."""
    controls: bool = True
    """Also evaluate with each query image replaced by another item's."""
    style: Style = "plain"
    """plain: the templates; chat: the processor's chat template. For tasks without a fixed style."""
    seed: int = 0
    """Seed of items, demonstrations and swaps."""
    draws: int = Field(default=1, ge=1)
    """Number of draws of the demonstrations; scores are means over items and draws."""
    selection: Literal["random", "similar"] = "random"
    """random (MM1, appendix C), or similar: the demonstrations most similar to the query."""
    sub_images_px: int = Field(default=0, ge=0, le=4096)
    """Side of the parts into which the query's images are divided, an overview and four crops, in pixels: that of the model's
    images (MM1 5: 672), for models of any kind. 0 = as the model's own layout does (`mm1.modeling.image_layout`)."""
    sub_images_of_model: bool = Field(default=False, exclude_if=not_)
    """Whether to divide the query's images by the model's own layout, however many images the prompt has."""
    sub_image_shots: int = Field(default=0, ge=0)
    """Number of last demonstrations whose images are divided as the query's (mixed resolution, MM1 5)."""
    text_demonstrations: int = Field(default=0, ge=0)
    """Also evaluate 0 shots with this number of demonstrations without their images, which others call 0-shot (Flamingo: 2)."""
    choose: Choose = "likelihood"
    """How an item with choices is answered. likelihood: by the likeliest choice; generate: by the choice that the generated
    text names, for models that give no log-probabilities."""
    templates: Templates = Templates()
    """Prompt templates of the plain style."""
    examples: int = Field(default=24, ge=0)
    """Number of sample answers to keep per task, correct and wrong ones."""

    @field_validator("tasks", "shots")
    @classmethod
    def _no_repetition(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"expected different values, got {' '.join(map(str, values))}")
        return values

    @model_validator(mode="after")
    def _one_draw_of_the_most_similar(self) -> Self:
        if self.selection == "similar" and self.draws > 1:
            raise ValueError("selection similar: each draw would have the same demonstrations; set draws to 1")
        return self

    @model_validator(mode="after")
    def _parts_of_demonstrations(self) -> Self:
        if self.sub_images_px and self.sub_images_of_model:
            raise ValueError("sub_images_px: images are divided by the model's own layout already; set one of the two")
        if self.sub_image_shots and not self.sub_images_px and not self.sub_images_of_model:
            raise ValueError("sub_image_shots: expected a division of the query's images, too; set --sub-images")
        return self

    @field_validator("shots")
    @classmethod
    def _not_negative(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if not shots or min(shots) < 0:
            raise ValueError("expected numbers of demonstrations, at least 0")
        return shots
