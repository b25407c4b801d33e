"""Items of a benchmark: questions with their reference answers. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_uppercase

from mm1.generation.prompt import IMAGE_MARK as IMAGE_MARK
from mm1.generation.prompt import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An item to evaluate, or to use as a demonstration.

    Raises:
        ValueError: a choice is empty; its likelihood would be 1. Or there are more options than letters.
    """

    id: str
    images: tuple[Image, ...] = ()
    """Its images, in order."""
    question: str = ""
    """Question, or the prompt of a text item; empty for captions. Images go to its marks (`IMAGE_MARK`), or else before it."""
    question_type: str = ""
    """Type for the breakdown of scores; demonstrations are sampled from items of the same type if the task says so."""
    answer: str = ""
    """The answer in a demonstration."""
    references: tuple[str, ...] = ()
    """All correct answers, in VQAv2 one per annotator; empty in a test set without answers."""
    choices: tuple[str, ...] = ()
    """The possible answers, of which the likeliest is the model's answer; empty: the model generates its answer."""
    options: tuple[str, ...] = ()
    """Options that the prompt lists by letter, of which the model names one."""
    ending: str = ""
    """Text after the answer. A choice's likelihood is then that of the ending after it (WinoGrande's partial evaluation)."""
    group: str = ""
    """Items that are not independent, such as the questions about one image; empty: the items with the same images."""
    extra: tuple[tuple[str, str], ...] = ()
    """Further fields of the benchmark that its metrics or prompts need, such as ``("rationale", "...")``."""

    def __post_init__(self) -> None:
        if self.choices and not all(choice.strip() for choice in self.choices):
            raise ValueError("a choice is empty")
        if len(self.options) > len(ascii_uppercase):
            raise ValueError(f"expected at most {len(ascii_uppercase)} options, got {len(self.options)}")

    def field(self, name: str) -> str:
        """Return a further field; empty if the item lacks it."""
        return dict(self.extra).get(name, "")

    @property
    def cluster(self) -> str:
        """Name of the group of items that are not independent, for standard errors."""
        return self.group or (" ".join(map(str, self.images)) if self.images else self.id)
