"""Choice of items, of demonstrations, and of the images of the control.

All sampling is seeded by seed and item, so the same seed gives the same prompts whatever else is evaluated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from mm1.errors import ConfigurationError
from mm1.evals.items import Item
from mm1.evals.similarity import Similarity
from mm1.generation.prompt import Image


def choose_items(items: Sequence[Item], count: int, seed: int, task: str) -> list[Item]:
    """Choose ``count`` items (all if there are fewer), in the order of the file."""
    if count >= len(items):
        return list(items)
    kept = sorted(Random(f"{seed} items {task}").sample(range(len(items)), count))
    return [items[index] for index in kept]


def distinct(items: Sequence[Item]) -> list[Item]:
    """Return the items without those whose image and question are another's."""
    return list({_key(item): item for item in reversed(items)}.values())[::-1]


def _key(item: Item) -> tuple[object, ...]:
    return (item.images, item.question, item.question_type, item.choices, item.options, item.ending, item.extra)


def shuffled_images(items: Sequence[Item], seed: int, task: str) -> list[tuple[Image, ...]]:
    """Choose for each item the images of another item with the same number of them, never its own, for the control.

    Raises:
        ConfigurationError: there are no other images.
    """
    order = list(range(len(items)))
    Random(f"{seed} shuffle {task}").shuffle(order)
    images: list[tuple[Image, ...]] = [()] * len(items)
    for position, index in enumerate(order):
        own = items[index].images
        others = (items[order[(position + step) % len(order)]].images for step in range(1, len(order)))
        swapped = next((other for other in others if len(other) == len(own) and set(other).isdisjoint(own)), None)
        if swapped is None:
            raise ConfigurationError(
                f"task {task}: the image-shuffled control of item {items[index].id} needs another item with {len(own)} "
                "other image(s): evaluate more items, or leave out the controls (--no-controls)"
            )
        images[index] = swapped
    return images


class DemonstrationPool:
    """The demonstrations of a task.

    Args:
        task: name of the task, for messages and seeds.
        demonstrations: the items to sample from.
        same_type: whether to sample from items of the query's question type only.
        balanced: whether the demonstrations of an item with choices show each choice equally often.
        similarity: compares items to take the most similar ones instead of random ones.
    """

    def __init__(
        self,
        task: str,
        demonstrations: Sequence[Item],
        same_type: bool = True,
        balanced: bool = True,
        similarity: Similarity | None = None,
    ) -> None:
        self.task = task
        self.same_type = same_type
        self.balanced = balanced
        self.similarity = similarity
        self._parts: dict[tuple[str, bool, str | None], _Part] = defaultdict(_Part)
        for item in demonstrations:
            for answer in (None, item.answer) if balanced else (None,):
                self._parts[self._key(item, answer)].add(item)

    def _key(self, item: Item, answer: str | None = None) -> tuple[str, bool, str | None]:
        """Name the part of the demonstrations for an item: of its type, with images if it has some, with this answer."""
        return (item.question_type if self.same_type else "", bool(item.images), answer)

    def draw(self, item: Item, shots: int, seed: int, draw: int = 0) -> tuple[Item, ...]:
        """Choose demonstrations, never the item itself nor one with an image of it.

        If the pool has demonstrations with each of the choices of the item, they are balanced: each choice occurs
        equally often (the first ones once more if the number does not divide). Random demonstrations are in random order; of
        similar ones, the most similar is the last, next to the query.

        Raises:
            ConfigurationError: there are not enough demonstrations.
        """
        if not shots:
            return ()
        rng = Random(f"{seed} demonstrations {self.task} {item.id} {item.question_type}" + (f" {draw}" if draw else ""))
        by_choice = {choice: self._key(item, choice) for choice in item.choices if self.balanced}
        if not by_choice or not all(key in self._parts for key in by_choice.values()):
            return self._choose(item, self._key(item), shots, rng)
        drawn: list[Item] = []
        for number, (choice, key) in enumerate(by_choice.items()):
            count = shots // len(by_choice) + (number < shots % len(by_choice))
            drawn += self._choose(item, key, count, rng, f" with the answer {choice!r}")
        if self.similarity:
            return self.similarity.most_similar(item, drawn, shots)
        rng.shuffle(drawn)
        return tuple(drawn)

    def _choose(
        self, item: Item, key: tuple[str, bool, str | None], count: int, rng: Random, which: str = ""
    ) -> tuple[Item, ...]:
        part = self._parts[key] if key in self._parts else _Part()
        excluded = part.excluded(item)
        available = len(part.items) - len(excluded)
        if available < count:
            of_type = f" of question type {item.question_type!r}" if self.same_type and item.question_type else ""
            raise ConfigurationError(
                f"task {self.task}: {count} demonstrations{of_type}{which} are needed, but its "
                f"demonstration file has {available}: lower shots or add demonstrations"
            )
        if self.similarity:
            others = [other for position, other in enumerate(part.items) if position not in set(excluded)]
            return self.similarity.most_similar(item, others, count)
        return tuple(part.items[_skipping(index, excluded)] for index in rng.sample(range(available), count))


class _Part:
    """Some demonstrations, with the positions of those that show an image, so that a draw does not look at all of them."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._positions: dict[Any, list[int]] = defaultdict(list)

    def add(self, item: Item) -> None:
        for subject in _subjects(item):
            self._positions[subject].append(len(self.items))
        self.items.append(item)

    def excluded(self, query: Item) -> list[int]:
        """Return the sorted positions of the items that a query must not be shown."""
        return sorted({position for subject in _subjects(query) for position in self._positions.get(subject, ())})


def _subjects(item: Item) -> Iterable[Any]:
    """Return what a query and a demonstration must not share: an image, or without images the question itself."""
    return dict.fromkeys(item.images) if item.images else [(item.id, item.question)]


def _skipping(index: int, excluded: Sequence[int]) -> int:
    """Return the position of the n-th item that is not excluded."""
    for position in excluded:
        index += position <= index
    return index
