"""Choice of items, of demonstrations, and of the images of the control.

All sampling is seeded by seed and item, so the same seed gives the same prompts whatever else is evaluated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from mm1.errors import ConfigurationError
from mm1.evals.items import Item
from mm1.evals.similarity import Similarity
from mm1.generation.prompt import Image


def choose_items(items: Sequence[Item], count: int, seed: int, task: str) -> list[Item]:
    """Choose ``count`` distinct items (all if there are fewer), in the order of the file."""
    distinct = list({_key(item): item for item in reversed(items)}.values())[::-1]
    if count >= len(distinct):
        return distinct
    kept = sorted(Random(f"{seed} items {task}").sample(range(len(distinct)), count))
    return [distinct[index] for index in kept]


def _key(item: Item) -> tuple[object, ...]:
    return (item.images, item.question, item.question_type, item.choices, item.extra)


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
                "other image(s): evaluate more items, or set controls to false"
            )
        images[index] = swapped
    return images


class DemonstrationPool:
    """The demonstrations of a task.

    Args:
        task: name of the task, for messages and seeds.
        demonstrations: the items to sample from.
        same_type: whether to sample from items of the query's question type only.
        similarity: compares items to take the most similar ones instead of random ones.
    """

    def __init__(
        self, task: str, demonstrations: Sequence[Item], same_type: bool = True, similarity: Similarity | None = None
    ) -> None:
        self.task = task
        self.same_type = same_type
        self.similarity = similarity
        self._by_type: dict[str, list[Item]] = defaultdict(list)
        for item in demonstrations:
            self._by_type[item.question_type if same_type else ""].append(item)

    def draw(self, item: Item, shots: int, seed: int, draw: int = 0) -> tuple[Item, ...]:
        """Choose demonstrations, never the item itself nor one with an image of it.

        If the item has choices and the pool's answers are among them, the demonstrations are balanced: each choice occurs
        equally often (the first ones once more if the number does not divide). Random demonstrations are in random order; of
        similar ones, the most similar is the last, next to the query.

        Raises:
            ConfigurationError: there are not enough demonstrations.
        """
        if not shots:
            return ()
        rng = Random(f"{seed} demonstrations {self.task} {item.id} {item.question_type}" + (f" {draw}" if draw else ""))
        pool = [other for other in self._by_type[item.question_type if self.same_type else ""] if _may_show(other, item)]
        if not item.choices or not {other.answer for other in pool} & set(item.choices):
            self._check(item, len(pool), shots)
            return self._choose(item, pool, shots, rng)
        drawn: list[Item] = []
        for number, choice in enumerate(item.choices):
            count = shots // len(item.choices) + (number < shots % len(item.choices))
            of_choice = [other for other in pool if other.answer == choice]
            self._check(item, len(of_choice), count, f" with the answer {choice!r}")
            drawn += self._choose(item, of_choice, count, rng)
        if self.similarity:
            return self.similarity.most_similar(item, drawn, shots)
        rng.shuffle(drawn)
        return tuple(drawn)

    def _choose(self, item: Item, pool: Sequence[Item], count: int, rng: Random) -> tuple[Item, ...]:
        return self.similarity.most_similar(item, pool, count) if self.similarity else tuple(rng.sample(pool, count))

    def _check(self, item: Item, available: int, needed: int, which: str = "") -> None:
        if available < needed:
            of_type = f" of question type {item.question_type!r}" if self.same_type else ""
            raise ConfigurationError(
                f"task {self.task}: {needed} demonstrations{of_type}{which} are needed, but its "
                f"demonstration file has {available}: lower shots or add demonstrations"
            )


def _may_show(other: Item, query: Item) -> bool:
    if other.images and query.images:
        return set(other.images).isdisjoint(query.images)
    return bool(other.images) == bool(query.images) and (other.id, other.question) != (query.id, query.question)
